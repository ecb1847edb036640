"""The members of the family, the cells they are chosen on, and the cells and seeds that judge."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.lab.experiment import module_of
from rvpo_jax.lab.worlds import BUDGET_NEEDS, budget_bandit, table_world, with_judge
from rvpo_jax.method.aggregators import softmin_aggregate
from rvpo_jax.method.levels import level_softmin_aggregate

MAP = Path(__file__).parents[1] / "when_it_helps"
the_map, _survey = module_of(MAP, "config"), module_of(MAP, "survey")
survey, first_steps = _survey.survey, _survey.first_steps


@dataclasses.dataclass(frozen=True)
class Member:
    """One rule of the family."""

    k: float
    """Of the soft minimum; 0: the mean with weights."""
    c: float
    """How fast weight falls with the level; 0 and k = 0: GDPO; 0: RVPO."""
    additive: bool = False
    """softmin(Z + (c / k) m) as it stands, with what a group has in common."""

    @property
    def name(self) -> str:
        """Of the member, or of the known rule that it is."""
        if self.c == 0:
            return "GDPO" if self.k == 0 else f"RVPO k={self.k:g}"
        if self.additive:
            return f"level soft-min added k={self.k:g} c={self.c:g}"
        kind = "level weights" if self.k == 0 else f"level soft-min k={self.k:g}"
        return f"{kind} c={self.c:g}"


KS = (0.0, 0.5, 1.0, 2.0, 5.0)
CS = (0.0, 2.0, 5.0, 10.0, 20.0)
MEMBERS = tuple(
    [Member(k, c) for k in KS for c in CS]
    + [Member(1.0, c, additive=True) for c in (5.0, 10.0, 20.0)]
)
_TABLE = np.array([[m.k, m.c, m.additive] for m in MEMBERS], np.float32)


def member_softmin(scores: jax.Array, *, levels, where, risk_coef) -> jax.Array:
    """The member whose place in ``MEMBERS`` is ``risk_coef``: so all are one program."""
    k, c, additive = jnp.asarray(_TABLE)[risk_coef.astype(int)]
    value = level_softmin_aggregate(scores, levels=levels, level_coef=c, risk_coef=k, where=where)
    slope = jnp.where(k > 0, c / jnp.where(k > 0, k, 1.0), 0.0)
    offset = jnp.broadcast_to(slope * levels, scores.shape)
    return value + additive * softmin_aggregate(offset, risk_coef=k, where=where)


def raw_softmin(scores: jax.Array, *, rewards, where) -> jax.Array:
    """Soft minimum (k = 5) of raw rewards; standardised afterwards, in its group."""
    del scores
    return softmin_aggregate(rewards, risk_coef=5.0, where=where)


def rule_of(member: Member) -> AdvantageConfig:
    """The rule for ``survey``."""
    return AdvantageConfig(method=member_softmin, risk_coef=float(MEMBERS.index(member)))


OTHERS = {
    "GRPO": the_map.GRPO,
    "raw soft-min k=5": AdvantageConfig(method=raw_softmin, whiten="group"),
    "utility c=5": AdvantageConfig(method="rvpo_utility"),
    "utility c=0": AdvantageConfig(method="rvpo_utility", options={"trust": 0.0}),
}
# What the chosen one must not be behind.
BEST_OF = ("GRPO", "GDPO", "RVPO k=1")
JUDGED_BESIDE = ("GDPO", "RVPO k=1", "RVPO k=5", "level weights c=10")
MARGIN = 0.05

# Chosen on two of the four spreads of difficulty, judged on all cells with other seeds.
CHOOSE_SPREADS = ("1", "4")
CHOOSE_CELLS = [
    cell
    for cell in the_map.CELLS
    if cell.axis == "pair" and cell.label.rpartition(" ")[2] in CHOOSE_SPREADS
]
CHOOSE_SEEDS = range(100, 106)


def _four_prompts(channels: int = 4):
    """Four kinds of prompt of other prices, other difficulties, other hardest channels."""
    tables, logits = [], []
    pairs = zip((-0.05, 0.05, 0.1, 0.2), (1.0, 2.0, 4.0, 8.0), strict=True)
    for shift, (price, spread) in enumerate(pairs):
        world = the_map.trade(price, spread, channels)
        order = np.roll(np.arange(channels), shift)
        arms = np.append(order, channels)
        tables.append(np.asarray(world.settings["table"])[0][arms][:, order])
        logits.append(np.asarray(world.logits)[0][:, arms])
    world = table_world(np.stack(tables), logits=np.stack(logits))
    return _met_at(world, 0.5)


def _met_at(world, pass_at):
    width = len(world.channels)
    return dataclasses.replace(
        world, pass_at=jnp.full(width, pass_at, jnp.float32), present=jnp.ones(width, bool)
    )


def _other_units():
    """The first channel counts in units six times as large, and says so in its range."""
    world = the_map.trade(price=0.1, spread=1.0)
    scale = np.float32([6, 1, 1, 1])
    channels = (Channel(name="channel 1", high=6.0, pass_at=6.0), *world.channels[1:])
    return dataclasses.replace(
        world,
        channels=channels,
        settings={"table": world.settings["table"] * scale},
        pass_at=world.pass_at * scale,
    )


def _rare_success():
    """The hardest channel is served by one slot in a hundred at the start: often all fail."""
    world = the_map.budget(conflict=1.0)
    logits = np.array(world.logits)
    logits[..., -1] = -3.0
    return dataclasses.replace(world, logits=jnp.asarray(logits))


def _hopeless(noise: float = 0.0):
    """A sixth channel that no completion can meet; its reward may also be noisy."""
    world = the_map.budget(conflict=1.0)
    needs = np.array(the_map.budget(conflict=1.0, channels=5).settings["needs"])
    needs = np.append(needs, 20.0 * the_map.SLOTS)
    world = dataclasses.replace(world, settings={"needs": jnp.asarray(needs, jnp.float32)})
    return with_judge(world, noise=np.float32([0, 0, 0, 0, 0, noise])) if noise else world


def _held_out(label: str, world, channels: int):
    return the_map.Cell(kind="held out", axis=label, label="", world=world, channels=channels)


HELD_OUT = [
    _held_out("four prompts", _four_prompts(), 4),
    _held_out("ten channels", _met_at(budget_bandit(BUDGET_NEEDS, 16, rows=16), 0.5), 10),
    _held_out("other units", _other_units(), 4),
    _held_out("rare success", _rare_success(), 6),
]
# Outcomes of these count the five channels that can be met.
HOPELESS = [
    _held_out("hopeless", _hopeless(), 5),
    _held_out("hopeless, noisy", _hopeless(0.1), 5),
]
JUDGE_CELLS = [*the_map.CELLS, *HELD_OUT, *HOPELESS]
# Counted: cells that nothing was chosen on. Seeds that nobody looked at before.
COUNTED = {cell.name for cell in [*the_map.CELLS, *HELD_OUT]} - {cell.name for cell in CHOOSE_CELLS}
SEEDS = range(500, 512)
SMOKE_SEEDS = range(2)
OPTIONS = the_map.OPTIONS
SMOKE_OPTIONS = the_map.SMOKE_OPTIONS
SMOKE_NAMES = ("trade pair 0.1, 1", "trade pair 0.1, 4")
SMOKE_CELLS = [cell for cell in the_map.CELLS if cell.name in SMOKE_NAMES]
