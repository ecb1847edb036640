"""IFEval's instructions about the text as a whole: how it starts and ends, and two answers in one.

Each function judges one text, in time linear in its length.
"""


def repeats_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """``combination:repeat_prompt``: the text starts with the prompt, in any case.

    Args:
      text: A completion.
      prompt_to_repeat: What must be repeated; white space around it does not count.

    Returns:
      The verdict.

    >>> repeats_prompt(" write a song. La la.", prompt_to_repeat="Write a song.")
    True
    """
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def has_two_responses(text: str) -> bool:
    """``combination:two_responses``: two different answers between six asterisks.

    An empty part at either end does not count, one between two others is a failure.

    Args:
      text: A completion.

    Returns:
      The verdict.

    >>> has_two_responses("Yes. ****** No."), has_two_responses("Yes. ****** Yes.")
    (True, False)
    """
    parts = [part.strip() for part in text.split("******")]
    answers = [part for part in parts if part]
    return all(parts[1:-1]) and len(answers) == 2 and answers[0] != answers[1]


def ends_with(text: str, *, end_phrase: str) -> bool:
    """``startend:end_checker``: the text ends with the phrase, in any case.

    White space and double quotation marks around the text do not count.

    Args:
      text: A completion.
      end_phrase: How it must end.

    Returns:
      The verdict.

    >>> ends_with('"That is all!"', end_phrase="that is all!")
    True
    """
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def is_quoted(text: str) -> bool:
    """``startend:quotation``: the text stands in double quotation marks.

    Args:
      text: A completion.

    Returns:
      The verdict.

    >>> is_quoted(' "Yes." '), is_quoted('"')
    (True, False)
    """
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'
