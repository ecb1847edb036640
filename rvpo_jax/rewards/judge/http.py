"""One call over HTTP, bounded in time and size, and what its failure means.

httpx2 is the maintained line of httpx, which has had no release since 2024.
"""

import datetime
import email.utils
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.judge.cache import Reply
from rvpo_jax.rewards.judge.settings import Judge

MAX_BYTES = 4_000_000  # of a response, reasoning included
CUT = "cut at its token limit"  # a problem of a reply
_BUSY = (408, 409, 425, 429)
_WRONG_SETTING = {
    401: "the key is not accepted",
    402: "the account has no credit",
    403: "the key may not use this model",
    404: "there is no such address or model",
    405: "the address takes no chat completions",
}
_PROTOCOL = "it does not speak OpenAI's chat protocol"


class CallFailed(Exception):
    """A call without a reply.

    Attributes:
      again: another try may be served.
      fatal: no call can be served until a setting is changed.
      billed: the endpoint may have done the work all the same.
      wait_s: seconds that the endpoint asked to wait.
      status: of its answer; None: it did not answer, or with something else.
    """

    def __init__(
        self,
        reason: str,
        *,
        again: bool = True,
        fatal: bool = False,
        billed: bool = False,
        wait_s: float = 0.0,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.again, self.fatal, self.billed, self.wait_s = again, fatal, billed, wait_s
        self.status = status


class Endpoint:
    """The connections to a judge; a context manager that closes them.

    Args:
      judge: where it is, and its time limit.

    Raises:
      ModuleNotFoundError: when httpx2 is not installed.
      Refusal: when the key is missing or is none.
    """

    def __init__(self, judge: Judge) -> None:
        try:
            import httpx2
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "an OpenAI-compatible endpoint needs httpx2.\n"
                "  Install it: pip install 'rvpo-jax[judge]'"
            ) from None
        self._httpx, self._judge = httpx2, judge
        self._key = _key(judge)
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(judge.timeout_s, pool=None),
            limits=httpx2.Limits(
                max_connections=judge.concurrency, max_keepalive_connections=judge.concurrency
            ),
            # Not compressed: a few bytes must not unpack to many.
            headers={"Accept-Encoding": "identity"}
            | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
        )

    def call(self, body: Mapping[str, Any]) -> Reply:
        """Asks once.

        Args:
          body: of the request.

        Returns:
          The reply.

        Raises:
          CallFailed: when there is none; no message of it holds the key.
        """
        url = f"{self._judge.endpoint.rstrip('/')}/chat/completions"
        ends = time.monotonic() + self._judge.timeout_s
        try:
            with self._client.stream("POST", url, json=body) as response:
                status, headers = response.status_code, response.headers
                data = b""
                for part in response.iter_bytes():
                    data += part
                    # A server that sends a byte now and then never runs into httpx's own limit.
                    if time.monotonic() > ends:
                        reason = f"no whole answer within {self._judge.timeout_s:g} s"
                        raise CallFailed(reason, billed=True)
                    if len(data) > MAX_BYTES:
                        reason = f"an answer of more than {MAX_BYTES} bytes"
                        raise CallFailed(reason, again=False, billed=True)
        except self._httpx.TimeoutException:
            reason = f"no answer within {self._judge.timeout_s:g} s"
            raise CallFailed(reason, billed=True) from None
        except self._httpx.RequestError as error:
            reason = self._shown(error) if str(error) else f"'{type(error).__name__}'"
            if isinstance(error, self._httpx.RemoteProtocolError):
                reason = f"it broke off, or does not speak HTTP: {reason}"
            raise CallFailed(reason) from None
        if status != 200:
            raise self._refused(status, headers, data)
        return self._reply(data)

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def _refused(self, status: int, headers: Mapping[str, str], data: bytes) -> CallFailed:
        said = f"status {status}: {self._shown(_message(data))}"
        if status in _WRONG_SETTING:
            return CallFailed(f"{_WRONG_SETTING[status]} ({said})", again=False, fatal=True)
        if 300 <= status < 400:
            return CallFailed(f"it sends calls elsewhere ({said})", again=False, fatal=True)
        again = status in _BUSY or status >= 500
        wait_s = _retry_after(headers.get("retry-after"))
        return CallFailed(said, again=again, wait_s=wait_s, status=status)

    def _reply(self, data: bytes) -> Reply:
        found = _parsed(data)
        try:
            choice = found["choices"][0]
            message = choice["message"]
            content = message["content"]
            ended = choice.get("finish_reason")
        except (LookupError, TypeError, AttributeError):
            raise CallFailed(f"{_PROTOCOL}: {self._shown(data[:200])}", billed=True) from None
        usage = found.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        has_text = isinstance(content, str) and bool(content.strip())
        problem = CUT if ended == "length" else "" if has_text else "no text"
        return Reply(
            content if has_text else "",
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            problem,
        )

    def _shown(self, value: object) -> str:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        # Some servers quote the key that they do not accept.
        return excerpt(text.replace(self._key, "***") if self._key else text, 160)


def _key(judge: Judge) -> str:
    if judge.key_variable is None:
        return ""
    key = os.environ.get(judge.key_variable, "").strip()
    if not key:
        raise Refusal(
            f"the judge at {judge.endpoint} needs a key, but the environment variable "
            f"{judge.key_variable} is not set.",
            "Set it, or set judge.key_variable to None for an endpoint that needs none.",
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise Refusal(
            f"the environment variable {judge.key_variable} does not hold a key: it has spaces or "
            "characters that no HTTP header can hold.",
            "Set it to the key alone.",
        )
    return key


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _message(data: bytes) -> object:
    """What a server says about its refusal: OpenAI's error.message, FastAPI's detail, the body."""
    found = _parsed(data)
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    return found if isinstance(found, str) else data[:400]


def _retry_after(value: str | None) -> float:
    """Seconds: the header holds their number or a date."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        if when.tzinfo is None:
            return 0.0
        seconds = (when - datetime.datetime.now(datetime.UTC)).total_seconds()
    return seconds if 0 < seconds < 1e9 else 0.0


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    return None
