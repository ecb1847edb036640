"""Bytes that a compiled program moves to and from a chip's memory, read from its text."""

import math
import re

from rvpo_jax.plan.programs import NUM_BYTES, computations, times_run

_INSTRUCTION = re.compile(r"\s*(ROOT )?%(\S+) = (\(.*?\)|\S+) ([a-z][a-z0-9-]*)\((.*)$")
_ARRAY = re.compile(r"([a-z]+[0-9]*)\[([0-9,]*)\](?:\{[^}]*?(S\([0-9]+\))?\})?")
# What moves nothing itself: names, parts and controls. What is started is counted when it is done.
_FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast while conditional call after-all "
    "partition-id replica-id optimization-barrier".split()
)
_CONTROL = re.compile(r" (?:while|conditional|call)\(.*?(?:body|condition|to_apply|branch)")
_INSIDE = re.compile(r"(?:body|condition|to_apply|branch_computations)=\{?((?:%[^,}\s]+,? ?)+)")


def traffic(text: str, open_ended: int = 1) -> int:
    """Bytes through the memory of one chip: a lower estimate.

    An array that is written to the memory counts twice, once written and once read; the arguments
    count once. What stays in a core's own memory does not count, nor does padding of layouts. An
    update in place counts as what it writes.

    Args:
      text: a program after all of the compiler's passes.
      open_ended: rounds to count for a loop whose end is not written in the program.

    Returns:
      The bytes.
    """
    bodies, entry = computations(text)
    times = times_run(bodies, entry, open_ended)
    total = 0
    for name in _scheduled(bodies, entry):
        written = sum(_written(line, bodies) for line in bodies[name])
        total += 2 * times.get(name, 1) * written
    arguments = [_INSTRUCTION.match(line) for line in bodies.get(entry, [])]
    return total + sum(_size(one[3]) for one in arguments if one and one[4] == "parameter")


def _scheduled(bodies: dict[str, list[str]], entry: str) -> set[str]:
    """Computations whose instructions are run one by one: not those inside of a fusion."""
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in found or name not in bodies:
            continue
        found.add(name)
        for line in bodies[name]:
            if _CONTROL.search(line):
                for listed in _INSIDE.findall(line):
                    waiting += [one.strip(" %") for one in listed.split(",")]
    return found


def _written(line: str, bodies: dict[str, list[str]]) -> int:
    """Bytes of the result of an instruction."""
    match = _INSTRUCTION.match(line)
    if match is None or match[4] in _FREE or match[4].endswith(("-start", "-update")):
        return 0
    result, opcode, rest = match[3], match[4], match[5]
    called = re.search(r"calls=%?([^,\s]+)", rest) if opcode == "fusion" else None
    if called is None:
        return _size(result)
    lines = bodies.get(called[1], [])
    known = {found[2]: found for found in map(_INSTRUCTION.match, lines) if found}
    root = next((found for found in known.values() if found[1]), None)
    if root is None:
        return _size(result)
    whole = _operands(root) if root[4] == "tuple" else [root[2]]
    in_place = [update for name in whole if (update := _update(known, name)) is not None]
    if len(in_place) == len(whole):
        return sum(_size(known[name][3]) if name in known else 0 for name in in_place)
    return _size(result)


def _update(known: dict[str, re.Match[str]], name: str) -> str | None:
    """What an update in place writes; None where the result is no such update."""
    found = known.get(name)
    while found is not None and found[4] == "bitcast":
        found = known.get(_operands(found)[0])
    if found is None or found[4] != "dynamic-update-slice" or "S(" in found[3]:
        return None
    return _operands(found)[1]


def _operands(found: re.Match[str]) -> list[str]:
    return re.findall(r"%([^,\s)]+)", found[5].split(")")[0])


def _size(shapes: str) -> int:
    """Bytes of the arrays of a type that are in the chip's main memory."""
    return sum(
        NUM_BYTES.get(dtype, 4) * math.prod(int(size) for size in sizes.split(",") if size)
        for dtype, sizes, space in _ARRAY.findall(shapes)
        if not space
    )
