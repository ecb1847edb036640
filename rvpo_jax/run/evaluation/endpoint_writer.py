"""Answers of a model behind an OpenAI-compatible endpoint (extra ``rvpo-jax[judge]``).

The key stands in the environment variable OPENAI_API_KEY, where the endpoint needs one: no message,
file or log of ours holds it.
"""

import dataclasses
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Failure
from rvpo_jax.rewards.judge.http import CUT, CallFailed, Endpoint
from rvpo_jax.rewards.judge.limits import Limits
from rvpo_jax.rewards.judge.retries import retrying
from rvpo_jax.rewards.judge.settings import Judge, check_address
from rvpo_jax.rewards.judge.store import Store
from rvpo_jax.run.evaluation.writing import Question, Written

LOG = logging.getLogger(__name__)
KEY_VARIABLE = "OPENAI_API_KEY"
TIMEOUT_S = 600.0  # for a whole answer
HOPELESS = 3  # questions that are refused before any is served


class Pace(NamedTuple):
    """How fast an endpoint may be asked."""

    concurrency: int  # questions at the same time
    requests_per_min: float | None = None  # None: as many as there are


def endpoint_of(
    option: str, address: str, model: str, *, temperature: float, max_tokens: int, pace: Pace
) -> Judge:
    """A model behind an endpoint, as the judge's client takes it.

    Args:
      option: what the user named the address with, for messages.
      address: up to and including the version.
      model: as the endpoint calls it.
      temperature: of the sampling.
      max_tokens: longest answer.
      pace: how fast it may be asked.

    Returns:
      The settings; a key is sent where the environment holds one.

    Raises:
      Refusal: when the address is none.
    """
    check_address(option, address)
    return Judge(
        endpoint=address,
        model=model,
        temperature=temperature,
        max_tokens=max_tokens,
        concurrency=pace.concurrency,
        requests_per_min=pace.requests_per_min,
        timeout_s=TIMEOUT_S,
        key_variable=KEY_VARIABLE if os.environ.get(KEY_VARIABLE, "").strip() else None,
    )


def write(model: Judge, questions: Sequence[Question]) -> Iterator[Written]:
    """Asks questions, several at a time, and gives each answer as it is there.

    A question that the endpoint refuses, such as one that is too long, is left out with a warning.

    Args:
      model: whom to ask.
      questions: at least one.

    Yields:
      The answers, in the order in which they come.

    Raises:
      Failure: when the endpoint cannot be used, or no longer.
    """
    left = list(questions)
    with Endpoint(model) as endpoint:
        asking = _Asking(model, endpoint)
        # One at a time at first: a wrong address, key or setting is one error, not eight.
        while left and not asking.has_served:
            written = asking.answer(left.pop(0))
            if written is not None:
                yield written
            elif len(questions) - len(left) == min(HOPELESS, len(questions)):
                raise asking.failure("it refuses every question")
        pool = ThreadPoolExecutor(model.concurrency)
        try:
            for job in as_completed([pool.submit(asking.answer, one) for one in left]):
                written = job.result()
                if written is not None:
                    yield written
        finally:
            asking.ended.set()
            pool.shutdown(wait=False, cancel_futures=True)


@dataclasses.dataclass
class _Asking:
    """Questions under way, and whether any was answered."""

    model: Judge
    endpoint: Endpoint
    has_served: bool = False
    ended: threading.Event = dataclasses.field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._tries = retrying(self.model, self._is_worth_it, self.ended.wait)
        self._limits = Limits(self.model, Store(), sleep=self._nap)

    def answer(self, question: Question) -> Written | None:
        """The answer; None where the endpoint refuses this question."""
        body = {
            "model": self.model.model,
            "messages": question.prompt,
            "temperature": self.model.temperature,
            self.model.max_tokens_field: self.model.max_tokens,
            "seed": question.seed,
        }
        try:
            reply = self._tries(self._call, body)
        except CallFailed as error:
            if error.again or error.fatal or error.billed:
                self.ended.set()  # here, before this thread takes the next question
                raise self.failure(error) from None
            key = excerpt(question.item.key)
            LOG.warning("The endpoint does not answer prompt %s: %s.", key, error)
            return None
        self.has_served = True
        return Written(question, reply.text, reply.problem == CUT)

    def failure(self, reason: object) -> Failure:
        """The one message for an endpoint that cannot be used."""
        return Failure(
            f"the endpoint {self.model.endpoint} cannot be used: {reason}.\n"
            f"  See that it runs, and check its address, the model {excerpt(self.model.model)} and "
            f"the key in {KEY_VARIABLE}; then start again: the answers so far are kept."
        )

    def _call(self, body: dict[str, Any]) -> Any:
        self._nap(0)
        self._limits.wait(tokens=0)
        return self.endpoint.call(body)

    def _nap(self, seconds: float) -> None:
        """Waits, unless what is waited for is no longer wanted."""
        if self.ended.wait(seconds):
            raise CallFailed("the evaluation ends", again=False, fatal=True)

    def _is_worth_it(self, error: BaseException) -> bool:
        """Not where nobody has answered yet: the address is wrong."""
        if not isinstance(error, CallFailed) or not error.again:
            return False
        return self.has_served or error.status is not None
