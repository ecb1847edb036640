"""Four of IFEval's 25 kinds of instruction, each a channel for the prompts that ask for it.

For a short run on IFEval's prompts; the README has the command.
"""

import re

from rvpo_jax.rewards import reward_channel


def kind(name):
    """A channel that is 1 where ``met(text, arguments)`` holds, absent where not asked for."""

    def decorate(met):
        @reward_channel(name=name.partition(":")[2])
        def reward(completions, examples):
            return [
                None if arguments is None else float(bool(text.strip()) and met(text, arguments))
                for text, arguments in zip(
                    completions, (asked(example, name) for example in examples), strict=True
                )
            ]

        return reward

    return decorate


def asked(example, name):
    """The arguments of an instruction, or None where the prompt does not have it."""
    names = list(example["instruction_id_list"])
    return example["kwargs"][names.index(name)] if name in names else None


@kind("punctuation:no_comma")
def no_comma(text, arguments):
    """No comma."""
    return "," not in text


@kind("change_case:english_lowercase")
def lowercase(text, arguments):
    """No capital letter."""
    return text == text.lower()


@kind("keywords:existence")
def existence(text, arguments):
    """Every keyword is there."""
    return all(re.search(re.escape(word), text, re.IGNORECASE) for word in arguments["keywords"])


@kind("keywords:forbidden_words")
def forbidden_words(text, arguments):
    """No forbidden word is there."""
    words = map(re.escape, arguments["forbidden_words"])
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in words)
