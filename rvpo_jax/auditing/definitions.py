"""The exact meaning of every quantity of an audit; printed on the page."""

from ..basics.intervals import CONFIDENCE
from ..basics.residue import POSITIVE
from .autocorrelation import RHOS
from .checks import (
    FLIP,
    FLIP_ERRORS,
    JUMP_ERRORS,
    JUMP_SCALE,
    JUMP_SPREAD,
    LENGTH,
    REPEATED,
    SOLVED,
    TWINS,
)
from .findings import ERROR_RATE
from .late import LATE_DROP
from .tables import DEAD_FAIL_TOLERANCE
from .trends import REVERSAL_P, REVERSALS

DEFINITIONS: dict[str, str] = {
    "group": (
        "The completions of one prompt at one step. Groups of one cannot be standardised; "
        "they count in pass rates only."
    ),
    "fail, meet": (
        "A completion meets a channel when its raw reward is at least the channel's pass "
        "mark, and fails it when it was scored below. A channel that was not scored is "
        "neither. Where no pass mark was given, it is the larger of the two values that make up "
        "95 % of a channel, else the middle of its range without a few far outliers; such "
        "channels are marked."
    ),
    "rule": (
        "How rewards become an advantage. Sum: the raw rewards added up and standardised in "
        "the group (GRPO). Mean, soft minimum, hard minimum: each channel standardised in "
        "its group (sample standard deviation, eps 1e-6; a constant channel has score 0), "
        "joined, and standardised over the completions of the step. Channels count with the "
        "weights of the run, or those given; where they differ, the notes say so. As logged: the "
        "trainer's own advantage. The rule in use is the logged one, else the sum."
    ),
    "quiet failure": (
        f"A completion that fails a channel and has an advantage above {POSITIVE:g} under a "
        "rule. Rate: share of the completions that the channel scored. Of failures: share of "
        "those that fail it."
    ),
    "failure gap": (
        "Mean advantage of the completions of a group that fail a channel minus that of "
        "those that meet it, averaged over the groups that have both. Above 0, the rule pays "
        "for failing. The payer is the channel that adds most to the gap: for a sum, its own "
        "difference over the standard deviation of the sum in the group; for a mean, of its "
        "scores; for soft and hard minimum, of its scores times their weights, the latter three "
        "over the deviation of the batch. A logged advantage is split as the method of the run is, "
        "and as a sum where nobody knows it."
    ),
    "judged channels": ("The declared constraints; where none is declared, every channel."),
    "weight": (
        "Gradient of the soft minimum with respect to a channel's score: who decided. "
        "Weights of a completion sum to 1. For the sum, the channel's standard deviation in "
        "the group over that of the total."
    ),
    "effective channels": (
        "exp of the entropy of a completion's weights, averaged: 1, one channel decides; M, "
        "all alike."
    ),
    "bottleneck": (
        "Of a completion, the channel with the smallest score (ties shared). Of a group, the "
        "channel with the largest mean weight. Switch rate: how often it differs between "
        "consecutive visits of a prompt, or between consecutive steps where prompts do not "
        "come back."
    ),
    "reversal": (
        "In windows of consecutive steps, one of two channels is clearly met less often "
        f"(paired t test over groups, p < {REVERSAL_P:g}), and in the next clear window the "
        f"other. {REVERSALS} or more are an oscillation."
    ),
    "varies, all meet, all fail": (
        "A channel varies in a group; is constant and met; is constant and failed. The last "
        "is invisible to every group-relative rule. An alarm says that more than "
        f"{100 * DEAD_FAIL_TOLERANCE:.0f} % of the groups all fail. In metrics and conditions: "
        "live, dead_pass, dead_fail."
    ),
    "neglect": (
        "Pass rate in the first and in the last third of the steps. A fall must be 2 points or "
        "more, and more than the pass rates of steps that depend on each other wander: around a "
        f"line they are taken for an autoregression of order 1 (correlation up to {RHOS[-1]:g} "
        "from one of up to 60 windows to the next) and noise. Where half of the completions are "
        "of prompts that come back, each prompt is compared with itself; where not, prompts that "
        "became harder look the same, and a fall is no alarm. What the last "
        f"tenth of the steps meets by {100 * LATE_DROP:.0f} points less than the first two thirds "
        "is told besides, without an alarm."
    ),
    "conflict": (
        "Share of completions whose scores in two channels have opposite signs, both "
        "channels varying. Correlation: of the scores, pooled within groups."
    ),
    "level": (
        "Groups by the pass rate of a channel in them; mean weight of its failing and of its "
        "passing completions."
    ),
    "spread": (
        "k times the standard deviation between the scores of a completion: far below 1, the "
        "soft minimum is nearly the mean; far above, nearly the minimum. Position: 0 the "
        "mean, 1 the minimum."
    ),
    "slice": (
        "The groups with one value of a column. Their completions are judged as among all, and "
        "tested as the whole log is; all tests together keep the promise below. Simpson's "
        "paradox: the interval of a change excludes 0 on one side for the whole log, and on the "
        "other within the slices, weighted by their completions."
    ),
    "also noticed": (
        f"Two channels with a correlation above {TWINS:g} within groups; a pair whose correlation "
        f"is beyond {FLIP:g} and {FLIP_ERRORS:g} standard errors in the first and the last third, "
        f"with opposite signs; a mean that jumps by {JUMP_SPREAD:g} standard deviations within "
        f"groups, or a scale, where completions differ, by a factor of {JUMP_SCALE:g}; both "
        f"{JUMP_ERRORS:g} times more than usual from window to window; a channel that "
        f"{100 * SOLVED:.0f} % of the groups of the last third meet as a whole, and did not at "
        "first; a correlation of length and advantage "
        f"beyond {LENGTH:g}; a text that makes up {100 * REPEATED:.0f} % of the completions."
    ),
    "compensation": (
        "Of the completions that fail a judged channel, the share with a positive advantage."
    ),
    "interval": (
        f"{100 * CONFIDENCE:.0f} %. Prompts, not completions, are the independent units: Wilson's "
        "interval at the effective number of completions for shares, t intervals for means, "
        "with standard errors clustered by prompt (by group where steps are compared)."
    ),
    "alarm": (
        "A test rejects that all is well. All tests of a report together do so for a log "
        f"without problems with probability {100 * ERROR_RATE:.0f} % at most (Holm). Problems that "
        "no test looks for are not covered."
    ),
}


def definition_rows() -> list[dict[str, str]]:
    """Name and text of every definition, for the report."""
    return [{"name": name, "text": text} for name, text in DEFINITIONS.items()]
