"""Rows as a trainer writes them to rows with a prompt, a completion and a number per channel.

Every function takes one flattened row and gives the rows of its completions. Whatever is in it,
none raises: what is not as the writer has it stays as it is, and is then counted by its column.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from .parts import Row, flatten

Expand = Callable[[Row], list[Row]]
MAX_IN_ROW = 1 << 16  # completions of a row; one more tells that there are too many


def expand_nemo(row: Row) -> list[Row]:
    """A row of NeMo RL with a prompt and a completion.

    ``content`` is the texts or messages of the sample, the first of which is the prompt; a single
    flat text has no prompt to be told from. It is in a list of one, as every value may be, because
    batches of one are written.

    Args:
      row: As parsed.

    Returns:
      One row; ``content`` is replaced.

    >>> expand_nemo({"content": [["2+2=", "4"]], "rewards": [1.0], "idx": [7]})
    [{'rewards': [1.0], 'idx': [7], 'prompt': '2+2=', 'completion': '4'}]
    """
    plain = {name: value for name, value in row.items() if name != "content"}
    content = _unwrap(row.get("content"))
    if isinstance(content, list) and content:
        return [plain | {"prompt": content[0], "completion": _unwrap(content[1:])}]
    return [plain if content is None else plain | {"completion": content}]


def expand_verifiers(row: Row) -> list[Row]:
    """An episode or a trace of verifiers from 0.2 on, which prime-rl logs too.

    A trace has its rewards by name, and a graph of messages, of which the model wrote those that
    are ``sampled``. Its metrics judge nothing unless somebody names them. Rows of older versions
    are as they should be.

    Args:
      row: As parsed.

    Returns:
      One row per trace; an episode without traces, which failed, is one without rewards.

    >>> node = {"message": {"role": "assistant", "content": "4"}, "sampled": True}
    >>> task = {"type": "Sum", "data": {"prompt": "2+2="}}
    >>> expand_verifiers({"task": task, "nodes": [node], "rewards.r": {"score": 1.0}})
    [{'prompt': '2+2=', 'completion': [{'role': 'assistant', 'content': '4'}], 'rewards.r': 1.0}]
    """
    if not isinstance(row.get("task"), dict):
        return [row]
    about = {
        "step": _inside(row, "run", "work", "step"),
        "group": _inside(row, "group", "id"),
    }
    about = {name: value for name, value in about.items() if value is not None}
    traces = row.get("traces")
    if not isinstance(traces, list):
        return [_trace(row, about)]
    some = [trace for trace in traces[: MAX_IN_ROW + 1] if isinstance(trace, dict)]
    found = [_trace({"task": row["task"]} | flatten(trace), about) for trace in some]
    return found or [_trace({"task": row["task"]}, about)]


def expand_trained(row: Row) -> list[Row]:
    """The same of a training, which logs its evaluations in the same files.

    Args:
      row: As parsed.

    Returns:
      No rows of an evaluation.
    """
    is_evaluation = _inside(row, "run", "work", "type") == "eval"
    return [] if is_evaluation else expand_verifiers(row)


def _trace(trace: Row, about: Row) -> Row:
    nodes = trace.get("nodes")
    nodes = [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
    own = next((place for place, node in enumerate(nodes) if node.get("sampled")), len(nodes))
    messages = [node.get("message") for node in nodes]
    prompt = _inside(trace, "task", "data", "prompt")
    advantage = _inside(trace, "info", "advantage")
    if "group" in about and (agent := _inside(trace, "agent", "name")) is not None:
        about = about | {"group": f"{about['group']}/{agent}"}  # agents have different tasks
    flat = about | {"prompt": messages[:own] if prompt is None else prompt}
    flat |= {"completion": messages[own:]}
    flat |= {} if advantage is None else {"advantage": advantage}
    for name, value in trace.items():
        if name.startswith("rewards."):
            flat[name] = value.get("score") if isinstance(value, dict) else value
            if _inside(value, "weight") not in (None, 1):
                flat[f"weight/{name.removeprefix('rewards.')}"] = value["weight"]
        elif name.startswith("metrics."):
            flat[f"metric/{name.removeprefix('metrics.')}"] = value
    return flat


def expand_skyrl(row: Row) -> list[Row]:
    """A row of SkyRL with one score; it may be written for each token.

    Args:
      row: As parsed.

    Returns:
      One row.

    >>> expand_skyrl({"input_prompt": "2+2=", "score": [0.0, 0.0, 1.0]})
    [{'input_prompt': '2+2=', 'score': 1.0}]
    """
    score = row.get("score")
    if isinstance(score, list) and score and all(type(item) in (int, float) for item in score):
        with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
            return [row | {"score": sum(score)}]
    return [row]


def expand_lm_eval(row: Row) -> list[Row]:
    """A sample of lm-evaluation-harness; the names in ``metrics`` are its columns of numbers.

    Args:
      row: As parsed.

    Returns:
      One row.

    >>> arguments = {"gen_args_0": {"arg_0": "2+2="}}
    >>> expand_lm_eval({"arguments": arguments, "resps": [["4"]], "metrics": ["acc"], "acc": 1.0})
    [{'resps': [['4']], 'prompt': '2+2=', 'completion': '4', 'metrics.acc': 1.0}]
    """
    listed = row.get("metrics")
    names = {str(name) for name in listed} if isinstance(listed, list) else set()
    hidden = names | {"metrics", "arguments"}
    plain = {name: value for name, value in row.items() if name not in hidden}
    prompt = _inside(row, "arguments", "gen_args_0", "arg_0")
    texts = {"prompt": prompt, "completion": _unwrap(row.get("resps"))}
    return [plain | texts | {f"metrics.{name}": row.get(name) for name in sorted(names)}]


def _unwrap(value: Any) -> Any:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def _inside(value: Any, *names: str) -> Any:
    """The entry of nested objects; None where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
