"""What a compiled program moves between devices, read from its text, loops counted."""

import collections
import dataclasses
import math
import re

KINDS = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
_WIDTHS = {1: "pred s8 u8", 2: "bf16 f16 s16 u16", 8: "f64 s64 u64"}
NUM_BYTES = {dtype: width for width, listed in _WIDTHS.items() for dtype in listed.split()}
_HEAD = re.compile(r"^(ENTRY )?%?(\S+) \(.*\{\s*$")
_COLLECTIVE = re.compile(rf"\s*(?:ROOT )?%?(\S+) = (.+?) ({KINDS})(-start)?\(")
_SHAPE = re.compile(r"([a-z]+[0-9]*)\[([0-9,]*)\]")
_CALLED = re.compile(r"(?:body|condition|to_apply|calls|branch_computations)=\{?([^,}\s]+)")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program: an array of its result, and how often it is run."""

    kind: str
    dtype: str
    shape: tuple[int, ...]
    times: int = 1

    @property
    def num_bytes(self) -> int:
        """Of the result, over all times."""
        return self.times * math.prod(self.shape) * NUM_BYTES.get(self.dtype, 4)


def collectives(text: str, open_ended: int = 1) -> list[Collective]:
    """The collectives of a compiled program.

    A loop's body counts as often as the loop runs: the number that its condition compares a counter
    with, as in each ``lax.scan``. A loop that compares with no constant is open-ended.

    Args:
      text: ``compiled.as_text()``.
      open_ended: rounds to count for a loop whose end is not written in the program.

    Returns:
      A record for each array in the result of each collective.
    """
    bodies, entry = computations(text)
    times = times_run(bodies, entry, open_ended)
    found, seen = [], set()
    for name, lines in bodies.items():
        for line in lines:
            match = _COLLECTIVE.match(line)
            if match is None:
                continue
            # The TPU's compiler writes one collective several times: in each fusion that works
            # while it is under way. They share the channel.
            channel = re.search(r"channel_id=(\d+)", line)
            key = (match[3], channel[1] if channel else (name, match[1]))
            if key in seen:
                continue
            seen.add(key)
            shapes = _SHAPE.findall(match[2])
            # The result of a start is a pair: operand and result. That of a permute ends in two
            # scalars that say how far it is.
            if match[4] and len(shapes) > 1:
                shapes = [pair for pair in shapes if pair != ("u32", "")]
                shapes = shapes[len(shapes) // 2 :]
            for dtype, sizes in shapes:
                shape = tuple(int(size) for size in sizes.split(",") if size)
                found.append(Collective(match[3], dtype, shape, times.get(name, 1)))
    return found


def bytes_by_kind(found: list[Collective]) -> dict[str, int]:
    """Bytes of the results of collectives, of one device.

    Args:
      found: the collectives.

    Returns:
      Bytes by kind.
    """
    total: collections.Counter[str] = collections.Counter()
    for one in found:
        total[one.kind] += one.num_bytes
    return dict(total)


def computations(text: str) -> tuple[dict[str, list[str]], str]:
    """A program taken apart.

    Args:
      text: ``compiled.as_text()``.

    Returns:
      The lines of each computation, and the name of the first to run.
    """
    bodies: dict[str, list[str]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head is not None:
            current = head[2]
            bodies[current] = []
            entry = current if head[1] else entry
        elif current:
            bodies[current].append(line)
    return bodies, entry


def times_run(bodies: dict[str, list[str]], entry: str, open_ended: int) -> dict[str, int]:
    """How often each computation runs; of several callers, the one that calls most.

    Args:
      bodies: the lines of each computation.
      entry: the first to run.
      open_ended: rounds to count for a loop whose end is not written in the program. Such a loop
        inside of another counts once in each of its rounds.

    Returns:
      Times by name.
    """
    times: dict[str, int] = {}
    waiting = [(entry, 1, False)]
    while waiting:
        name, count, inside = waiting.pop()
        if times.get(name, 0) >= count:
            continue
        times[name] = count
        for line in bodies.get(name, []):
            called = [found.lstrip("%") for found in _CALLED.findall(line)]
            rounds, is_open = _rounds(line, bodies) if " while(" in line else (1, False)
            if is_open and not inside:
                rounds = open_ended
            waiting += [(other, count * rounds, inside or is_open) for other in called]
    return times


def _rounds(loop: str, bodies: dict[str, list[str]]) -> tuple[int, bool]:
    """Rounds of a loop; 1 and True where its end is not written in the program."""
    known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop)
    if known is not None:
        return int(known[1]), False
    named = [re.search(rf"{part}=%?([^,\s]+)", loop) for part in ("condition", "body")]
    condition, body = (bodies.get(found[1], []) if found else [] for found in named)
    text = "\n".join(condition)
    constants = re.findall(r" = [su]32\[\]\S* constant\((\d+)\)", text)
    if "direction=LT" not in text or len(constants) != 1:
        return 1, True
    return -(-int(constants[0]) // _stride(condition, body)), False


def _stride(condition: list[str], body: list[str]) -> int:
    """How much the counter of a loop grows in a round: the TPU's compiler unrolls some by two."""
    lines = dict(re.findall(r"(?m)^\s*(?:ROOT )?%?(\S+) = (.*)$", "\n".join(body)))
    index = re.search(r"get-tuple-element\(.*index=(\d+)", "\n".join(condition))
    root = [line for line in body if line.lstrip().startswith("ROOT") and " tuple(" in line]
    if index is None or not root:
        return 1
    listed = root[0].split(" tuple(")[1].split(")")[0]
    parts = [part.split("%")[-1].strip() for part in listed.split(",")]
    added = re.search(r" add\((.*?)\)", lines.get(parts[int(index[1])], ""))
    operands = re.findall(r"%([^,\s]+)", added[1]) if added else []
    steps = [re.search(r" constant\((\d+)\)", lines.get(name, "")) for name in operands]
    return next((int(step[1]) for step in steps if step), 1)
