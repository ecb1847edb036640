"""Parquet files and Arrow tables as parts of a log."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from ...basics.checksums import CHECKSUM_KEY, header_checksum
from ...basics.rollout_format import METADATA_KEY
from ...basics.threads import read_ahead
from .log import Tally, shown
from .parts import CHUNK_ROWS, NESTED, Chunk, Kind, Row
from .values import is_number_type, is_text_type, to_list

ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError)


class ParquetPart:
    """A Parquet file, read a chunk at a time and only the columns that are wanted.

    Args:
      path: The file.
      name: For messages.

    Raises:
      OSError, ValueError or pyarrow.ArrowException: if the file has no readable footer.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self.name = name
        with self._open() as file:
            self._schema = file.schema_arrow
            self._group_rows = [
                file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)
            ]
            _check_header(self._schema, sum(self._group_rows))

    def metadata(self) -> dict[str, Any]:
        """What a run of ours says about itself; empty for other files."""
        return _metadata(self._schema)

    def is_own(self) -> bool:
        """Whether a run of ours wrote the file."""
        return METADATA_KEY in (self._schema.metadata or {})

    def fields(self) -> Mapping[str, Kind]:
        """Columns and what their types promise."""
        return batch_fields(self._schema)

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows up to damage."""
        columns = top_columns(self._schema, [n for n, k in self.fields().items() if wants(n, k)])
        yield from until_damage(read_ahead(self._batches(columns)), self.name, tally)

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        num_rows = 0
        with self._open() as file:
            for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=columns):
                num_rows += batch.num_rows
                yield batch
        if num_rows != sum(self._group_rows):  # a damaged page may end the reading without a word
            raise ValueError(f"the file has {sum(self._group_rows)} rows")

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows by number; reads only the row groups that hold them."""
        ends = np.cumsum(self._group_rows)
        wanted = np.asarray(places, np.int64)
        home = np.searchsorted(ends, wanted, side="right")
        names = top_columns(self._schema, columns)
        with self._open() as file:
            for group in np.unique(home).tolist():
                start = int(ends[group]) - self._group_rows[group]
                batches = file.iter_batches(
                    batch_size=CHUNK_ROWS, row_groups=[group], columns=names
                )
                yield from pick_rows(batches, wanted[home == group] - start)

    def _open(self) -> pyarrow.parquet.ParquetFile:
        # Buffered: else each column of a row group is held in memory whole.
        return pyarrow.parquet.ParquetFile(
            self._path,
            buffer_size=1 << 20,
            pre_buffer=False,
            page_checksum_verification=True,  # where the writer left checksums
        )


class TablePart:
    """A table in memory."""

    def __init__(self, table: pa.Table) -> None:
        self.name = "the table"
        self._table = table

    def fields(self) -> Mapping[str, Kind]:
        """Columns and what their types promise."""
        return batch_fields(self._table.schema)

    def metadata(self) -> dict[str, Any]:
        """What a run of ours says about itself; empty for other tables."""
        return _metadata(self._table.schema)

    def is_own(self) -> bool:
        """Whether the table was read from a run of ours."""
        return METADATA_KEY in (self._table.schema.metadata or {})

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows."""
        del wants, tally  # everything is in memory, and nothing of it is damaged
        first = 0
        for batch in self._table.to_batches(max_chunksize=CHUNK_ROWS):
            yield batch_to_chunk(batch, first)
            first += batch.num_rows

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows by number."""
        names = top_columns(self._table.schema, columns)
        table = self._table.select(list(map(self._table.schema.names.index, names)))
        yield from pick_rows(iter(table.to_batches()), np.asarray(places, np.int64))


def _check_header(schema: pa.Schema, num_rows: int) -> None:
    """Raises where a run of ours left a checksum of the header that no longer fits."""
    known = schema.metadata or {}
    if CHECKSUM_KEY in known:
        described = known.get(METADATA_KEY, b"")
        if known[CHECKSUM_KEY] != header_checksum(described, schema, num_rows):
            raise ValueError("its header differs from what was written")


def _metadata(schema: pa.Schema) -> dict[str, Any]:
    try:
        found = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def until_damage(batches: Iterator[pa.RecordBatch], name: str, tally: Tally) -> Iterator[Chunk]:
    """The rows of a file up to where it can be read.

    Args:
      batches: of the file; reading them may fail.
      name: of the file.
      tally: counts the damage.

    Yields:
      A chunk per batch.
    """
    first = 0
    try:
        for batch in batches:
            yield batch_to_chunk(batch, first)
            first += batch.num_rows
    except ARROW_ERRORS as error:
        problem = shown(str(error).split("\n")[0].rstrip("."))
        tally.add("cut_file", f"{shown(name)} after row {first}: {problem}")


def batch_fields(schema: pa.Schema) -> dict[str, Kind]:
    """Columns and what their types promise, nested rewards flattened.

    Args:
      schema: Of a table.

    Returns:
      Name to kind.
    """
    fields: dict[str, Kind] = {}
    for field in schema:
        if field.name in NESTED and pa.types.is_struct(field.type):
            for child in field.type:
                fields.setdefault(f"{field.name}.{child.name}", _kind(child.type))
        elif field.name in NESTED and pa.types.is_map(field.type):
            fields.setdefault(field.name, "any")
        else:
            fields.setdefault(field.name, _kind(field.type))
    return fields


def _kind(kind: pa.DataType) -> Kind:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return "number" if is_number_type(kind) else "text" if is_text_type(kind) else "other"


def top_columns(schema: pa.Schema, names: Sequence[str]) -> list[str]:
    """The columns of a file that hold the named ones, nested ones included.

    Args:
      schema: Of the file.
      names: See ``batch_fields``.

    Returns:
      Their names, in the order of the file.
    """
    top = set(names) | {name.split(".", 1)[0] for name in names if name.startswith(NESTED)}
    return [name for name in dict.fromkeys(schema.names) if name in top]


def batch_to_chunk(batch: pa.RecordBatch, first: int) -> Chunk:
    """A batch as a chunk.

    Args:
      batch: Some rows.
      first: Number of its first row.

    Returns:
      The chunk; its places are the numbers of the rows.
    """
    columns = _columns(batch)
    rows = np.arange(first, first + batch.num_rows)
    return Chunk(
        names=list(columns),
        num_rows=batch.num_rows,
        column=lambda name: columns.get(name, pa.nulls(batch.num_rows)),
        places=rows,
        ordinals=rows,
        typed=True,
    )


def _columns(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Columns by name, nested rewards flattened; of two with one name the first."""
    columns: dict[str, pa.Array] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in NESTED and pa.types.is_map(column.type):
            column = _map_to_struct(column)
        if name in NESTED and pa.types.is_struct(column.type):
            for child, values in zip(column.type, column.flatten(), strict=True):
                columns.setdefault(f"{name}.{child.name}", values)
        else:
            columns.setdefault(name, column)
    return columns


def _map_to_struct(column: pa.Array) -> pa.Array:
    """A map of names to rewards as a struct of all its names."""
    rows = to_list(column)
    names = dict.fromkeys(str(name) for row in rows if row for name in row)
    if not names:
        return pa.nulls(len(column))
    full = [dict.fromkeys(names) | {str(n): v for n, v in (row or {}).items()} for row in rows]
    return pa.array(full)


def pick_rows(batches: Iterator[pa.RecordBatch], places: np.ndarray) -> Iterator[Row]:
    """Rows of a table.

    Args:
      batches: All of it, in order.
      places: Ascending, counted from the first batch.

    Yields:
      The rows, nested rewards flattened.
    """
    first = 0
    for batch in batches:
        inside = places[(places >= first) & (places < first + batch.num_rows)] - first
        first += batch.num_rows
        if len(inside):
            columns = _columns(batch)
            for row in inside.tolist():  # not take(), which does not know every type
                yield {name: to_list(column.slice(row, 1))[0] for name, column in columns.items()}
