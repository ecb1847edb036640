"""What every rule would have done with the rewards of a log.

Groups of a log differ in size, and a log can be long: groups of similar size are padded to the
largest of them and judged block by block. ``N`` completions, ``B`` groups of a block, ``G``
completions of a group, ``M`` channels, ``R`` rules.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from ..basics.residue import POSITIVE
from ..basics.threads import map_ahead
from .formulas import Groups
from .judge import failure_gaps, judge_groups
from .read import RewardLog
from .rules import LOGGED, Rule

BLOCK_VALUES = 2**18  # rewards that are looked at together
WHITEN_EPS = 1e-6  # AdvantageConfig.whiten_eps, added to the standard deviation
# What a replay keeps of each completion: of each channel, and one number.
OF_CHANNELS = ("scores", "weights", "sum_weights", "minima")
QUANTITIES = ("spread", "to_mean", "to_min", "effective")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """A log with the scores, weights and advantages that belong to it."""

    log: RewardLog
    rules: tuple[Rule, ...]
    pass_at: np.ndarray  # [M] float32
    where: np.ndarray  # [N, M] bool, scored
    met: np.ndarray  # [N, M] bool, scored and met
    batch: np.ndarray  # [N] int64, dense id of the step; all 0 where the log has none
    usable: np.ndarray  # [N] bool, in a group of two or more, with a scored channel
    scores: np.ndarray  # [N, M] float32
    weights: np.ndarray  # [N, M] float32, of the soft minimum
    sum_weights: np.ndarray  # [N, M] float32, of the sum: whose scale decides
    minima: np.ndarray  # [N, M] float32, share of the smallest score
    quantities: dict[str, np.ndarray]  # [N] float32: spread, to_mean, to_min, effective
    status: np.ndarray  # [num_groups, M] int8: 0 absent, 1 live, 2 dead-pass, 3 dead-fail
    advantages: dict[str, np.ndarray]  # [N] float32 by rule; NaN where it has none
    gaps: dict[str, np.ndarray]  # [num_groups, M] float32 by rule; NaN where undefined
    agreement: dict[str, np.ndarray]  # [M, M] float64: opposite, both, products, squares

    @property
    def scored_any(self) -> np.ndarray:
        """``[N]`` bool: at least one channel scored it."""
        return np.asarray(np.any(self.where, axis=-1))

    def reinforced(self, rule: str) -> np.ndarray:
        """``[N]`` bool: the rule's advantage is positive; NaN is not."""
        return self._reinforced[rule]

    @functools.cached_property
    def _reinforced(self) -> dict[str, np.ndarray]:
        return {
            name: np.where(np.isfinite(values), values, 0.0) > POSITIVE
            for name, values in self.advantages.items()
        }

    @functools.cached_property
    def group_prompt(self) -> np.ndarray:
        """``[num_groups]`` prompt of each group."""
        return _of_groups(self.log.prompt, self.log.group)

    @functools.cached_property
    def group_batch(self) -> np.ndarray:
        """``[num_groups]`` batch of each group."""
        return _of_groups(self.batch, self.log.group)

    # Completions of a group share prompt and step, so most tables begin with sums over groups.

    def in_groups(self, values: np.ndarray) -> np.ndarray:
        """Sums over the completions of each group.

        Args:
          values: ``[N]`` or ``[N, M]``, bool or float.

        Returns:
          ``[num_groups]`` or ``[num_groups, M]`` float64.
        """
        size, group = len(self.status), self.log.group
        if values.ndim == 1:
            return np.bincount(group, values, size)
        return np.stack([np.bincount(group, column, size) for column in values.T]).T

    @functools.cached_property
    def group_scored(self) -> np.ndarray:
        """``[num_groups, M]`` completions that a channel scored."""
        return self.in_groups(self.where)

    @functools.cached_property
    def group_met(self) -> np.ndarray:
        """``[num_groups, M]`` completions that meet a channel."""
        return self.in_groups(self.met)

    @functools.cached_property
    def group_quiet(self) -> dict[str, np.ndarray]:
        """``[num_groups, M]`` by rule: completions that fail a channel and are reinforced."""
        failed = self.where & ~self.met
        return {
            rule.name: self.in_groups(failed & self.reinforced(rule.name)[:, None])
            for rule in self.rules
        }


def replay(log: RewardLog, rules: Sequence[Rule], risk_coef: float) -> Replay:
    """Recomputes a log under every rule.

    Whitening, where a rule has it, is over the completions of a step, as in training; a log
    without steps is one batch.

    Args:
      log: rewards of N completions.
      rules: R rules; the logged one is copied from the log.
      risk_coef: k of the soft minimum whose weights are kept, 1/score.

    Returns:
      The replay.
    """
    num_groups = int(log.group.max()) + 1
    where = np.isfinite(log.rewards)
    pass_at = np.array([channel.pass_at for channel in log.channels], np.float32)
    batch = np.zeros(len(log.rewards), np.int64)
    if log.step is not None:
        batch = np.unique(log.step, return_inverse=True)[1].astype(np.int64)
    usable = where.any(-1) & (np.bincount(log.group, minlength=num_groups)[log.group] > 1)
    rows, status, agreement = _judge(log, pass_at, rules, risk_coef)
    advantages = {}
    for rule in rules:
        if f"rule {rule.name}" in rows:
            aggregate = rows.pop(f"rule {rule.name}")
            advantages[rule.name] = _whitened(aggregate, usable, batch, rule)
        elif rule.formula is not None:
            advantages[rule.name] = _by_batch(log, usable, batch, rule)
    if log.advantage is not None and any(rule.name == LOGGED for rule in rules):
        # A trainer's 0 for a group of one is no decision of its rule.
        advantages[LOGGED] = np.where(usable, log.advantage, np.nan).astype(np.float32)
    quantities = {name: rows.pop(name) for name in QUANTITIES}
    met = where & (log.rewards >= pass_at)
    return Replay(
        log=log,
        rules=tuple(rules),
        pass_at=pass_at,
        where=where,
        met=met,
        batch=batch,
        usable=usable,
        quantities=quantities,
        status=status,
        advantages=advantages,
        gaps=failure_gaps(advantages, met, where, log.group),
        agreement=agreement,
        **rows,
    )


def _judge(
    log: RewardLog, pass_at: np.ndarray, rules: Sequence[Rule], risk_coef: float
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Block by block: values of the rows, status of the groups, totals between channels."""
    num, num_channels = log.rewards.shape
    rows: dict[str, np.ndarray] = {
        # As the rewards: a channel's numbers lie together.
        name: np.zeros((num, num_channels), np.float32, order="F")
        for name in OF_CHANNELS
    }
    aggregates = {
        rule.name: functools.partial(_aggregate, rule=rule, weights=log.weights)
        for rule in rules
        if rule.formula is not None and rule.formula.aggregate is not None
    }
    names = (*QUANTITIES, *(f"rule {name}" for name in aggregates))
    rows |= {name: np.zeros(num, np.float32) for name in names}
    status = np.zeros((int(log.group.max()) + 1, num_channels), np.int8)
    agreement = {
        name: np.zeros((num_channels, num_channels)) for name in ("opposite", "both", "products")
    }

    def judge(block: tuple[np.ndarray, np.ndarray]) -> tuple:
        index, groups = block
        inside = index >= 0
        at = _as_slice(index[inside])
        if isinstance(at, slice) and inside.all():
            rewards = log.rewards[at].reshape(*index.shape, num_channels)
        else:
            rewards = np.where(inside[..., None], log.rewards[index], np.nan)
        judged = judge_groups(rewards, pass_at, aggregates, risk_coef, log.weights)
        return inside, at, groups, judged

    for inside, at, groups, block in map_ahead(judge, _blocks(log.group, num_channels)):
        for name, values in rows.items():
            values[at] = block[name][inside]
        status[groups] = block["status"]
        for name, total in agreement.items():
            total += block[name]
    return rows, status, agreement


def _as_slice(rows: np.ndarray) -> np.ndarray | slice:
    """Rows that lie one after the other as a slice, which is read and written faster."""
    first, last = int(rows[0]), int(rows[-1])
    consecutive = np.array_equal(rows, np.arange(first, last + 1))
    return slice(first, last + 1) if consecutive else rows


def _aggregate(groups: Groups, rule: Rule, weights: np.ndarray | None) -> np.ndarray:
    """``[B, G]`` before whitening."""
    assert rule.formula is not None and rule.formula.aggregate is not None
    risk_coef = 1.0 if rule.risk_coef is None else rule.risk_coef
    return rule.formula.aggregate(groups, risk_coef, weights)


def _by_batch(log: RewardLog, usable: np.ndarray, batch: np.ndarray, rule: Rule) -> np.ndarray:
    """``[N]`` advantages of a rule from elsewhere: one step at a time, as in training.

    Groups are padded to the largest of the log, and steps to the most groups, for a rule that is
    compiled for each shape; completions that training would not use are absent.
    """
    assert rule.formula is not None and rule.formula.advantages is not None
    advantages = np.full(len(batch), np.nan, np.float32)
    width = int(np.bincount(log.group).max())
    height = int(np.bincount(_of_groups(batch, log.group)).max())
    memory = None
    for number in range(int(batch.max()) + 1):  # in the order of the steps
        rows = np.flatnonzero((batch == number) & usable)
        if len(rows):
            group = np.unique(log.group[rows], return_inverse=True)[1]
            order = np.argsort(group, kind="stable")
            rows, group = rows[order], group[order]
            place = np.arange(len(rows)) - np.searchsorted(group, group)
            rewards = np.full((height, width, log.rewards.shape[1]), np.nan, np.float32)
            rewards[group, place] = log.rewards[rows]
            judged, memory = rule.formula.advantages(
                rewards, rule.settings, log.channels, log.weights, memory
            )
            advantages[rows] = judged[group, place]
    return advantages


def _blocks(group: np.ndarray, num_channels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers ``[B, G]`` of groups of similar size (-1: none), and the groups they are of."""
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    padded = 2 ** np.ceil(np.log2(np.maximum(sizes, 2))).astype(int)
    for width in np.unique(padded):
        members = np.flatnonzero(padded == width)
        height = max(BLOCK_VALUES // num_channels // width, 1)
        for first in range(0, len(members), height):
            groups = members[first : first + height]
            place = np.arange(sizes[groups].max())
            index = np.where(place < sizes[groups, None], starts[groups, None] + place, -1)
            yield np.where(index < 0, -1, order[index]), groups


def _whitened(values: np.ndarray, usable: np.ndarray, batch: np.ndarray, rule: Rule) -> np.ndarray:
    """Mean 0 and standard deviation 1 over the usable completions of each batch (float64)."""
    if not rule.whitened:
        return np.where(usable, values, np.nan).astype(np.float32)
    mean, std = whitening_statistics(values, usable, batch)
    whitened = (values - mean[batch]) / (std[batch] + WHITEN_EPS)
    return np.where(usable, whitened, np.nan).astype(np.float32)


def within_groups(values: np.ndarray, counted: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Deviations from the mean of the group.

    Args:
      values: ``[N]`` float.
      counted: ``[N]`` bool, which of them the means are taken over.
      group: ``[N]`` int, dense.

    Returns:
      ``[N]`` float64, 0 where not counted.

    >>> within_groups(np.array([1.0, 3.0, 9.0]), np.array([True, True, False]), np.zeros(3, int))
    array([-1.,  1.,  0.])
    """
    values = np.where(counted, values, 0.0).astype(np.float64)
    mean = np.bincount(group, values) / np.maximum(np.bincount(group, counted), 1)
    return np.where(counted, values - mean[group], 0.0)


def whitening_statistics(
    values: np.ndarray, usable: np.ndarray, batch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation (ddof 1) of each batch.

    Args:
      values: ``[N]`` aggregates.
      usable: ``[N]`` bool, completions that count.
      batch: ``[N]`` int, dense.

    Returns:
      ``[num_batches]`` float64 each.
    """
    size = int(batch.max()) + 1
    weight = usable.astype(float)
    count = np.bincount(batch, weight, size)
    mean = np.bincount(batch, np.where(usable, values, 0.0), size) / np.maximum(count, 1)
    squares = np.bincount(batch, weight * (np.where(usable, values, 0.0) - mean[batch]) ** 2, size)
    return mean, np.sqrt(squares / np.maximum(count - 1, 1))


def _of_groups(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    first = np.empty(int(group.max()) + 1, values.dtype)
    first[group] = values
    return first
