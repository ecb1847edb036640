"""What the columns of each trainer mean, and which trainer wrote a log.

==========  ==========================================  ===================================
Format      Files                                       Group
==========  ==========================================  ===================================
rvpo        rollouts/*.parquet of a run of ours         group at a step
trl         completions/completions_00001.parquet ...   prompt at a step
verl        rollout_data_dir: 1.jsonl, 2.jsonl, ...     uid, else input at a step
tunix       trajectory_log*.csv                         prompt_id, else prompt at a step
nemo        train_data_step1.jsonl ...                  group size, else prompt at a step
columns     any other table                             named, else prompt at a step
==========  ==========================================  ===================================
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

from ...basics.refusals import Refusal
from ...basics.rollout_format import column_of
from .log import ReadOptions, listing, shown
from .parts import NESTED, Kind, Row, flatten

# Role -> names of its column, the preferred one first.
PROMPTS = ("prompt", "prompts", "question", "input", "query", "instruction")
COMPLETIONS = ("completion", "completions", "response", "responses", "output", "generation")
ADVANTAGES = ("advantage", "advantages")
STEPS = ("step", "global_step", "training_step", "train_step", "iteration")
ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "rvpo": {
        "step": ("step",),
        "group": ("group",),
        "prompt": ("prompt",),
        "completion": ("completion",),
        "advantage": ("advantage",),
        "prompt_key": ("prompt_id",),
    },
    "trl": {
        "step": ("step",),
        "prompt": ("prompt",),
        "completion": ("completion",),
        "advantage": ADVANTAGES,
    },
    "verl": {
        "step": ("step",),
        "group": ("uid",),
        "prompt": ("input",),
        "completion": ("output",),
        "advantage": ADVANTAGES,
    },
    "tunix": {
        "step": ("global_step",),
        "group": ("prompt_id",),
        "prompt": ("prompt", "prompts", "question"),
        "completion": ("completion", "completions"),
        "advantage": ("advantages", "advantage"),
    },
    "nemo": {
        "step": ("step",),
        "prompt": ("prompt",),
        "completion": ("completion",),
        "advantage": ("advantages",),
    },
    "columns": {
        "step": STEPS,
        "prompt": PROMPTS,
        "completion": COMPLETIONS,
        "advantage": ADVANTAGES,
    },
}
# Only where a log of no known trainer has no prompt text.
GROUPS = ("group", "group_id", "prompt_id", "problem_id", "question_id", "uid")

# A total is a channel only where there is no other.
TOTALS = {
    "tunix": ("reward", "rewards/sum", "rewards/mean"),
    "nemo": ("rewards", "reward"),
    "verl": ("score",),
}
ANY_TOTALS = ("reward", "rewards", "score", "total", "total_reward", "reward_total", "total_score")
SUMMARIES = frozenset({"rewards/sum", "rewards/mean", "rewards/min", "rewards/max"})
VERL_OWN = frozenset({"input", "output", "gts", "step", "request_id", "uid"})
NEMO_COMPONENT = re.compile(r"reward/(.+)|(reward\d+)", re.DOTALL)
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
        names = ("step", "group", "prompt", "completion", "advantage", "prompt_key")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def is_definite(self, column: str) -> bool:
        """Whether a column is a reward by its name, not merely because it holds numbers."""
        return bool(self.rewards or self.declared) or self.format in ("tunix", "nemo")

    def totals(self) -> tuple[str, ...]:
        """Columns that sum up others, the preferred one first."""
        if self.rewards or self.declared:
            return ()
        return TOTALS.get(self.format, ANY_TOTALS)

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
        if self.format == "tunix":
            return name if column.startswith("rewards/") and column not in SUMMARIES else None
        if self.format == "nemo":
            return name if NEMO_COMPONENT.fullmatch(column) else None
        if name in self.named:
            return name
        lower = column.lower()
        is_other = (
            kind == "other"
            or INDEX.fullmatch(lower)
            or (self.format == "verl" and column in VERL_OWN)
            or lower in ADVANTAGES
            or (self.format != "trl" and MEASURE.fullmatch(lower))
        )
        return None if is_other else name

    def is_measure(self, column: str, largest: float) -> bool:
        """Whether a column of TRL, where reward functions name theirs, is a measure nevertheless.

        Args:
          column: its name.
          largest: of its values.

        Returns:
          True for a name such as response_length with values that no reward called so would have.
        """
        unnamed = not self.rewards and self._channel_name(column) not in self.named
        measure = MEASURE.fullmatch(column.lower()) is not None
        return self.format == "trl" and unnamed and measure and largest > MEASURE_FROM

    def _channel_name(self, column: str) -> str:
        if self.format in ("tunix", "nemo"):
            for prefix in ("rewards/", "reward/"):
                if column.startswith(prefix):
                    return column.removeprefix(prefix)
        for prefix in NESTED:
            if column.startswith(f"{prefix}."):
                return column.removeprefix(f"{prefix}.")
        return column


def detect(columns: Collection[str]) -> str:
    """The format of a log whose file names give nothing away.

    Args:
      columns: Of its first rows.

    Returns:
      A format; columns where no trainer fits.

    >>> detect(["input", "output", "score", "step", "acc"])
    'verl'
    """
    names = set(columns)
    if {"input", "output", "score", "step"} <= names:
        return "verl"
    if any(name.startswith("rewards/") for name in names):
        return "tunix"
    if {"content", "rewards"} <= names:
        return "nemo"
    return "columns"


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
    }
    roles = {role: _first(columns, names) for role, names in ROLES[format].items()}
    roles |= {role: name for role, name in given.items() if name is not None}
    if format == "columns" and not (roles["prompt"] or roles.get("group")):
        roles["group"] = _first(columns, GROUPS)
    if options.group_size:
        roles["group"] = None
    if options.prompt is not None:
        roles.pop("prompt_key", None)
    declared = {} if options.rewards else _declared(about, columns)
    said = (options.pass_at, options.pass_below, options.lower_is_better, options.constraints)
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
    for option in ("step", "group", "prompt", "completion", "advantage"):
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


def prepare_nemo(row: Row) -> Row:
    """A row of NeMo RL with a prompt and a completion.

    ``content`` is the texts or messages of the sample, the first of which is the prompt; a single
    flat text has no prompt to be told from. It is in a list of one, as every value may be, because
    batches of one are written.

    Args:
      row: As parsed.

    Returns:
      A new row; ``content`` is replaced.

    >>> prepare_nemo({"content": [["2+2=", "4"]], "rewards": [1.0], "idx": [7]})
    {'rewards': [1.0], 'idx': [7], 'prompt': '2+2=', 'completion': '4'}
    """
    plain = {name: value for name, value in flatten(row).items() if name != "content"}
    content = _unwrap(row.get("content"))
    if isinstance(content, list) and content:
        rest = content[1:]
        return plain | {"prompt": content[0], "completion": _unwrap(rest)}
    return plain if content is None else plain | {"completion": content}


def _unwrap(value: Any) -> Any:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value
