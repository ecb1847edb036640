"""What rules read of the channels, as arrays; and what they need to be told of them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rvpo_jax.basics.channel import Channel, Needs, lacking
from rvpo_jax.basics.refusals import Refusal


def row(channels: Sequence[Channel], field: str) -> jax.Array:
    """A field of every channel.

    Args:
      channels: M channels.
      field: ``low``, ``high``, ``pass_at`` or ``target``.

    Returns:
      ``[1, 1, M]`` float32; NaN where it is None.

    >>> row([Channel(name="a", high=3.0)], "high").tolist()
    [[[3.0]]]
    """
    values = [getattr(channel, field) for channel in channels]
    numbers = [jnp.nan if value is None else value for value in values]
    return jnp.array(numbers, jnp.float32).reshape(1, 1, -1)


def aimed(channels: Sequence[Channel]) -> jax.Array:
    """Which channels have a target.

    Args:
      channels: M channels.

    Returns:
      ``[M]`` bool.
    """
    return jnp.array([channel.target is not None for channel in channels])


def check_needs(rule: str, needs: Needs, channels: Sequence[Channel] | None) -> None:
    """Refuses channels that do not say what a rule needs to know of them.

    Args:
      rule: its name, for the message.
      needs: what it needs.
      channels: what came.

    Raises:
      ValueError: naming the channels.
    """
    if not needs:
        return
    if channels is None:
        noun = {"multipliers": "targets", "constraints": "kinds"}.get(needs, needs)
        raise Refusal(
            f"{rule} needs the {noun} of its channels, got no channels.",
            "Pass channels=[Channel(...), ...].",
        )
    lack = lacking(needs, channels)
    if lack is not None:
        field = 'kind="constraint"' if needs == "constraints" else "target=..."
        raise Refusal(f"{rule} needs {lack}.", f"Declare them: Channel({field}).")
