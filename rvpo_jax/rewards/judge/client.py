"""Asks the judge a list of questions: from the cache, else over HTTP with limits and retries."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from rvpo_jax.rewards.failures import RewardError
from rvpo_jax.rewards.judge.budget import Budget, BudgetSpent
from rvpo_jax.rewards.judge.cache import Cache, Reply, request_key
from rvpo_jax.rewards.judge.counts import Tally
from rvpo_jax.rewards.judge.http import CallFailed, Endpoint
from rvpo_jax.rewards.judge.limits import Clock, Limits, Sleep
from rvpo_jax.rewards.judge.protocol import InvalidReply, Question, read_verdicts
from rvpo_jax.rewards.judge.retries import retrying
from rvpo_jax.rewards.judge.settings import Judge
from rvpo_jax.rewards.judge.store import Store

Verdicts = tuple[bool, ...]


class JudgeDown(RewardError):
    """The judge serves no calls; what was answered is kept."""


class Client:
    """A judge that can be asked.

    Args:
      judge: where it is and how it is asked.
      store: the run's.
      clock: seconds, the same for all processes.
      sleep: waits so many seconds; None: so that an error in another thread ends the wait.

    Raises:
      ModuleNotFoundError: when the extra is not installed.
    """

    def __init__(
        self, judge: Judge, store: Store, *, clock: Clock = time.time, sleep: Sleep | None = None
    ) -> None:
        self._stopped = threading.Event()
        self._judge = judge
        self._sleep = sleep or self._stopped.wait
        self._cache, self._budget = Cache(store), Budget(judge, store)
        self._limits = Limits(judge, store, clock, self._nap)
        self.tally = Tally()
        self._until_valid = _tries(judge, self._may_be_served, self._nap, self.tally)
        self._asking, self._counting = threading.Lock(), threading.Lock()
        self._served = False  # at least once: what fails from then on may pass
        self._in_a_row = 0  # questions that were not served

    def ask(self, questions: Sequence[Question], repeat: int = 0) -> list[Verdicts | None]:
        """The verdicts on the items of each question.

        Questions that are alike are asked once.

        Args:
          questions: what is wanted.
          repeat: another number asks again what was answered before, to see whether the judge
            agrees with itself.

        Returns:
          Per question its verdicts, or None where they cannot be had.

        Raises:
          BudgetSpent: when the run may make no further call.
          JudgeDown: when the judge serves none.
          Refusal: when the key is missing and something is to be asked.
        """
        with self._asking:
            return self._ask(questions, repeat)

    def _ask(self, questions: Sequence[Question], repeat: int) -> list[Verdicts | None]:
        keyed = [(request_key(self._judge, question), question) for question in questions]
        unique = dict(keyed)
        found: dict[str, Verdicts | None] = {}
        for key, question in unique.items():
            verdicts = self._from_cache(key, repeat, question)
            if verdicts is not None:
                found[key] = verdicts
        self.tally.add(questions=len(unique), cached=len(found))
        missing = [(key, question) for key, question in unique.items() if key not in found]
        if missing:
            # Connections last as long as the questions: until the next ones a server hangs up.
            with Endpoint(self._judge) as endpoint:
                found.update(self._call(endpoint, missing, repeat))
        return [found[key] for key, _ in keyed]

    def _from_cache(self, key: str, repeat: int, question: Question) -> Verdicts | None:
        reply = self._cache.get(key, repeat)
        if reply is None:
            return None
        try:  # again strictly: the file may be from another version, or edited
            return read_verdicts(reply, len(question.texts), explain=self._judge.explain)
        except InvalidReply:
            return None

    def _call(
        self, endpoint: Endpoint, keyed: Sequence[tuple[str, Question]], repeat: int
    ) -> dict[str, Verdicts | None]:
        self._stopped.clear()
        found: dict[str, Verdicts | None] = {}
        if not self._served:  # alone: a wrong address is one error, not a hundred
            (key, question), *keyed = keyed
            found[key] = self._question(endpoint, key, question, repeat)
        with ThreadPoolExecutor(self._judge.concurrency) as pool:
            jobs = {
                key: pool.submit(self._question, endpoint, key, question, repeat)
                for key, question in keyed
            }
            try:
                done, _ = wait(jobs.values(), return_when=FIRST_EXCEPTION)
                for job in done:
                    job.result()
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found | {key: job.result() for key, job in jobs.items()}

    def _question(
        self, endpoint: Endpoint, key: str, question: Question, repeat: int
    ) -> Verdicts | None:
        try:
            verdicts = self._until_valid(self._attempt, endpoint, key, question, repeat)
        except InvalidReply as error:
            verdicts = None
            self.tally.add(failed=1, reason=f"the reply is invalid: {error}")
        except CallFailed as error:
            self.tally.add(failed=1, reason=str(error))
            with self._counting:
                # One that is refused for itself, such as a text too long, says nothing of others.
                self._in_a_row += error.again
                in_a_row = self._in_a_row
            self._check_hope(error, in_a_row)
            return None
        except BudgetSpent:
            self._stopped.set()
            raise
        with self._counting:
            self._in_a_row = 0
        return verdicts

    def _may_be_served(self, error: BaseException) -> bool:
        """Whether another try makes sense: not where a wrong address would be waited for for long,
        nor where the endpoint asks for a longer wait than is allowed."""
        if not isinstance(error, CallFailed) or not error.again:
            return False
        return error.wait_s <= self._judge.max_wait_s and (self._served or not error.billed)

    def _nap(self, seconds: float) -> None:
        """Waits, unless what is waited for is no longer wanted."""
        self._sleep(seconds)
        if self._stopped.is_set():
            raise CallFailed("the run ends", again=False)

    def _attempt(self, endpoint: Endpoint, key: str, question: Question, repeat: int) -> Verdicts:
        """One call: paid and let through, made, read and kept."""
        if self._stopped.is_set():
            raise CallFailed("the run ends", again=False)
        # Three characters a token: rarely fewer, and what was too much is given back.
        size = len(json.dumps(question.body, ensure_ascii=False)) // 3
        limit = int(question.body[self._judge.max_tokens_field])
        most = self._judge.cost(size, limit)
        self.tally.add(waited_s=self._limits.wait(size + limit))
        self._budget.pay(most)
        self.tally.add(calls=1)
        try:
            reply = endpoint.call(question.body)
        except CallFailed as error:
            if not error.billed:
                self._budget.give_back(most)
            if error.wait_s:
                self._limits.pause(min(error.wait_s, self._judge.max_wait_s))
            raise
        self._served = True
        cost = self._settle(reply, size, limit, most)
        if reply.problem:
            raise InvalidReply(reply.problem)
        verdicts = read_verdicts(reply.text, len(question.texts), explain=self._judge.explain)
        self._cache.put(key, repeat, question.texts, reply, cost)
        return verdicts

    def _settle(self, reply: Reply, size: int, limit: int, most: float) -> float:
        """What a call cost; what was set aside for more is given back."""
        read = size if reply.input_tokens is None else reply.input_tokens
        written = len(reply.text) // 3 if reply.output_tokens is None else reply.output_tokens
        cost = self._judge.cost(read, written)
        self._budget.give_back(most - cost)
        self._limits.give_back(size + limit - read - written)
        self.tally.add(input_tokens=read, output_tokens=written, cost=cost)
        return cost

    def _check_hope(self, error: CallFailed, in_a_row: int) -> None:
        judge = self._judge
        may_recover = self._served and not error.fatal
        is_patient = not judge.give_up_after or in_a_row < judge.give_up_after
        if self._stopped.is_set() or (may_recover and is_patient):
            return
        self._stopped.set()  # at once: other threads would begin their next question
        if may_recover:
            raise JudgeDown(
                f"the judge at {judge.endpoint} served none of {in_a_row} calls in a row, "
                f"each tried up to {judge.attempts} times; the last: {error}.\n"
                "  See that it runs, then start again: every verdict so far is kept. "
                "judge.give_up_after sets the number."
            )
        raise JudgeDown(
            f"the judge at {judge.endpoint} cannot be used: {error}.\n"
            "  Check judge.endpoint, judge.model and the key in "
            f"{judge.key_variable or 'judge.key_variable (none)'}, and that it runs."
        )


def _tries(
    judge: Judge,
    may_be_served: Callable[[BaseException], bool],
    nap: Callable[[float], None],
    tally: Tally,
) -> Callable[..., Verdicts]:
    """Runs an attempt until it is served and valid."""

    def count(state: Any) -> None:
        tally.add(retries=1, waited_s=state.next_action.sleep)

    served = retrying(judge, may_be_served, nap, before_sleep=count)
    valid = retrying(
        judge,
        lambda error: isinstance(error, InvalidReply),
        nap,
        attempts=judge.invalid_attempts,
        before_sleep=count,
    )
    return lambda attempt, *given: valid(served, attempt, *given)
