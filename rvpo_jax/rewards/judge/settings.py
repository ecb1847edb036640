"""The judge that a run asks: where it is, how it is asked, and what it may cost."""

import dataclasses
import json
import urllib.parse
from typing import Annotated, Any, Literal

from rvpo_jax.basics.bounds import Bound, Checked, shown
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config.bounds import OrOff, Positive

_DECIDED = frozenset(
    "model messages response_format temperature stream n max_tokens max_completion_tokens".split()
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge(Checked, section="judge"):
    """A language model behind an OpenAI-compatible endpoint.

    Rates, budget, counts and the cache of verdicts are those of one file, which all processes of a
    run on one machine share. ``concurrency`` is of each process. Runs on several hosts have a file
    each: give every host its part of the rates and of the budget.

    >>> Judge(endpoint="http://localhost:8000/v1", model="Qwen2.5-7B-Instruct").attempts
    6
    """

    endpoint: str
    """Address up to and including the version, such as https://api.openai.com/v1; requests go to
    ENDPOINT/chat/completions. It holds no key."""
    model: str
    """Name of the model, as the endpoint knows it."""
    key_variable: str | None = "OPENAI_API_KEY"
    """Environment variable with the key; None: the endpoint needs none."""
    ask: Literal["completion", "item"] = "completion"
    """One call per completion with all its items, or one per item: more calls, and an item cannot
    colour the verdict on another."""
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    """What the endpoint is asked to enforce; the reply is checked strictly in any case."""
    explain: bool = False
    """Have the judge write a sentence before each verdict: dearer, and usually more reliable."""
    temperature: Annotated[float | None, Bound(ge=0)] = 0.0
    """Sampling temperature of the judge; None leaves it out, for endpoints that refuse it."""
    max_tokens: Annotated[int | None, Positive] = None
    """Longest reply, tokens; None: enough for the verdicts asked for."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls it."""
    extra: str = "{}"
    """Further fields of each request, a JSON object, such as {"reasoning_effort": "low"}."""
    concurrency: Annotated[int, Positive] = 16
    """Calls under way at the same time, per process."""
    requests_per_min: Annotated[float | None, Positive] = None
    """Calls started per minute; None: as many as there are."""
    tokens_per_min: Annotated[float | None, Positive] = None
    """Tokens of prompts and replies per minute; None: no limit."""
    timeout_s: Annotated[float, Positive] = 60.0
    """Seconds after which a call without a complete reply counts as failed."""
    attempts: Annotated[int, Positive] = 6
    """Tries of a call that the endpoint did not serve."""
    invalid_attempts: Annotated[int, Positive] = 2
    """Tries of a call whose reply is not the verdicts asked for."""
    backoff_s: Annotated[float, Positive] = 1.0
    """Longest wait before the second try, seconds; doubles with each try; drawn at random."""
    max_wait_s: Annotated[float, Positive] = 60.0
    """Longest wait between two tries; an endpoint that asks for more is not waited for."""
    give_up_after: Annotated[int, OrOff] = 8
    """Calls in a row, all tries included, that the endpoint did not serve, after which the run
    stops with an error; 0: never, and what cannot be had is not scored."""
    max_calls: Annotated[int | None, Positive] = None
    """Calls that the run may make, tries included; None: no limit."""
    max_cost: Annotated[float | None, Positive] = None
    """What the run may cost, in the unit of the prices; None: no limit."""
    input_price: Annotated[float, OrOff] = 0.0
    """Price of a million tokens of prompts."""
    output_price: Annotated[float, OrOff] = 0.0
    """Price of a million tokens of replies."""
    file: str | None = None
    """SQLite file with verdicts, rates and budget; None: judge.sqlite in the run's folder, and
    outside of a run in memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_address("judge.endpoint", self.endpoint)
        if not self.model:
            raise Refusal("judge.model must name a model, got ''.", "Give the endpoint's name.")
        if self.max_cost is not None and not self.input_price + self.output_price:
            raise Refusal(
                f"judge.max_cost {self.max_cost:g} needs prices, got 0 for both.",
                "Give input_price and output_price, per million tokens.",
            )
        taken = sorted(_DECIDED & self.extra_fields.keys())
        if taken:
            raise Refusal(
                f"judge.extra must not set {', '.join(taken)}.", "The other settings decide those."
            )

    @property
    def extra_fields(self) -> dict[str, Any]:
        """What ``extra`` says."""
        try:
            fields = json.loads(self.extra)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise Refusal(
                f"judge.extra must be a JSON object, got {shown(self.extra)}.",
                'For example {"reasoning_effort": "low"}.',
            )
        return fields

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """What so many tokens cost.

        >>> judge = Judge(endpoint="http://h/v1", model="m", input_price=2.0, output_price=8.0)
        >>> judge.cost(1000, 100)
        0.0028
        """
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6


def check_address(name: str, endpoint: str) -> None:
    """Refuses what is no address of an endpoint.

    Args:
      name: what the user calls it.
      endpoint: the address.

    Raises:
      Refusal: naming what is wrong, without what may be a key.
    """
    try:
        url = urllib.parse.urlsplit(endpoint)
        fits = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        fits = False
    if not fits or not endpoint.isprintable() or " " in endpoint:
        raise Refusal(
            f"{name} must be an http or https address, got {shown(endpoint)}.",
            "For example http://localhost:8000/v1.",
        )
    if url.username is not None or url.query or url.fragment:
        # Not quoted: what stands there may be the key.
        raise Refusal(
            f"{name} must hold no user, password, query or fragment.",
            "Give the key in an environment variable.",
        )
    if url.path.rstrip("/").endswith("/chat/completions"):
        raise Refusal(
            f"{name} must end before /chat/completions, got {shown(endpoint)}.",
            "For example http://localhost:8000/v1.",
        )
