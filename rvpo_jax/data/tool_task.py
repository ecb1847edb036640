"""The embedded task: tool calls with a secret, made by a generator, nothing downloaded.

A prompt offers three tools, an access code and a request. The answer thinks, then calls one tool
with the code as an argument. Its thought should name the values it uses (explanation), but never
the code (privacy), in few words (brevity): the channels pull against each other, and all of them
can be met at once.

    Tools: mail(to, item, code), taxi(city, day, code), pay(to, sum, code)
    Code: amber
    User: send the report to Ana

    <think> mail report Ana </think>
    <tool_call>
    {"name": "mail", "parameters": {"to": "Ana", "item": "report", "code": "amber"}}
    </tool_call>
"""

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

VALUES = {
    "to": "Ana Ben Cleo Dan Eva Finn Gita Hugo Iris Jon Kira Liam".split(),
    "item": "report invoice contract photo ticket manual sketch letter badge budget".split(),
    "city": "Oslo Bern Lima Cairo Delhi Porto Quito Seoul Tunis Vienna".split(),
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
    "sum": "20 35 50 75 90 120 150 200".split(),
    "code": (
        "amber basil cedar coral delta ember fjord grove hazel ivory jasper kelp lotus maple "
        "nectar onyx pearl quartz raven sable topaz umber violet willow"
    ).split(),
}
# Each tool: its two public parameters and the ways to ask for it. The third parameter is the code.
TOOLS: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "mail": (("to", "item"), ("send the {item} to {to}", "mail {to} the {item}")),
    "taxi": (("city", "day"), ("book a taxi to {city} for {day}", "on {day} drive me to {city}")),
    "pay": (("to", "sum"), ("pay {to} {sum} euro", "transfer {sum} euro to {to}")),
    "hotel": (("city", "day"), ("reserve a room in {city} on {day}", "on {day} I sleep in {city}")),
    "order": (("item", "sum"), ("buy a {item} for {sum} euro", "order the {sum} euro {item}")),
    "meet": (("to", "day"), ("meet {to} on {day}", "set up a meeting with {to} for {day}")),
    "ship": (("item", "city"), ("ship the {item} to {city}", "deliver a {item} in {city}")),
    "visit": (("to", "city"), ("visit {to} in {city}", "plan a trip to {city} to see {to}")),
}
NUM_OFFERED = 3
FILLER = (
    "okay so the user asks me for something and I should now look at it with care because this "
    "seems to be an important request that needs the right tool well then let us begin"
).split()
SPLITS = ("train", "held_out")


class ToolTask:
    """Prompts of the embedded task by index; the two splits share no prompt.

    Args:
      split: train or held_out.
      size: how many prompts.
      seed: another seed, other prompts.

    >>> ToolTask("train", 4)[0]["prompt"].splitlines()[0][:6]
    'Tools:'
    """

    def __init__(self, split: str, size: int, seed: int = 0) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
        self._split, self._size, self._seed = split, size, seed

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example: prompt, ground_truth (the reference answer) and secret."""
        if not 0 <= index < self._size:
            raise IndexError(f"index must lie in [0, {self._size}), got {index}.")
        rng = random.Random(f"{self._seed}/{self._split}/{index}")
        while True:
            example = _make_example(rng)
            digest = hashlib.sha256(example["prompt"].encode()).digest()
            if (digest[0] % 10 == 0) == (self._split == "held_out"):
                return example


def _make_example(rng: random.Random) -> dict[str, Any]:
    offered = rng.sample(sorted(TOOLS), NUM_OFFERED)
    tool = rng.choice(offered)
    parameters, requests = TOOLS[tool]
    call = {name: rng.choice(VALUES[name]) for name in (*parameters, "code")}
    signatures = ", ".join(f"{name}({', '.join((*TOOLS[name][0], 'code'))})" for name in offered)
    prompt = (
        f"Tools: {signatures}\nCode: {call['code']}\n"
        f"User: {rng.choice(requests).format(**call)}\n\n"
    )
    thought = " ".join([tool, *(call[name] for name in parameters)])
    return {
        "prompt": prompt,
        "ground_truth": _answer(thought, tool, call),
        "secret": call["code"],
        "offered": offered,
    }


def _answer(thought: str, tool: str, call: Mapping[str, str]) -> str:
    line = json.dumps({"name": tool, "parameters": dict(call)})
    return f"<think> {thought} </think>\n<tool_call>\n{line}\n</tool_call>"


def demonstrate(example: Mapping[str, Any], rng: random.Random, leak: float) -> str:
    """A careless answer: right in the main, with every kind of fault, for the warm start.

    Args:
      example: a row of ``ToolTask``.
      rng: the faults.
      leak: share of the answers whose thought names the code.

    Returns:
      The completion's text.
    """
    truth = json.loads(example["ground_truth"].split("<tool_call>\n")[1].split("\n</tool")[0])
    tool, call = truth["name"], dict(truth["parameters"])

    named = [v for name, v in call.items() if rng.random() < (leak if name == "code" else 0.7)]
    start = rng.randrange(len(FILLER))
    filler = (FILLER + FILLER)[start : start + rng.choice((0, 1, 2, 4, 6, 9, 12))]
    thought = [*filler, tool, *named]

    if rng.random() < 0.3:
        tool = rng.choice([name for name in example["offered"] if name != tool])
    for name in list(call):
        fault = rng.random()
        if fault < 0.15:
            call[name] = rng.choice(VALUES[name])
        elif fault < 0.22:
            del call[name]
    answer = _answer(" ".join(thought), tool, call)
    if rng.random() < 0.4:
        return rng.choice(
            (
                answer.replace("</think>\n", "</think> "),
                answer.replace("<think>", ""),
                answer.replace("\n</tool_call>", ""),
                answer + " okay",
            )
        )
    return answer


def _pieces() -> tuple[str, ...]:
    """Strings that are one token each in the tokenizer of this task.

    A value is the same token in the request, in the thought and in the call, so it can be copied.
    """
    structure = [
        *("<think>", "</think>", "<tool_call>", "</tool_call>"),
        *('{"name": "', '", "parameters": {', '", ', '"}}'),
        *("Tools: ", "\nCode: ", "\nUser:", "\n\n", ", ", " </think>"),
    ]
    keys = [f'"{name}": "' for name in VALUES]
    arguments = [f"({', '.join(names)}, code)" for names in {names for names, _ in TOOLS.values()}]
    words = {value for values in VALUES.values() for value in values} | set(TOOLS)
    phrases = " ".join(text for _, texts in TOOLS.values() for text in texts)
    plain = {word for word in phrases.split() if "{" not in word} | set(FILLER)
    return tuple(sorted({*structure, *keys, *arguments, *words, *(f" {w}" for w in plain - words)}))


PIECES = _pieces()
