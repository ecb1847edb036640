"""Items from the rows of a task's file: each has its name once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.run.evaluation.items import Item

OPTION = "--task-path"


def items_of(
    rows: Iterable[Mapping[str, Any]],
    key: Callable[[int, Mapping[str, Any]], Any],
    columns: tuple[str, ...],
    task: str,
) -> list[Item]:
    """Items in the order of the rows.

    Args:
      rows: of the task's file.
      key: names a row, from its place and itself.
      columns: that a row must have.
      task: for messages.

    Returns:
      One per row.

    Raises:
      Refusal: when a column is missing, or two rows have one name.
    """
    items: dict[str, Item] = {}
    for place, row in enumerate(rows):
        missing = [name for name in columns if row.get(name) is None]
        if missing:
            raise Refusal(
                f"row {place + 1} of {OPTION} must have the columns of {task}: "
                f"{', '.join(columns)}; {', '.join(missing)} is missing (columns: "
                f"{excerpt(', '.join(map(str, row)))}).",
                f"Give the original file of {task}.",
            )
        item = Item(key=str(key(place, row)), row=row)
        if item.key in items:
            raise Refusal(
                f"{OPTION} must have each row once, got {excerpt(item.key)} twice.",
                "Remove one of them.",
            )
        items[item.key] = item
    return list(items.values())
