"""A dry run of reward functions on sample texts, before anything is compiled; without JAX.

``N`` sample texts, ``M`` reward channels.
"""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.config import Channel, DataConfig
from rvpo_jax.data.sources import read_source
from rvpo_jax.data.tool_task import ToolTask
from rvpo_jax.rewards import (
    EMBEDDED_REWARDS,
    Example,
    RewardError,
    RewardFn,
    assumed_channels,
    channels_of,
    filled_by,
    load_reward,
    score,
)
from rvpo_jax.run.sample_texts import Sample, sample_texts, spread

NUM_PROMPTS = 4
MAX_ROWS = 1000  # of a file that are read to choose prompts from


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried:
    """What one reward function gave.

    Attributes:
      channel: its channel.
      values: ``[N]`` float32 in the unit of the channel, NaN where not scored.
      num_failed: texts on which it raised, where that is skipped.
      texts_per_s: speed.
    """

    channel: Channel
    values: npt.NDArray[np.float32]
    num_failed: int
    texts_per_s: float

    @property
    def scored(self) -> npt.NDArray[np.float32]:
        """The values that are there."""
        return self.values[~np.isnan(self.values)]

    @property
    def warnings(self) -> list[str]:
        """What may be wrong although nothing failed, as sentences."""
        name, num = printable(self.channel.name, keep=""), len(self.values)
        if self.num_failed:
            return [f"reward {name} raised on {self.num_failed} of {num} sample texts"]
        if not self.scored.size:
            return [f"reward {name} scored none of {num} sample texts: None, NaN, or never applies"]
        if self.scored.size > 1 and np.ptp(self.scored) == 0:
            return [
                f"reward {name} gave {self.scored[0]:g} to all {num} sample texts; a channel that "
                "never varies teaches nothing"
            ]
        return []


@dataclasses.dataclass(frozen=True, kw_only=True)
class DryRun:
    """What ``dry_run`` found.

    Attributes:
      samples: ``N`` texts.
      tried: ``M`` results, in the order of the functions.
    """

    samples: tuple[Sample, ...]
    tried: tuple[Tried, ...]

    @property
    def warnings(self) -> list[str]:
        """Sentences about functions that are constant, or were never scored."""
        return [sentence for tried in self.tried for sentence in tried.warnings]


def dry_run(
    reward_fns: Sequence[RewardFn],
    examples: Sequence[Example],
    *,
    embedded: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
) -> DryRun:
    """Scores sample texts for a few prompts, one function after the other.

    It takes as long as the functions take for about ten texts per example: choose two for a start
    within a second.

    Args:
      reward_fns: ``M`` functions.
      examples: Rows of the data.
      embedded: They are rows of the embedded task, whose generator has more texts for them.
      on_error: As in ``score``.

    Returns:
      The values and what is suspicious about them.

    Raises:
      Refusal: When a function takes something that is not there.
      RewardError: When a function fails, as it would in the run.

    >>> def length(completions, examples):
    ...     return [min(len(text), 100) / 100 for text in completions]
    >>> dry_run([length], [{"prompt": "Hi"}]).tried[0].values.max()
    np.float32(1.0)
    """
    samples = tuple(sample_texts(examples, embedded=embedded))
    return DryRun(samples=samples, tried=tuple(_try(fn, samples, on_error) for fn in reward_fns))


def check_rewards(data: DataConfig, console: Console) -> int:
    """The command ``rvpo check-rewards``: prints what the rewards give to sample texts.

    Args:
      data: The rows and the rewards of a run.
      console: Where to print.

    Returns:
      0 when no function fails, else 1.

    Raises:
      ValueError: On a file or a reward that cannot be loaded.
    """
    embedded = data.source == "embedded"
    reward_fns = [load_reward(name) for name in data.rewards or EMBEDDED_REWARDS]
    channels_of(reward_fns)  # refuses two of the same name
    examples = _examples(data)
    samples = sample_texts(examples, embedded=embedded)
    found: list[Tried | str] = []
    for fn in reward_fns:
        try:
            found += dry_run([fn], examples, embedded=embedded).tried
        except Refusal as error:
            found.append(str(error))
        except RewardError as error:
            found.append(f"{error}\n  It fails on these texts: {_failing(fn, samples)}.")
    tried = [result for result in found if isinstance(result, Tried)]
    errors = [result for result in found if isinstance(result, str)]
    title = (
        f"{len(reward_fns)} reward(s) on {len(samples)} sample texts for {len(examples)} prompts"
    )
    console.print(_values_table(reward_fns, found, title))
    if tried:
        console.print(_samples_table(tried, samples))
    warnings = [sentence for result in tried for sentence in result.warnings]
    for line in (*assumed_channels(reward_fns), *warnings, *errors):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 1 if errors else 0


def _try(fn: RewardFn, samples: Sequence[Sample], on_error: Literal["raise", "skip"]) -> Tried:
    texts, examples = [sample.text for sample in samples], [sample.example for sample in samples]
    start = time.perf_counter()
    scores = score([fn], texts, examples, on_error=on_error, threads=1)
    elapsed = time.perf_counter() - start
    return Tried(
        channel=filled_by(fn)[0],  # of several channels, the one that every row has
        values=np.where(scores.where[:, 0], scores.rewards[:, 0], np.float32(np.nan)),
        num_failed=int(scores.num_failed[0]),
        texts_per_s=len(samples) / max(elapsed, 1e-9),
    )


def _failing(fn: RewardFn, samples: Sequence[Sample]) -> str:
    """The kinds of text on which a function fails, or which it fails on together."""
    kinds = []
    for kind in dict.fromkeys(sample.kind for sample in samples):
        try:
            _try(fn, [sample for sample in samples if sample.kind == kind], "raise")
        except RewardError:
            kinds.append(kind)
    return ", ".join(kinds) or "all of them together, none alone"


def _examples(data: DataConfig) -> list[Example]:
    if data.source == "embedded":
        return spread(ToolTask("train", MAX_ROWS), NUM_PROMPTS)
    rows = list(itertools.islice(read_source(data.source, data.prompt_column), MAX_ROWS))
    if not rows:
        raise Refusal(f"{data.source} must have at least one row, got none.", "Add rows.")
    return spread(rows, NUM_PROMPTS)


def _values_table(fns: Sequence[RewardFn], found: Sequence[Tried | str], title: str) -> Table:
    table = _table(title, "reward")
    for column in ("range", "got", "mean", "pass at", "met", "scored", "texts/s"):
        table.add_column(column, justify="right")
    for fn, result in zip(fns, found, strict=True):
        channel = filled_by(fn)[0]
        declared = f"{channel.low:g} to {channel.high:g}"
        got = mean = met = num = speed = "-"
        if isinstance(result, str):
            got = "failed"
        else:
            values, speed = result.scored, f"{result.texts_per_s:,.0f}"
            num = f"{values.size}"
            if values.size:
                got, mean = f"{values.min():.3g} to {values.max():.3g}", f"{values.mean():.3g}"
                met = f"{np.mean(values >= np.float32(channel.pass_at)):.0%}"
        pass_at = f"{channel.pass_at:g}"
        table.add_row(_cell(channel.name), declared, got, mean, pass_at, met, num, speed)
    return table


def _samples_table(tried: Sequence[Tried], samples: Sequence[Sample]) -> Table:
    """Mean value of each kind of text in each channel."""
    table = _table("mean by kind of text", "text")
    for result in tried:
        table.add_column(_cell(result.channel.name), justify="right", overflow="fold")
    for kind in dict.fromkeys(sample.kind for sample in samples):
        where = np.array([sample.kind == kind for sample in samples])
        columns = [result.values[where] for result in tried]
        scored = [values[~np.isnan(values)] for values in columns]
        table.add_row(kind, *(f"{v.mean():.3g}" if v.size else "-" for v in scored))
    return table


def _table(title: str, first: str) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column(first, overflow="fold")
    return table


def _cell(name: str) -> Text:
    """A name as it is: rich would read [b] in it as markup."""
    return Text(printable(name, keep=""))
