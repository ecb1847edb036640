"""Texts of prompts and completions as they are shown, whatever a log holds there."""

from typing import Any

from .values import canonical


def to_text(value: Any) -> str | None:
    """A prompt or completion as one text that every encoding can write.

    Args:
      value: A text, a message with role and content, a list of texts or messages, or None.

    Returns:
      The text; messages are separated by blank lines and named by their roles, a single one not.

    >>> to_text([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}])
    'user: Hi\\n\\nassistant: Yes?'
    """
    if value is None or value != value:
        return None
    if isinstance(value, list):
        parts = [_message_text(item, named=len(value) > 1) for item in value]
        value = "\n\n".join(parts)
    elif isinstance(value, dict):
        value = _message_text(value, named=False)
    elif not isinstance(value, str):
        value = canonical(value).decode("utf-8", "replace")
    return value.encode("utf-8", "replace").decode()


def _message_text(value: Any, named: bool) -> str:
    if not isinstance(value, dict):
        return value if isinstance(value, str) else canonical(value).decode("utf-8", "replace")
    content = value.get("content")
    if not isinstance(content, str) or set(value) - {"role", "content"}:
        kept = {key: item for key, item in value.items() if key != "role" and item is not None}
        content = content if kept == {"content": content} else canonical(kept).decode()
    text = content if isinstance(content, str) else canonical(content).decode()
    return f"{value['role']}: {text}" if named and value.get("role") else text
