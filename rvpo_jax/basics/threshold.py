"""From which k on a soft minimum refuses what breaks few channels and is rewarded in others."""

import math

from .refusals import Refusal


def risk_coef_threshold(num_channels: int, num_broken: float, group_size: float) -> float:
    """The k from which on a rare answer that breaks some channels is refused, whatever it wins.

    An answer that is the only one of its group to fail D channels has scores of -(G - 1) / sqrt(G)
    there, the lowest there are. Whatever it wins in the other channels, its soft minimum is at most
    -(k (G - 1) / sqrt(G) - ln(M / D)) / k, which is below 0, where answers like all others are, for
    k > ln(M / D) sqrt(G) / (G - 1). Below, it depends on what it wins. So a rare success is refused
    too that fails in a few channels, a true one as much as a spurious one.

    Args:
      num_channels: M, the channels of the completion.
      num_broken: D, those that it alone fails, 1 to M; also a mean of several answers.
      group_size: G, completions of a prompt; also a median of several.

    Returns:
      k in 1/score; 0 where all channels are broken.

    Raises:
      ValueError: on numbers that do not fit.

    Source:
      Ours (not in the paper); measured in experiments/exploitable_judges. Sample standard
      deviation, equal weights.

    >>> round(risk_coef_threshold(10, 1, 16), 2), round(risk_coef_threshold(2, 1, 4), 2)
    (0.61, 0.46)
    """
    if not 1 <= num_broken <= num_channels:
        raise Refusal(
            f"num_broken must lie in [1, num_channels = {num_channels}], got {num_broken}.",
            "An answer that breaks nothing is refused by no k.",
        )
    if group_size < 2:
        raise Refusal(
            f"group_size must be >= 2, got {group_size}.", "It is the completions of a prompt."
        )
    lowest = (group_size - 1) / math.sqrt(group_size)
    return math.log(num_channels / num_broken) / lowest
