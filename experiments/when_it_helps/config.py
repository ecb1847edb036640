"""The map: two kinds of world, axes around a base of each, and the rules.

A *cell* is a point of the map: a world and how it is trained. ``level_aware`` uses the same cells.
``M`` channels.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.lab.worlds import World, budget_rewards, table_rewards, with_judge

SLOTS = 18
COMPLETIONS = 128  # per step, B * G, for every G


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of the map."""

    kind: str
    """budget or trade."""
    axis: str
    """Which axis it belongs to; ``pair`` is conflict against spread."""
    label: str
    """Where on the axis; of a pair: conflict, spread."""
    world: World
    channels: int
    """M, those that exist; the arrays may be wider."""
    group_size: int = 16
    dead_channels: str = "keep"

    @property
    def name(self) -> str:
        """The key of its values."""
        return f"{self.kind} {self.axis} {self.label}".strip()


def _difficulty(spread: float, channels: int, width: int) -> np.ndarray:
    """``[width]``: 1 to ``spread``, geometric over the channels that exist."""
    return spread ** np.minimum(np.arange(width) / (channels - 1), 1.0)


def _channels(width: int) -> tuple[Channel, ...]:
    return tuple(Channel(name=f"channel {m + 1}") for m in range(width))


def budget(
    conflict: float = 1.0, spread: float = 4.0, channels: int = 6, width: int | None = None
) -> World:
    """A budget of 18 slots for channels whose needs are a geometric sequence.

    A channel earns min(count / need, 1) and is met at half of its need. What serves one channel
    takes slots from the others, but any mixture of slots can be written.

    Args:
      conflict: sum of the needs over the slots.
      spread: largest need over the smallest: the last channel is the hardest.
      channels: how many exist.
      width: of the arrays; None: the same.

    Returns:
      A world in which each slot has its own row of logits, uniform at the start.
    """
    width = channels if width is None else width
    there = np.arange(width) < channels
    needs = _difficulty(spread, channels, width)
    needs *= conflict * SLOTS / needs[there].sum()
    return World(
        channels=_channels(width),
        reward_fn=budget_rewards,
        num_slots=SLOTS,
        # Never taken: a choice that serves an absent channel would waste a slot.
        logits=jnp.broadcast_to(jnp.where(there, 0.0, -1e9), (1, SLOTS, width)),
        settings={"needs": jnp.asarray(needs, jnp.float32)},
        present=jnp.asarray(there),
        pass_at=jnp.full(width, 0.5, jnp.float32),
    )


def trade(
    price: float = 0.1, spread: float = 2.0, channels: int = 4, width: int | None = None
) -> World:
    """A bandit whose arms fail one channel each, and a balanced one that fails none, at a price.

    Arm m earns 1 in every channel but channel m, where it earns 0; the balanced arm earns b in
    all. Its price is the mean reward that it gives up: 1 - 1/M - b. A channel is met at b. Two
    channels and spread 1 are ``conflict_bandit``.

    Args:
      price: see above; below 0 the balanced arm also has the highest mean.
      spread: how much likelier the arm that fails the last channel is than the one that fails
        the first, at the start: the last channel is the hardest.
      channels: M.
      width: of the arrays; None: the same.

    Returns:
      A world of one slot; the balanced arm starts at 1 / (M + 1).
    """
    width = channels if width is None else width
    there = np.arange(width) < channels
    balanced = 1 - 1 / channels - price
    table = np.vstack([1 - np.eye(width), np.full(width, balanced)])
    fails = np.where(there, _difficulty(spread, channels, width), 1e-30)
    fails *= channels / fails.sum()
    return World(
        channels=_channels(width),
        reward_fn=table_rewards,
        logits=jnp.asarray(np.log(np.append(fails, 1.0)), jnp.float32)[None, None],
        settings={"table": jnp.asarray(table, jnp.float32)[None]},
        present=jnp.asarray(there),
        pass_at=jnp.full(width, balanced, jnp.float32),
    )


KINDS = {"budget": budget, "trade": trade}
CONFLICTS = {"budget": (0.6, 0.8, 1.0, 1.2, 1.5), "trade": (-0.05, 0.02, 0.05, 0.1, 0.2, 0.3)}
CONFLICT_LABEL = {"budget": "needs over slots", "trade": "price of balance"}
SPREADS = (1.0, 2.0, 4.0, 8.0)
BASE_CHANNELS = {"budget": 6, "trade": 4}
WIDEST = 17
LEARNING_RATE = 1.0


def pair_cells(kind: str) -> list[Cell]:
    """Conflict against spread of difficulty."""
    return [
        Cell(
            kind=kind,
            axis="pair",
            label=f"{conflict:g}, {spread:g}",
            world=KINDS[kind](conflict, spread),
            channels=BASE_CHANNELS[kind],
        )
        for conflict in CONFLICTS[kind]
        for spread in SPREADS
    ]


def axis_cells(kind: str) -> list[Cell]:
    """One axis at a time around the base world."""
    make, channels = KINDS[kind], BASE_CHANNELS[kind]
    base = Cell(kind=kind, axis="base", label="", world=make(), channels=channels)
    cells = [base]
    for number in (2, 4, 10, 17):
        world = make(channels=number, width=WIDEST)
        cells.append(
            Cell(kind=kind, axis="channels", label=f"{number}", world=world, channels=number)
        )
    for size in (4, 8, 32):
        cells.append(dataclasses.replace(base, axis="group size", label=f"{size}", group_size=size))
    for field, values in (("noise", (0.1, 0.3)), ("flip", (0.05, 0.1, 0.2)), ("binary", (True,))):
        for value in values:
            world = with_judge(base.world, **{field: value})
            label = "" if value is True else f"{value:g}"
            cells.append(dataclasses.replace(base, axis=field, label=label, world=world))
    cells.append(dataclasses.replace(base, axis="dead dropped", dead_channels="drop"))
    return cells


CELLS = [cell for kind in KINDS for cell in (*pair_cells(kind), *axis_cells(kind))]
SMOKE_NAMES = ("trade pair 0.1, 2", "trade base")
SMOKE_CELLS = [cell for cell in CELLS if cell.name in SMOKE_NAMES]

# k at the start and at the end of a training. The sum of raw rewards is a rule of its own; GDPO's
# mean is k = 0 and the minimum is k = inf, so that all others are one program.
GRPO = AdvantageConfig(method="grpo", whiten="none")
REFERENCE = "GDPO"
RISK = {
    "GDPO": (0.0, 0.0),
    "RVPO k=0.5": (0.5, 0.5),
    "RVPO k=1": (1.0, 1.0),
    "RVPO k=2": (2.0, 2.0),
    "RVPO k=5": (5.0, 5.0),
    "hard-min": (np.inf, np.inf),
}
# At the two base worlds only.
SCHEDULES = {"RVPO k=0.5 to 2": (0.5, 2.0), "RVPO k=2 to 0.5": (2.0, 0.5)}
SEEDS = range(12)
SMOKE_SEEDS = range(2)
OPTIONS = {
    "steps": 200,
    "record_every": 10,
    "learning_rate": LEARNING_RATE,
    "completions": COMPLETIONS,
}
SMOKE_OPTIONS = {**OPTIONS, "steps": 4, "record_every": 1}
