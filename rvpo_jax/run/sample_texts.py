"""Texts that rewards are tried on before a policy writes any: good ones, bad ones, odd ones."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rvpo_jax.data.tool_task import demonstrate
from rvpo_jax.rewards import Example

# Where data sets keep a reference answer; RLLA's stands inside reward_model.
ANSWERS = "ground_truth answer solution completion response output target chosen".split()
FIXED_TEXTS = {
    "empty": "",
    "long": "The same words come again and again. " * 60,
    "odd signs": "e\u0301 \ufb01 \u202eabc\u202c \x00 \ufffd \U0001f469\u200d\U0001f467 日本",
    "open tags": '<think> a <tool_call>\n{"name": [[[[ </response> </think> <think',
}


class Sample(NamedTuple):
    """A text that the rewards are tried on."""

    kind: str
    text: str
    example: Example


def sample_texts(examples: Sequence[Example], *, embedded: bool = False) -> list[Sample]:
    """Texts that a policy may come up with, good and bad ones.

    Args:
      examples: Rows of the data.
      embedded: See ``dry_run``.

    Returns:
      For each row: nothing, a long text, odd characters, unbalanced tags, the prompt itself, the
      row's answer and that of another row, if there are any, and for the embedded task answers
      with faults.

    >>> rows = [{"prompt": "1 + 1?", "answer": "2"}, {"prompt": "1 + 2?", "answer": "3"}]
    >>> [sample.text for sample in sample_texts(rows) if "answer" in sample.kind]
    ['2', '3', '3', '2']
    """
    answers = [_answer(example) for example in examples]
    samples = []
    for index, example in enumerate(examples):
        texts: dict[str, str | None] = {
            **FIXED_TEXTS,
            "its prompt": _text(example.get("prompt")),
            "its answer": answers[index],
            "other answer": answers[index - 1] if len(answers) > 1 else None,
        }
        if embedded:
            rng = random.Random(index)
            texts |= {f"careless {i}": demonstrate(example, rng, leak=0.5) for i in (1, 2)}
        samples += [Sample(kind, text, example) for kind, text in texts.items() if text is not None]
    return samples


def spread(source: Any, num: int = 2) -> list[Example]:
    """Rows at equal distances: the first rows of a file may all be of one kind.

    Args:
      source: Rows by number: a list, or anything with a length and random access.
      num: How many, or all where there are fewer.

    Returns:
      Rows in their order.

    >>> spread([{"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}, {"prompt": "d"}])
    [{'prompt': 'a'}, {'prompt': 'c'}]
    """
    num = min(num, len(source))
    return [source[index * len(source) // num] for index in range(num)]


def _answer(example: Example) -> str | None:
    """The reference answer of a row, if it has one under a usual name."""
    nested = example.get("reward_model")
    places = (example, nested) if isinstance(nested, Mapping) else (example,)
    texts = (_text(place.get(column)) for place in places for column in ANSWERS)
    return next((text for text in texts if text is not None), None)


def _text(value: Any) -> str | None:
    """A text, or the last message's; None for anything else."""
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        value = value[-1].get("content")
    return value if isinstance(value, str) else None
