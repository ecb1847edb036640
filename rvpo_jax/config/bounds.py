"""The ranges that several fields share."""

from typing import Annotated

from rvpo_jax.basics.bounds import Bound

Positive = Bound(gt=0, hint="Give a positive number.")
OrOff = Bound(ge=0, hint="0 turns it off.")
Eps = Bound(ge=0, hint="1e-6 is usual.")
Risk = Bound(ge=0, hint="k is 1/score: 0 is the plain mean.")
Decay = Bound(ge=0, lt=1, hint="Usual: 0.9.")
Weight = Annotated[float, Bound(ge=0, hint="Only their ratios matter.")]
