"""Arrow IPC files (.arrow, .feather), random access or stream, as parts of a log."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from .log import Tally
from .parts import CHUNK_ROWS, Chunk, Kind, Row
from .tables import batch_fields, pick_rows, top_columns, until_damage

MAGIC = b"ARROW1"


class ArrowPart:
    """An IPC file, read a batch at a time: what Feather, and save_to_disk of datasets, write.

    Args:
      path: The file.
      name: For messages.

    Raises:
      OSError, ValueError or pyarrow.ArrowException: if the file has no readable schema.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self.name = name
        with path.open("rb") as file:
            self._is_stream = file.read(len(MAGIC)) != MAGIC
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_stream(file) if self._is_stream else pa.ipc.open_file(file)
            self._schema = reader.schema

    def fields(self) -> Mapping[str, Kind]:
        """Columns and what their types promise."""
        return batch_fields(self._schema)

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows up to damage."""
        names = top_columns(self._schema, [n for n, k in self.fields().items() if wants(n, k)])
        yield from until_damage(self._batches(names), self.name, tally)

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows by number."""
        batches = self._batches(top_columns(self._schema, columns))
        yield from pick_rows(batches, np.asarray(places, np.int64))

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Batches of bounded size with the named columns; of two with one name the first."""
        indices = [self._schema.names.index(name) for name in names]
        options = pa.ipc.IpcReadOptions(included_fields=indices)
        with pa.memory_map(str(self._path)) as file:
            if self._is_stream:
                stream = pa.ipc.open_stream(file, options=options)
                batches = iter(stream)
            else:
                random = pa.ipc.open_file(file, options=options)
                batches = map(random.get_batch, range(random.num_record_batches))
            for batch in batches:
                for first in range(0, batch.num_rows, CHUNK_ROWS):
                    yield batch.slice(first, CHUNK_ROWS)
