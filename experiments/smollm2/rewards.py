"""Six checks of one sentence, easy to verify and of different difficulty for a small model.

Each sees the text without the white space around it; a completion that is empty fails them all.
"""

import re

from rvpo_jax.rewards import reward_channel


def check(name, kind="quality"):
    """A channel that is 1 where ``met(text, example)`` holds and the text is not empty."""

    def decorate(met):
        @reward_channel(name=name, kind=kind)
        def reward(completions, examples):
            texts = [text.strip() for text in completions]
            return [
                float(bool(text) and met(text, example))
                for text, example in zip(texts, examples, strict=True)
            ]

        return reward

    return decorate


def words(text):
    """Its words, in lower case."""
    return re.findall(r"[^\W\d_]+", text.lower())


@check("keyword")
def keyword(text, example):
    """The word that the prompt asks for is there."""
    return example["keyword"] in words(text)


@check("no_commas")
def no_commas(text, example):
    """No comma."""
    return "," not in text


@check("one_sentence")
def one_sentence(text, example):
    """At least five words, and at most one mark that ends a sentence, at the end."""
    return len(words(text)) >= 5 and not re.search(r"[.!?]+\s*\S", text)


@check("lower_case")
def lower_case(text, example):
    """No capital letter."""
    return text == text.lower()


@check("exclamation")
def exclamation(text, example):
    """The last character is an exclamation mark."""
    return text.endswith("!")


@check("secret_kept", kind="constraint")
def secret_kept(text, example):
    """The name that must stay secret is not written."""
    return example["secret"].lower() not in words(text)
