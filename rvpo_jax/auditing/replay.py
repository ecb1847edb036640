"""What every rule would have done with the rewards of a log.

Groups of a log differ in size, and a log can be long: groups are padded to the next power of two
and go through one compiled function block by block. ``N`` completions, ``B`` groups of a block,
``G`` completions of a group, ``M`` channels, ``R`` rules.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.auditing.read import RewardLog
from rvpo_jax.auditing.rules import LOGGED, Rule
from rvpo_jax.config import AdvantageConfig
from rvpo_jax.method import diagnostics
from rvpo_jax.method.advantages import compute_advantages

BLOCK_ROWS = 32768
BLOCK_PAIRS = 2**23  # completions times pairs of channels that are looked at together
WHITEN_EPS = 1e-6  # AdvantageConfig.whiten_eps, added to the standard deviation


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
        advantage = self.advantages[rule]
        return np.where(np.isfinite(advantage), advantage, 0.0) > diagnostics.POSITIVE

    @property
    def group_prompt(self) -> np.ndarray:
        """``[num_groups]`` prompt of each group."""
        return _of_groups(self.log.prompt, self.log.group)

    @property
    def group_batch(self) -> np.ndarray:
        """``[num_groups]`` batch of each group."""
        return _of_groups(self.batch, self.log.group)


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
    num, num_channels = log.rewards.shape
    num_groups = int(log.group.max()) + 1
    where = np.isfinite(log.rewards)
    pass_at = np.array([channel.pass_at for channel in log.channels], np.float32)
    batch = np.zeros(num, np.int64)
    if log.step is not None:
        batch = np.unique(log.step, return_inverse=True)[1].astype(np.int64)
    formulas = tuple(rule for rule in rules if rule.method is not None)

    rows: dict[str, np.ndarray] = {
        name: np.zeros((num, num_channels), np.float32)
        for name in ("scores", "weights", "sum_weights", "minima")
    }
    rows |= {name: np.zeros(num, np.float32) for name in ("spread", "to_mean", "to_min")}
    rows |= {"effective": np.zeros(num, np.float32)}
    rows |= {f"rule {rule.name}": np.zeros(num, np.float32) for rule in formulas}
    status = np.zeros((num_groups, num_channels), np.int8)
    agreement: dict[str, Any] = {
        name: np.zeros((num_channels, num_channels)) for name in ("opposite", "both", "products")
    }
    for index, groups in _blocks(log.group, num_channels):
        inside = index >= 0
        block = jax.device_get(
            _replay_block(
                np.where(inside[..., None], log.rewards[index], np.nan),
                pass_at,
                formulas,
                risk_coef,
            )
        )
        for name, values in rows.items():
            values[index[inside]] = block[name][inside]
        status[groups] = block["status"][: len(groups)]
        for name, total in agreement.items():
            total += block[name]

    usable = where.any(-1) & (np.bincount(log.group, minlength=num_groups)[log.group] > 1)
    advantages = {
        rule.name: _whitened(rows.pop(f"rule {rule.name}"), usable, batch, rule)
        for rule in formulas
    }
    if log.advantage is not None and any(rule.name == LOGGED for rule in rules):
        # A trainer's 0 for a group of one is no decision of its rule.
        advantages[LOGGED] = np.where(usable, log.advantage, np.nan).astype(np.float32)
    replayed = Replay(
        log=log,
        rules=tuple(rules),
        pass_at=pass_at,
        where=where,
        met=where & (log.rewards >= pass_at),
        batch=batch,
        usable=usable,
        scores=rows["scores"],
        weights=rows["weights"],
        sum_weights=rows["sum_weights"],
        minima=rows["minima"],
        quantities={name: rows[name] for name in ("spread", "to_mean", "to_min", "effective")},
        status=status,
        advantages=advantages,
        gaps={},
        agreement=agreement,
    )
    return dataclasses.replace(replayed, gaps=_gaps(replayed, num_groups))


def _blocks(group: np.ndarray, num_channels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers ``[B, G]`` of groups of similar size (-1: none), and the groups they are of."""
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    padded = 2 ** np.ceil(np.log2(np.maximum(sizes, 2))).astype(int)
    for width in np.unique(padded):
        members = np.flatnonzero(padded == width)
        # One shape per width: the last block is filled up with empty groups.
        rows = min(BLOCK_ROWS, BLOCK_PAIRS // num_channels**2)
        height = min(max(rows // width, 1), 2 ** int(np.ceil(np.log2(len(members)))))
        for first in range(0, len(members), height):
            groups = members[first : first + height]
            place = np.arange(width)
            index = np.full((height, width), -1)
            inside = place < sizes[groups, None]
            index[: len(groups)][inside] = order[(starts[groups, None] + place)[inside]]
            yield index, groups


@functools.partial(jax.jit, static_argnums=(2,))
def _replay_block(
    rewards: jax.Array, pass_at: jax.Array, formulas: tuple[Rule, ...], risk_coef: float
) -> dict[str, jax.Array]:
    """Everything that needs whole groups; ``[B, G]`` or ``[B, G, M]``, and sums over the block."""
    where = ~jnp.isnan(rewards)
    soft = compute_advantages(
        rewards, config=_config("rvpo"), risk_coef=jnp.asarray(risk_coef, jnp.float32)
    )
    rewards = jnp.where(where, rewards, 0.0)
    live, dead_pass, dead_fail = diagnostics.group_status(rewards, where, pass_at)
    spread, to_mean, to_min = diagnostics.between_mean_and_minimum(
        soft.scores, soft.aggregate, where
    )
    opposite, both = diagnostics.conflict(soft.scores, live, where)
    counted = jnp.where(where & live[:, None, :], soft.scores, 0.0)
    result = {
        "scores": soft.scores,
        "weights": soft.weights,
        "sum_weights": compute_advantages(rewards, where, _config("grpo")).weights,
        "minima": diagnostics.bottleneck(soft.scores, where),
        "spread": spread,
        "to_mean": to_mean,
        "to_min": to_min,
        "effective": diagnostics.effective_channels(soft.weights),
        "status": live * 1 + dead_pass * 2 + dead_fail * 3,
        "opposite": jnp.sum(opposite, axis=(0, 1)),
        "both": jnp.sum(both, axis=(0, 1)),
        "products": jnp.einsum("bgi,bgj->ij", counted, counted),
    }
    for rule in formulas:
        result[f"rule {rule.name}"] = compute_advantages(rewards, where, rule.config()).aggregate
    return result


def _config(method: str) -> AdvantageConfig:
    return Rule(name=method, label=method, method=method).config()


def _whitened(values: np.ndarray, usable: np.ndarray, batch: np.ndarray, rule: Rule) -> np.ndarray:
    """Mean 0 and standard deviation 1 over the usable completions of each batch (float64)."""
    if not rule.whitened:
        return np.where(usable, values, np.nan).astype(np.float32)
    mean, std = whitening_statistics(values, usable, batch)
    whitened = (values - mean[batch]) / (std[batch] + WHITEN_EPS)
    return np.where(usable, whitened, np.nan).astype(np.float32)


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


@jax.jit
def _gap_block(
    advantages: jax.Array, rewards: jax.Array, where: jax.Array, pass_at: jax.Array
) -> jax.Array:
    """``[R, B, M]`` failure gaps of ``[R, B, G]`` advantages; NaN where undefined."""
    gap, defined = jax.vmap(diagnostics.failure_gap, in_axes=(0, None, None, None))(
        advantages, rewards, where, pass_at
    )
    return jnp.where(defined, gap, jnp.nan)


def _gaps(played: Replay, num_groups: int) -> dict[str, np.ndarray]:
    """The failure gap of every rule in every group."""
    names = tuple(played.advantages)
    stacked = np.stack([played.advantages[name] for name in names])
    gaps = np.full((len(names), num_groups, len(played.pass_at)), np.nan, np.float32)
    for index, groups in _blocks(played.log.group, len(played.pass_at)):
        inside = index >= 0
        advantages = np.where(inside, stacked[:, index], np.nan)
        # A rule that is silent about some completions, as a log may be, is judged on the others.
        known = np.all(np.isfinite(advantages), axis=0)
        where = played.where[index] & known[..., None]
        rewards = np.where(where, played.log.rewards[index], 0.0)
        block = _gap_block(np.where(known, advantages, 0.0), rewards, where, played.pass_at)
        gaps[:, groups] = np.asarray(block)[:, : len(groups)]
    return dict(zip(names, gaps, strict=True))


def _of_groups(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    first = np.empty(int(group.max()) + 1, values.dtype)
    first[group] = values
    return first
