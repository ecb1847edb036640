"""Reading a log: from what the user names to a ``RewardLog``."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...basics.refusals import Refusal
from .absent_steps import absent_step_notes
from .channels import make_channels
from .directions import turn_channels
from .files import Found, find_parts
from .folders import step_in_path
from .formats import Layout, check_columns
from .groups import (
    Groups,
    constant_in_groups,
    duplicate_notes,
    group_by_key,
    group_by_size,
    group_notes,
)
from .log import Note, ReadOptions, RewardLog, listing, shown
from .own_run import declared_fields, metadata_of, run_of, weights_of
from .parts import NESTED, Kind, Part
from .plan import make_plan
from .slices import SLICED, name_slices, slice_groups
from .store import Store
from .streams import READ_ERRORS
from .tables import ARROW_ERRORS
from .texts import to_text

# Rows without a step are left out while they are fewer than this share; else all steps are.
MAX_BAD_STEPS = 0.1
Texts = list[tuple[str | None, str | None]]


def read_log(source: Any, options: ReadOptions | None = None) -> RewardLog:
    """Reads the rewards of a log of any trainer; texts stay where they are.

    Input that cannot be used is counted in the notes of the result, never dropped in silence.

    Args:
      source: A file (.parquet, .arrow, .feather, .jsonl, .ndjson, .json, .csv, .tsv; text also as
        .gz), a folder with such files of one kind at any depth, the folder of a run, or a table in
        memory: pyarrow, pandas, polars, a list of dictionaries, or anything with
        ``__arrow_c_stream__``.
      options: How to read its columns; None: as the format says.

    Returns:
      The log. Rows without a step are left out, with a note, where most rows have one.

    Raises:
      ValueError: if there is nothing to read, no reward, no group of two, or an option names a
        column or channel that does not exist.

    >>> log = read_log({"prompt": ["a", "a"], "format": [0, 1], "tone": [0.5, 0.1]})
    >>> [channel.name for channel in log.channels], log.group.tolist()
    (['format', 'tone'], [0, 0])
    """
    options = options or ReadOptions()
    found = find_parts(source, options.format)
    about = metadata_of(found.parts)
    plan = make_plan(found, options, about[-1] if about else {})
    store, lost = _read(found, plan.parts, plan.layout)
    check_columns(plan.layout, options, store.columns)
    rows, step_notes = _select_rows(store)
    groups, grouping_notes = _group(store, rows, options)
    names, rewards, reward_notes = _rewards(store, rows, groups)
    declared = declared_fields(about, options)
    rewards, options, direction_notes = turn_channels(names, rewards, options, declared)
    made = make_channels(names, rewards, options, declared)
    slices, slice_notes = _slices(store, rows, groups, plan.parts)
    method, risk_coef, run_notes = run_of(about)
    weights, weight_notes = weights_of(about, names, options)
    return RewardLog(
        name=found.name,
        format=plan.layout.format,
        channels=made.channels,
        rewards=rewards,
        group=groups.group,
        prompt=groups.prompt,
        step=rows.step,
        advantage=_advantage(store, rows),
        method=method,
        risk_coef=risk_coef,
        weights=weights,
        assumed_pass=made.assumed_pass,
        observed_range=made.observed_range,
        outcome=_outcome(store, rows),
        **(_completions(store, rows) | slices),
        notes=(
            *(*plan.notes, *lost, *run_notes, *weight_notes, *step_notes),
            *absent_step_notes(rows.step, source, plan.layout.format == "rvpo"),
            *(*reward_notes, *direction_notes, *made.notes, *grouping_notes, *slice_notes),
            *_duplicates(store, rows, groups, rewards),
            *_text_notes(store),
        ),
        read_texts=_text_reader(plan.parts, plan.layout, rows),
    )


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The rows that are used."""

    kept: np.ndarray | slice  # [N] int64 rows of the store, or all of them
    step: np.ndarray | None  # [N] int64
    part: np.ndarray  # [N] int64
    place: np.ndarray  # [N] int64, in the part
    ordinal: np.ndarray  # [N] int64, in the part


def _read(found: Found, parts: Sequence[Part], layout: Layout) -> tuple[Store, list[Note]]:
    """All numbers of all parts, and what was lost on the way."""
    store = Store(layout)
    wants = _make_wants(layout)
    for number, part in enumerate(parts):
        kinds = dict(part.fields())
        store.add_columns(kinds, number)
        step = step_in_path(layout.format, found.folder, part.name)
        for chunk in part.chunks(wants, found.tally):
            store.add(chunk, number, kinds, step)
    lost = found.tally.notes()
    if store.num_rows == 0:
        raise Refusal(
            f"the log {found.name} must have at least one row, got none.",
            " ".join(note.text for note in lost) or "Check that the trainer wrote it.",
        )
    return store, lost


def _make_wants(layout: Layout) -> Callable[[str, Kind], bool]:
    named = {*layout.roles().values(), *NESTED}

    def wants(name: str, kind: Kind) -> bool:
        sliceable = name.lower() in SLICED
        return name in named or sliceable or layout.channel(name, kind) is not None

    return wants


def _select_rows(store: Store) -> tuple[_Rows, list[Note]]:
    """The rows that are used, and their steps if enough of them have one."""
    part, place, ordinal = store.places()
    everything, notes = slice(None), []
    found = store.steps()
    if found is None:
        text = "The log has no column with the training step, so nothing is said about time."
        notes.append(Note(kind="no_step", count=store.num_rows, text=text))
        return _Rows(everything, None, part, place, ordinal), notes
    step, valid = found
    bad = int((~valid).sum())
    if bad >= MAX_BAD_STEPS * store.num_rows:
        text = f"{bad} of {store.num_rows} rows have no integer step, so steps are not used."
        notes.append(Note(kind="bad_step", count=bad, text=text))
        return _Rows(everything, None, part, place, ordinal), notes
    if bad:
        text = f"{bad} of {store.num_rows} rows have no integer step and are left out."
        notes.append(Note(kind="bad_step", count=bad, text=text))
    kept = np.flatnonzero(valid) if bad else everything
    return _Rows(kept, step[kept], part[kept], place[kept], ordinal[kept]), notes


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column that may be a reward channel."""

    name: str  # of the channel
    values: np.ndarray  # [N] float32, NaN where not scored
    words: bool  # its verdicts are words


def _rewards(store: Store, rows: _Rows, groups: Groups) -> tuple[list[str], np.ndarray, list[Note]]:
    """Names of the reward channels, at least one, ``[N, M]`` rewards, and notes."""
    _check_named(store)
    found = {
        name: store.candidates[name].column(store.num_rows)[rows.kept] for name in store.chosen()
    }
    found = {name: values for name, values in found.items() if np.isfinite(values).any()}
    names = store.channel_names(list(found))
    columns = [
        _Column(name, values, store.candidates[column].is_verdict())
        for name, (column, values) in zip(names, found.items(), strict=True)
    ]
    judging, notes = _without_labels(store, columns, groups)
    if not judging:
        raise Refusal(
            "the log must have a reward column with numbers, got the columns "
            f"{listing(store.columns)}.",
            "Name the columns of the rewards with --rewards.",
        )
    # A channel's numbers lie together: most questions are about one channel.
    rewards = np.stack([column.values for column in judging]).T
    notes = [*store.column_notes(list(found), names), *notes]
    return [column.name for column in judging], rewards, notes


def _check_named(store: Store) -> None:
    """Raises where the user named a column in which nothing can be read."""
    read = {
        name
        for column, candidate in store.candidates.items()
        if candidate.numbers
        for name in (column, candidate.channel)
    }
    unread = [name for name in store.layout.rewards if name not in read]
    if unread:
        raise Refusal(
            "--rewards must name columns of numbers, or of words such as pass and fail, got "
            f"{listing(unread)}, in which no row is one.",
            "Write the verdicts as numbers, or leave the column out.",
        )


def _without_labels(
    store: Store, columns: list[_Column], groups: Groups
) -> tuple[list[_Column], list[Note]]:
    """Leaves out words that never differ within a group: the prompt's answer, not a verdict."""
    if store.layout.rewards:
        return columns, []
    labels = [
        column.name
        for column in columns
        if column.words and column.name not in store.layout.named
        if np.nanmin(column.values) < np.nanmax(column.values)
        and constant_in_groups(column.values, groups.group)
    ]
    text = (
        f"{len(labels)} column(s) of words never differ among the completions of a prompt, and "
        f"were not used: {listing(labels)}. Name them with --rewards if they judge completions."
    )
    notes = [Note(kind="label", count=len(labels), text=text)] if labels else []
    return [column for column in columns if column.name not in labels], notes


def _group(store: Store, rows: _Rows, options: ReadOptions) -> tuple[Groups, list[Note]]:
    """The groups, by the options or by what the log has."""
    layout = store.layout
    prompt = store.key("prompt_key") or store.key("prompt")
    key = store.key("group") or prompt
    prompt = _take(prompt or (None if options.group_size else key), rows.kept)
    notes = []
    if options.group_size:
        groups = group_by_size(options.group_size, rows.step, rows.part, rows.ordinal, prompt)
        means = f"blocks of --group-size {options.group_size} rows"
    else:
        key = _take(key, rows.kept)
        if key is None or prompt is None:
            raise Refusal(
                "the log must say which completions belong to one prompt, got the columns "
                f"{listing(store.columns)}.",
                "Name the column of the prompt with --group, or give --group-size if the "
                "completions of a prompt follow each other.",
            )
        groups = group_by_key(key, rows.step, prompt)
        means = f"equal values of {shown(layout.group or layout.prompt)}"
        if store.key("group") is None or (layout.format == "columns" and not options.group):
            when = "at the same step" if rows.step is not None else "anywhere in the log"
            text = (
                f"A group is the rows with the same {shown(layout.group or layout.prompt)} {when}."
            )
            count = int(groups.group.max()) + 1
            notes.append(Note(kind="assumed_group", count=count, text=text))
    count = int(groups.group.max()) + 1
    if count >= len(groups.group):
        raise Refusal(
            f"a group must have two completions, got {count} group(s) of one row by {means}.",
            layout.trainer.alone,
        )
    return groups, notes + group_notes(groups, rows.step is not None)


def _take(
    key: tuple[np.ndarray, np.ndarray] | None, kept: np.ndarray | slice
) -> tuple[np.ndarray, np.ndarray] | None:
    return None if key is None else (key[0][kept], key[1][kept])


def _duplicates(store: Store, rows: _Rows, groups: Groups, rewards: np.ndarray) -> list[Note]:
    completion = _take(store.key("completion"), rows.kept)
    return duplicate_notes(groups, completion, rewards) if completion else []


def _advantage(store: Store, rows: _Rows) -> np.ndarray | None:
    advantage = store.advantages()[rows.kept]
    return advantage if np.isfinite(advantage).any() else None


def _outcome(store: Store, rows: _Rows) -> np.ndarray | None:
    """What the rewards stand for, where the user named it."""
    name = store.layout.outcome
    if name is None:
        return None
    values = store.outcomes()[rows.kept]
    if not np.isfinite(values).any():
        raise Refusal(
            f"--outcome must name a column of numbers, or of words such as pass and fail, got "
            f"{shown(name)}, in which no row is one.",
            "Write its values as numbers, or leave it out.",
        )
    return values


def _slices(
    store: Store, rows: _Rows, groups: Groups, parts: Sequence[Part]
) -> tuple[dict[str, Any], list[Note]]:
    """The slices that the user asked for."""
    column = store.layout.by
    if column is None:
        return {}, []
    slices, notes = slice_groups(column, _take(store.key("by"), rows.kept), groups.group)
    names = name_slices(column, slices, rows.part, rows.place, parts)
    return {"sliced_by": column, "slices": slices, "slice_names": names}, notes


def _completions(store: Store, rows: _Rows) -> dict[str, Any]:
    """Which completions are equal, and how long they are."""
    key = _take(store.key("completion"), rows.kept)
    if key is None:
        return {}
    codes, present = key
    ids = np.unique(codes, return_inverse=True)[1]
    code = np.where(present, ids, -1).astype(np.int64)
    return {"completion_code": code, "completion_length": store.lengths()[rows.kept]}


def _text_notes(store: Store) -> list[Note]:
    absent = [role for role in ("prompt", "completion") if store.key(role) is None]
    if not absent:
        return []
    text = f"The log has no {' and no '.join(absent)} texts, so cases are shown without them."
    return [Note(kind="no_text", count=store.num_rows, text=text)]


def _text_reader(
    parts: Sequence[Part], layout: Layout, rows: _Rows
) -> Callable[[Sequence[int]], Texts]:
    """The function that fetches texts of rows, reading each file at most once."""
    names = [name for name in (layout.prompt, layout.completion) if name is not None]

    def read_texts(wanted: Sequence[int]) -> Texts:
        index = np.asarray(wanted, np.int64)
        texts: dict[int, tuple[str | None, str | None]] = {}
        for number in np.unique(rows.part[index]).tolist():
            inside = np.unique(index[rows.part[index] == number])
            # A run that is still training may have replaced or deleted the file since.
            with contextlib.suppress(*READ_ERRORS, *ARROW_ERRORS, RecursionError):
                found = parts[number].pick(rows.place[inside].tolist(), names)
                for row, columns in zip(inside.tolist(), found, strict=False):
                    texts[row] = (
                        to_text(columns.get(layout.prompt)),
                        to_text(columns.get(layout.completion)),
                    )
        return [texts.get(row, (None, None)) for row in index.tolist()]

    return read_texts
