"""Answers of a model behind an OpenAI-compatible endpoint (extra ``rvpo-jax[judge]``).

httpx2 is the maintained line of httpx. The key stands in the environment variable OPENAI_API_KEY
and nowhere else: no message, file or log of ours holds it.
"""

import contextlib
import dataclasses
import json
import os
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from rvpo_jax.basics.bounds import shown
from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Failure, Refusal
from rvpo_jax.run.evaluation.writing import LOG, Question, Written

KEY_VARIABLE = "OPENAI_API_KEY"
MAX_BYTES = 16_000_000  # of a reply, reasoning included
MAX_WAIT_S = 60.0
HOPELESS = 3  # questions that are refused before any is served
_BUSY = (408, 409, 425, 429)
_REFUSED = (400, 413, 422)  # this question, such as one that is too long; others may be served
_REMEDY = "See that it runs, and check --endpoint, --endpoint-model and the key in " + KEY_VARIABLE


class Busy(Exception):
    """No reply this time; another try may be served.

    Attributes:
      wait_s: seconds that the endpoint asked to wait; None: it said nothing at all.
    """

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class QuestionRefused(Exception):
    """The endpoint will not answer this question."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a model answers, and how it is asked.

    Attributes:
      address: up to and including the version.
      model: as the endpoint calls it.
      temperature: of the sampling.
      max_tokens: longest answer.
      concurrency: questions at the same time.
      timeout_s: seconds for a whole answer.
      attempts: tries of a question while the endpoint is busy.
      backoff_s: longest wait before the second try; doubles with each, and is drawn at random.
    """

    address: str
    model: str
    temperature: float
    max_tokens: int
    concurrency: int = 8
    timeout_s: float = 600.0
    attempts: int = 6
    backoff_s: float = 1.0


def check_address(address: str) -> None:
    """Refuses what is no address of an endpoint.

    Args:
      address: as the user typed it.

    Raises:
      Refusal: naming what is wrong, without what may be a key.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname)
        has_secret = parts.username is not None or bool(parts.query)
    except ValueError:
        fits = has_secret = False
    if has_secret:
        raise Refusal(
            "--endpoint must be an address without user name and query: they may hold a key.",
            f"Set the environment variable {KEY_VARIABLE} instead.",
        )
    if not fits:
        raise Refusal(
            f"--endpoint must be an address with http or https, got {shown(address)}.",
            "For example http://localhost:8000/v1.",
        )


def only_model(address: str) -> str:
    """The model of an endpoint that has one.

    Args:
      address: of the endpoint.

    Returns:
      Its name.

    Raises:
      Failure: when the endpoint cannot be reached.
      Refusal: when it lists another number of models.
    """
    with _Connection(address, timeout_s=30.0, concurrency=1) as connection:
        try:
            found = connection.json("GET", "models")
        except (Busy, QuestionRefused) as error:
            raise _down(address, error) from None
    entries = found.get("data") if isinstance(found, dict) else None
    names = [entry.get("id") for entry in entries or () if isinstance(entry, dict)]
    if len(names) != 1 or not isinstance(names[0], str):
        listed = ", ".join(map(excerpt, names[:5])) or "none"
        raise Refusal(
            f"--endpoint {address} must list one model, got {listed}.",
            "Name the model with --endpoint-model.",
        )
    return names[0]


def write(endpoint: Endpoint, questions: Sequence[Question]) -> Iterator[Written]:
    """Asks questions, several at a time, and gives each answer as it is there.

    A question that the endpoint refuses, such as one that is too long, is left out with a warning.

    Args:
      endpoint: whom to ask.
      questions: at least one.

    Yields:
      The answers, in the order in which they come.

    Raises:
      Failure: when the endpoint cannot be used, or no longer.
    """
    left = list(questions)
    with _Connection(endpoint.address, endpoint.timeout_s, endpoint.concurrency) as connection:
        tries = _tries(endpoint, connection)
        # One at a time at first: a wrong address, key or setting is one error, not eight.
        while left and not connection.has_served:
            question = left.pop(0)
            try:
                yield _asked(endpoint, connection, tries, question)
            except QuestionRefused as error:
                _warn(question, error)
                if len(questions) - len(left) == min(HOPELESS, len(questions)):
                    raise _down(endpoint.address, error) from None
        pool = ThreadPoolExecutor(endpoint.concurrency)
        try:
            jobs = {pool.submit(_asked, endpoint, connection, tries, one): one for one in left}
            for job in as_completed(jobs):
                try:
                    yield job.result()
                except QuestionRefused as error:
                    _warn(jobs[job], error)
        finally:
            connection.ended.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _warn(question: Question, error: QuestionRefused) -> None:
    key = excerpt(question.item.key)
    LOG.warning("The endpoint does not answer prompt %s: %s.", key, error)


def _asked(
    endpoint: Endpoint, connection: "_Connection", tries: Any, question: Question
) -> Written:
    body = {
        "model": endpoint.model,
        "messages": question.prompt,
        "temperature": endpoint.temperature,
        "max_tokens": endpoint.max_tokens,
        "seed": question.seed,
    }
    try:
        found = tries(connection.json, "POST", "chat/completions", body)
    except Busy as error:
        raise _down(endpoint.address, error) from None
    try:
        choice = found["choices"][0]
        content = choice["message"]["content"]
        ended = choice.get("finish_reason")
    except (LookupError, TypeError, AttributeError):
        content, ended = found, None
    if content is None and ended == "length":  # all its tokens went into thinking
        content = ""
    if not isinstance(content, str):
        raise _down(
            endpoint.address, f"it does not speak OpenAI's chat protocol: {excerpt(content)}"
        )
    return Written(question, content, ended == "length")


def _down(address: str, error: object) -> Failure:
    return Failure(
        f"the endpoint {address} cannot be used: {error}.\n  {_REMEDY}; then start again: the "
        "answers so far are kept."
    )


class _Connection:
    """Connections to an endpoint, with the key."""

    def __init__(self, address: str, timeout_s: float, concurrency: int) -> None:
        try:
            import httpx2
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "--endpoint needs httpx2.\n  Install it: pip install 'rvpo-jax[judge]'"
            ) from None
        self._httpx, self._address, self._timeout_s = httpx2, address.rstrip("/"), timeout_s
        self._key = _key()
        self.has_served, self.ended = False, threading.Event()
        headers = {"Accept-Encoding": "identity"}  # a few bytes must not unpack to many
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(timeout_s, pool=None),
            limits=httpx2.Limits(max_connections=concurrency),
            headers=headers,
        )

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What the endpoint says; raises Busy, QuestionRefused or Failure where it does not."""
        if self.ended.is_set():
            raise _down(self._address, "the evaluation ends")
        status, headers, data = self._fetch(method, path, body)
        if status == 200:
            self.has_served = True
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(data)
            raise _down(self._address, f"it does not speak OpenAI's protocol: {self._shown(data)}")
        said = f"status {status}: {self._shown(data)}"
        if status in _BUSY or status >= 500:
            raise Busy(said, _retry_after(headers.get("retry-after")))
        if status in _REFUSED and body is not None:
            raise QuestionRefused(said)
        raise _down(self._address, said)

    def _fetch(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        ends, data = time.monotonic() + self._timeout_s, b""
        try:
            with self._client.stream(method, f"{self._address}/{path}", json=body) as response:
                for part in response.iter_bytes():
                    data += part
                    # A server that sends a byte now and then never runs into the client's limit.
                    if time.monotonic() > ends:
                        raise Busy(f"no whole answer within {self._timeout_s:g} s")
                    if len(data) > MAX_BYTES:
                        raise _down(self._address, f"it answers with more than {MAX_BYTES} bytes")
                return response.status_code, response.headers, data
        except self._httpx.TimeoutException:
            raise Busy(f"no answer within {self._timeout_s:g} s") from None
        except self._httpx.RequestError as error:
            raise Busy(self._shown(str(error) or type(error).__name__)) from None

    def _shown(self, value: str | bytes) -> str:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        # Some servers quote the key that they do not accept.
        return excerpt(text.replace(self._key, "***") if self._key else text, 160)


def _key() -> str:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if key and (not (key.isascii() and key.isprintable()) or " " in key):
        raise Refusal(
            f"the environment variable {KEY_VARIABLE} does not hold a key: it has spaces or "
            "characters that no HTTP header can hold.",
            "Set it to the key alone.",
        )
    return key


def _tries(endpoint: Endpoint, connection: _Connection) -> Any:
    """Calls again while the endpoint is busy; waits grow and are drawn at random.

    One that never said anything is not waited for: its address is wrong.
    """
    try:
        import tenacity
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "--endpoint needs tenacity.\n  Install it: pip install 'rvpo-jax[judge]'"
        ) from None
    backoff = tenacity.wait_random_exponential(endpoint.backoff_s, max=MAX_WAIT_S)

    def is_worth_it(error: BaseException) -> bool:
        return isinstance(error, Busy) and (connection.has_served or error.wait_s is not None)

    def wait_s(state: Any) -> float:
        asked = getattr(state.outcome.exception(), "wait_s", None) or 0.0
        return min(max(asked, backoff(state)), MAX_WAIT_S)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_worth_it),
        stop=tenacity.stop_after_attempt(endpoint.attempts),
        wait=wait_s,
        sleep=tenacity.sleep_using_event(connection.ended),
        reraise=True,
    )


def _retry_after(value: str | None) -> float:
    try:
        seconds = float(value or 0)
    except ValueError:
        return 0.0
    return seconds if 0 < seconds < MAX_WAIT_S else 0.0
