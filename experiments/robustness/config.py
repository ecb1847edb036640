"""Where the verdict on RVPO might lean on a choice of ours: steps, conventions, optimiser, seeds.

All with seeds that no other experiment uses.
"""

from pathlib import Path
from typing import NamedTuple

from trainer import Trainer

from rvpo_jax.config import AdvantageConfig
from rvpo_jax.lab.experiment import module_of

HERE = Path(__file__).parent
MAP = HERE.parent / "when_it_helps"
the_map, _survey = module_of(MAP, "config"), module_of(MAP, "survey")
survey, ended = _survey.survey, _survey.ended

REFERENCE, OURS = "GDPO", "RVPO k=1"
SEEDS = range(400, 424)
SMOKE_SEEDS = range(2)

# Outcome against steps: conflict against spread in both kinds of world.
CELLS = the_map.pair_cells("budget") + the_map.pair_cells("trade")
STEPS_RULES = {
    "GRPO": the_map.GRPO,
    REFERENCE: AdvantageConfig(risk_coef=0.0),
    **{f"RVPO k={k:g}": AdvantageConfig(risk_coef=k) for k in (0.5, 1.0, 5.0)},
    "utility c=5": AdvantageConfig(method="rvpo_utility"),
    "utility c=0": AdvantageConfig(method="rvpo_utility", options={"trust": 0.0}),
}
AT = (200, 1000, 3000)
STEPS_SEEDS = 12  # the first of SEEDS
STEPS_OPTIONS = {**the_map.OPTIONS, "steps": AT[-1], "record_every": 10}


class Convention(NamedTuple):
    """One change to the base."""

    fields: dict = {}
    """Of ``AdvantageConfig``."""
    trainer: Trainer = Trainer()


CONVENTIONS = {
    "as it is": Convention(),
    "recentred per prompt": Convention({"recenter": True}),
    "whitened per group": Convention({"whiten": "group"}),
    "not whitened": Convention({"whiten": "none"}),
    "dead channels dropped": Convention({"dead_channels": "drop"}),
    "population deviation": Convention({"ddof": 0}),
    "PPO, 4 epochs": Convention(trainer=Trainer(epochs=4)),
    "PPO, 4 epochs, a quarter of the rate": Convention(
        trainer=Trainer(epochs=4, learning_rate=0.25)
    ),
    "KL term 0.01": Convention(trainer=Trainer(kl_coef=0.01)),
    "KL term 0.1": Convention(trainer=Trainer(kl_coef=0.1)),
    "Adam 0.03": Convention(trainer=Trainer("adam", learning_rate=0.03)),
    "Adam 0.1": Convention(trainer=Trainer("adam", learning_rate=0.1)),
    "learning rate 0.3": Convention(trainer=Trainer(learning_rate=0.3)),
    "learning rate 3": Convention(trainer=Trainer(learning_rate=3.0)),
    "groups of 8": Convention(trainer=Trainer(group_size=8)),
}
BUDGET_BASE = the_map.budget()
CONVENTION_STEPS = 1000
EVERY = 10

# Trade: seeds that end with the arm that fails nothing.
KEPT = 0.5
BALANCED = {
    "price 0.1, spread 1": the_map.trade(price=0.1, spread=1.0),
    "base (price 0.1, spread 2)": the_map.trade(),
}
BALANCED_RULES = (1.0, 5.0)  # k
BALANCED_TRAINERS = {
    "SGD": Trainer(),
    "PPO, 4 epochs": Trainer(epochs=4),
    "Adam 0.1": Trainer("adam", learning_rate=0.1),
}
BALANCED_STEPS = 200
SMOKE_STEPS = 20
SMOKE_AT = (10, SMOKE_STEPS)
