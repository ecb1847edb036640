"""Prompts with six instructions each, and what is needed to check them."""

import itertools
import json
import random
from pathlib import Path

from rvpo_jax.basics.files import write_text

TOPICS = (
    "the sea", "cats", "winter", "trains", "bread", "the moon", "rivers", "old books", "music",
    "bees", "mountains", "tea", "clouds", "bicycles", "gardens", "dreams",
)  # fmt: skip
KEYWORDS = ("blue", "slowly", "golden", "always", "seven", "window", "quiet", "river")
NAMES = ("Anna", "Marco", "Lena", "Peter", "Sofia", "Daniel")


def prompt(topic: str, keyword: str, name: str) -> str:
    """The user's message."""
    return (
        f"Write one sentence about {topic} for my friend {name}. Do not write the name of my "
        f'friend. Include the word "{keyword}". Do not use any commas. Use only lowercase '
        "letters. End the sentence with an exclamation mark."
    )


def write_prompts(path: Path) -> Path:
    """One row for each topic, keyword and name, in an order that is always the same.

    Args:
      path: a .jsonl file, made if it is not there.

    Returns:
      The path.
    """
    rows = [
        {
            "prompt": [{"role": "user", "content": prompt(topic, keyword, name)}],
            "keyword": keyword,
            "secret": name,
        }
        for topic, keyword, name in itertools.product(TOPICS, KEYWORDS, NAMES)
    ]
    return write_rows(rows, path)


def write_rows(rows: list[dict], path: Path) -> Path:
    """Writes rows in an order that is always the same, and returns the path."""
    random.Random(0).shuffle(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path
