"""The one error of a reward function."""

from rvpo_jax.basics.refusals import Failure


class RewardError(Failure):
    """A reward function raised, or returned something that is not a reward."""
