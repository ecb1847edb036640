"""Calls that are made again: how long is waited, and when it is enough (extra ``judge``)."""

from collections.abc import Callable
from typing import Any

from rvpo_jax.rewards.judge.settings import Judge


def retrying(
    judge: Judge,
    may_pass: Callable[[BaseException], bool],
    sleep: Callable[[float], Any],
    *,
    attempts: int | None = None,
    before_sleep: Callable[[Any], None] | None = None,
) -> Any:
    """Makes a call again while it may pass; waits grow and are drawn at random.

    Args:
      judge: its waits and tries.
      may_pass: whether another try makes sense after an error.
      sleep: waits so many seconds.
      attempts: tries in all; None: those of the judge.
      before_sleep: is told of each wait, as tenacity has it.

    Returns:
      A function of the call and its arguments, which returns what the call returns or raises the
      last error. Where an error has ``wait_s``, at least so many seconds are waited, and never
      more than ``max_wait_s`` of the judge.

    Raises:
      ModuleNotFoundError: when the extra is not installed.
    """
    try:
        import tenacity
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "an OpenAI-compatible endpoint needs tenacity.\n"
            "  Install it: pip install 'rvpo-jax[judge]'"
        ) from None
    backoff = tenacity.wait_random_exponential(judge.backoff_s, max=judge.max_wait_s)

    def wait_s(state: Any) -> float:
        asked = getattr(state.outcome.exception(), "wait_s", 0.0)
        return min(max(asked, backoff(state)), judge.max_wait_s)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_after_attempt(judge.attempts if attempts is None else attempts),
        wait=wait_s,
        sleep=sleep,
        before_sleep=before_sleep,
        reraise=True,
    )
