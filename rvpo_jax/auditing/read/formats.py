"""What the columns of a log mean: which one has which role, and which ones are reward channels."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

from ...basics.refusals import Refusal
from ...basics.rollout_format import column_of
from .log import ReadOptions, listing, shown
from .parts import NESTED, Kind
from .trainers import ADVANTAGES, TRAINERS, Trainer

# Only where a log of no known trainer has no prompt text.
GROUPS = ("group", "group_id", "prompt_id", "problem_id", "question_id", "uid")

# Numbers that name a row and do not judge it, whoever wrote the log.
INDEX = re.compile(
    r"(.*_)?(id|ids|idx|index|seed|step|timestamp)|__index_level_\d+__|unnamed: \d+|"
    r"epoch|iteration|iter|rank|group|",
    re.DOTALL,
)
# Numbers that measure a completion and do not judge it: as a reward, one of them swamps the sum.
MEASURE = re.compile(
    r"(.*[_./-])?(len|length|tokens|time|times|seconds|secs|sec|ms|millis|latency|duration|runtime|"
    r"logprob|logprobs|logp|kl|entropy|loss|perplexity|ppl|turns)([_./-](mean|min|max|sum|total))?|"
    r".*(length|lengths|tokens)|(char|word|token|turn|step|tool|call)_?counts?|num_.*|n_.*|"
    r"temperature|top_p|top_k|lr|learning_rate|created|truncated",
    re.DOTALL,
)
MEASURE_FROM = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Which column has which role; a column of a role is never a reward unless it is named."""

    format: str
    step: str | None = None
    group: str | None = None
    """Names the prompt within a step."""
    prompt: str | None = None
    completion: str | None = None
    advantage: str | None = None
    outcome: str | None = None
    """What the rewards stand for, in truth: no channel."""
    by: str | None = None
    """Its values are slices."""
    prompt_key: str | None = None
    """The same for a prompt at every step; None: its text."""
    rewards: tuple[str, ...] = ()
    """Columns or channels that the user named; (): by format."""
    named: frozenset[str] = frozenset()
    """Channels of which the user said something, and which are therefore some."""
    declared: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Column to channel, as a run of ours declares them; {}: by format."""

    def roles(self) -> dict[str, str]:
        """Option to column, for the columns that are there."""
        names = (
            "step",
            "group",
            "prompt",
            "completion",
            "advantage",
            "outcome",
            "by",
            "prompt_key",
        )
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def trainer(self) -> Trainer:
        """What is known of the logs of its format."""
        return TRAINERS[self.format]

    def is_definite(self, column: str) -> bool:
        """Whether a column is a reward by its name, not merely because it holds numbers."""
        return bool(self.rewards or self.declared) or self.trainer.components is not None

    def totals(self) -> tuple[str, ...]:
        """Columns that sum up others, the preferred one first."""
        return () if self.rewards or self.declared else self.trainer.totals

    def channel(self, column: str, kind: Kind) -> str | None:
        """The channel of a column that may hold a reward; None for other columns."""
        name = self._channel_name(column)
        if self.rewards:
            return name if column in self.rewards or name in self.rewards else None
        if self.declared:
            return self.declared.get(column)
        if column in self.roles().values():
            return None
        if column in self.totals():
            return name
        if self.trainer.components is not None:
            return name if self.trainer.components.fullmatch(column) else None
        if name in self.named:
            return name
        lower = column.lower()
        is_other = (
            kind == "other"
            or INDEX.fullmatch(lower)
            or (self.trainer.own is not None and self.trainer.own.fullmatch(column))
            or lower in ADVANTAGES
            or (not self.trainer.named_by_users and MEASURE.fullmatch(lower))
        )
        return None if is_other else name

    def is_measure(self, column: str, largest: float) -> bool:
        """Whether a column is a measure although users name the channels, as those of TRL do.

        Args:
          column: its name.
          largest: of its values.

        Returns:
          True for a name such as response_length with values that no reward called so would have.
        """
        unnamed = not self.rewards and self._channel_name(column) not in self.named
        measure = MEASURE.fullmatch(column.lower()) is not None
        return self.trainer.named_by_users and unnamed and measure and largest > MEASURE_FROM

    def _channel_name(self, column: str) -> str:
        prefixes = (*self.trainer.prefixes, *(f"{name}." for name in NESTED))
        prefix = next((prefix for prefix in prefixes if column.startswith(prefix)), "")
        return column.removeprefix(prefix)


def make_layout(
    format: str, columns: Collection[str], options: ReadOptions, about: Mapping[str, Any]
) -> Layout:
    """Roles of the columns: what the user named, else what the format says.

    Args:
      format: Of the log, never auto.
      columns: That are known so far.
      options: Of the user.
      about: What a run of ours says about itself.

    Returns:
      The layout. Columns that the user named need not exist: see ``check_columns``.
    """
    given = {
        "step": options.step,
        "group": options.group,
        "prompt": options.prompt,
        "completion": options.completion,
        "advantage": options.advantage,
        "outcome": options.outcome,
        "by": options.by,
    }
    roles = {role: _first(columns, names) for role, names in TRAINERS[format].roles.items()}
    roles |= {role: name for role, name in given.items() if name is not None}
    if format == "columns" and not (roles["prompt"] or roles.get("group")):
        roles["group"] = _first(columns, GROUPS)
    if options.group_size:
        roles["group"] = None
    if options.prompt is not None:
        roles.pop("prompt_key", None)
    declared = {} if options.rewards else _declared(about, columns)
    said = (
        *(options.pass_at, options.pass_below, options.lower_is_better),
        *(options.ranges, options.constraints, options.targets, options.weights),
    )
    named = frozenset(name for names in said for name in names)
    return Layout(format=format, rewards=options.rewards, named=named, declared=declared, **roles)


def _first(columns: Collection[str], names: tuple[str, ...]) -> str | None:
    """The first of the names that is a column, in any case."""
    by_lower = {column.lower(): column for column in reversed(list(columns))}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _declared(about: Mapping[str, Any], columns: Collection[str]) -> dict[str, str]:
    """Column to channel of a run of ours."""
    channels = about.get("channels")
    fields = channels if isinstance(channels, list) else []
    names = [channel.get("name") for channel in fields if isinstance(channel, dict)]
    pairs = {column_of(name): name for name in names if isinstance(name, str)}
    return {column: name for column, name in pairs.items() if column in columns}


def check_columns(layout: Layout, options: ReadOptions, columns: Collection[str]) -> None:
    """Raises where the user named a column that the log does not have.

    Args:
      layout: Of the log.
      options: Of the user.
      columns: All columns of the log.

    Raises:
      ValueError: naming the option and the columns that exist.
    """
    channels = {layout.channel(column, "any") for column in columns}
    for option in ("step", "group", "prompt", "completion", "advantage", "outcome", "by"):
        name = getattr(options, option)
        if name is not None and name not in columns:
            raise Refusal(
                f"--{option} must name a column of the log, got {shown(name)}.",
                f"Its columns are: {listing(columns)}.",
            )
    missing = [name for name in options.rewards if name not in columns and name not in channels]
    if missing:
        raise Refusal(
            f"--rewards must name columns of the log, got {listing(missing)}.",
            f"Its columns are: {listing(columns)}.",
        )
