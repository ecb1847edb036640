"""How a log is read: its format, what its rows become, and the roles of its columns."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from .averages import refuse_averages
from .expanded import ExpandedPart, chunk_rows, explode, holds_lists
from .files import Found
from .formats import Layout, check_columns, make_layout
from .log import Note, ReadOptions, Tally
from .long_tables import (
    COMPLETION_IDS,
    Long,
    LongPart,
    find_long,
    long_note,
)
from .parts import Part, Row
from .trainers import TRAINERS, detect

SAMPLE_ROWS = 20
MIN_ROWS = 1.5  # per completion of a long table; equal completions may coincide by chance


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is read, what each column of it is, and what was left out or made of it."""

    parts: tuple[Part, ...]
    layout: Layout
    notes: tuple[Note, ...] = ()


def make_plan(found: Found, options: ReadOptions, about: Mapping[str, Any]) -> Plan:
    """The format of a log, its parts as that format reads them, and the roles of its columns.

    Args:
      found: What there is to read.
      options: Of the user.
      about: What a run of ours says about itself.

    Returns:
      The plan; of logs of a run of ours with the channels that it declares.

    Raises:
      ValueError: if the user named a column that is not there, or the log holds averages.
    """
    parts, (columns, rows) = found.parts, _first_rows(found.parts)
    named = found.format if options.format == "auto" else options.format
    format = detect(columns) if named in (None, "columns") and options.format == "auto" else named
    format = format or "columns"
    trainer = TRAINERS[format]
    own = trainer.expand_trained if found.format == format else None
    expand = own or trainer.expand or (explode if holds_lists(rows) else None)
    if expand is not None:
        parts = tuple(ExpandedPart(part, expand) for part in parts)
        columns, rows = _first_rows(parts)
    layout = make_layout(format, columns, options, about)
    if all(part.fields() for part in parts):
        check_columns(layout, options, columns)  # at once, not after minutes of reading
    refuse_averages(columns, layout, options)
    long = _long(format, columns, rows, options)
    wide = _widened(parts, long, layout, columns, options) if long else None
    plan = wide or Plan(parts, layout)
    return dataclasses.replace(plan, notes=(*found.notes, *plan.notes))


def _first_rows(parts: Sequence[Part]) -> tuple[list[str], list[Row]]:
    """All columns that headers name, else those of the first rows; and some of these rows.

    Rows are read only where they can tell more than a header does.
    """
    columns = dict.fromkeys(name for part in parts for name in part.fields())
    kinds = {kind for part in parts for kind in part.fields().values()}
    if columns and "other" not in kinds:
        return list(columns), []
    for part in parts:
        chunk = next(iter(part.chunks(lambda name, kind: True, Tally())), None)
        if chunk is not None:
            return list(columns or chunk.names), list(islice(chunk_rows(chunk), SAMPLE_ROWS))
    return list(columns), []


def _long(
    format: str, columns: Sequence[str], rows: Sequence[Row], options: ReadOptions
) -> Long | None:
    """The columns of a long table, if the log is one."""
    if format == "lm_eval":  # one row per document and filter
        metrics = tuple(name for name in columns if name.startswith("metrics."))
        return Long("filter", metrics, "metrics.") if "filter" in columns and metrics else None
    long = find_long(columns) if format == "columns" else None
    return long if long and not {*long.values} & {*options.rewards} else None


def _widened(
    parts: Sequence[Part],
    long: Long,
    layout: Layout,
    columns: Sequence[str],
    options: ReadOptions,
) -> Plan | None:
    """The plan of a long table as a wide one; None where completions have one channel each.

    Where neither a text nor an id tells completions apart, nothing says which rows are of one.
    """
    roles = {name for name in layout.roles().values() if name in columns}
    roles -= {long.name, *long.values}
    ids = [name for name in columns if name.lower() in COMPLETION_IDS]
    if not (ids or layout.completion in roles or layout.format == "lm_eval"):
        return None
    wide = tuple(LongPart(part, long, sorted({*roles, *ids}), roles) for part in parts)
    rows, count = sum(part.num_rows for part in wide), sum(part.num_completions for part in wide)
    names = list(dict.fromkeys(name for part in wide for name in part.columns))
    if not all(part.columns for part in wide) or rows < MIN_ROWS * count:
        return None
    layout = make_layout(layout.format, [*roles, *names], options, {})
    return Plan(wide, layout, (long_note(wide, long),))
