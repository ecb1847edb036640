"""The pictures of an audit: a report dict in, SVG out."""

from collections.abc import Mapping
from typing import Any

from .alternatives import alternative_texts
from .contents import has_trajectory
from .curves import draw_pass_rates, draw_quiet
from .heat import draw_conditional
from .overview import draw_overview
from .picture import Picture, finish
from .scatter import draw_compensation
from .weights import draw_weights


def make_figures(report: Mapping[str, Any]) -> dict[str, Picture]:
    """The pictures of a report; the same report gives the same, byte for byte.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      Pictures by name: ``overview`` (the channels in focus, for the first screen), ``pass_rates``
      (lines with bands over steps, a small plot each where there are many channels; dots with
      intervals where the log has fewer than two windows of steps), ``weights`` (ribbon over
      steps, or bars), ``conditional`` (heat map of P(row met | column met); of many channels the
      pairs in which it differs most from P(row met)), ``compensation`` (mean score against
      advantage of the rule in use) and, over steps only, ``quiet`` (quiet failures of that rule).
    """
    drawings = {
        "overview": draw_overview(report),
        "pass_rates": draw_pass_rates(report),
        "weights": draw_weights(report),
        "conditional": draw_conditional(report),
        "compensation": draw_compensation(report),
    }
    if has_trajectory(report):
        drawings["quiet"] = draw_quiet(report)
    texts = alternative_texts(report)
    return {name: finish(drawing, texts[name]) for name, drawing in drawings.items()}
