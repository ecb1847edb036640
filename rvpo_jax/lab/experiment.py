"""What the run.py of every experiment does besides measuring: arguments, files, provenance."""

import argparse
import dataclasses
import datetime
import importlib.util
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from rvpo_jax.lab.evidence import (
    Value,
    print_check,
    record_expected,
    values_table,
    write_json,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an experiment's ``measure`` returns."""

    values: dict[str, Value]
    """The numbers it stands for, by ``row/column``."""
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the plot needs besides; NumPy arrays are fine."""
    notes: tuple[str, ...] = ()
    """Lines printed below the table, such as tests."""


def run_experiment(
    folder: str | Path,
    doc: str | None,
    measure: Callable[..., Outcome],
    plot: Callable[[Mapping[str, Any], Path], None],
    seeds: Sequence[int] | Mapping[str, Sequence[int]] = (),
    smoke_seeds: Sequence[int] = (),
    *,
    options: Mapping[str, Sequence[str]] | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Measures, writes ``runs/NAME/results.json`` and ``figure.png``, prints, checks.

    A smoke run writes to ``runs/NAME/smoke``. Both are below the current directory. A variant,
    with an option that is not the default, has files of its own: ``runs/NAME/VALUE``,
    ``expected_VALUE.json``, ``figure_VALUE.png``.

    Args:
      folder: the experiment's folder, with ``expected.json``.
      doc: description for ``--help``.
      measure: ``(seeds, smoke, **options) -> Outcome``.
      plot: ``(results, path)``, draws what results.json holds.
      seeds: of a full run; empty where nothing is random; by variant where they differ.
      smoke_seeds: of a smoke run.
      options: further flags and their values, the default first.
      argv: arguments; None: those of the process.

    Returns:
      The exit code: 1 where ``--check`` finds a difference.
    """
    folder = Path(folder)
    options = options or {}
    args = _parse(doc, options, argv)
    chosen = {name: getattr(args, name) for name in options}
    variant = "_".join(value for name, value in chosen.items() if value != options[name][0])
    if isinstance(seeds, Mapping):
        seeds = seeds[variant]
    used = list(smoke_seeds if args.smoke else seeds)
    if args.seeds is not None:
        used = args.seeds
    suffix = f"_{variant}" if variant else ""
    expected = folder / f"expected{suffix}.json"
    started = time.perf_counter()
    outcome = measure(used, args.smoke, **chosen)
    recorded = provenance(time.perf_counter() - started)
    out = Path("runs") / folder.name / variant / ("smoke" if args.smoke else "")
    write_json(
        out / "results.json",
        {
            "experiment": folder.name,
            "smoke": args.smoke,
            "seeds": used,
            "recorded": recorded,
            "values": outcome.values,
            "data": outcome.data,
            "notes": outcome.notes,
        },
    )
    # Read back: the picture shows what the file holds, and plot.py alone can draw it again.
    results = json.loads((out / "results.json").read_text())
    plot(results, out / "figure.png")
    title = folder.name + suffix
    title += f": mean [95 % interval], {len(used)} seeds" if used else ""
    Console(width=160).print(values_table(outcome.values, title))
    print("\n".join(outcome.notes))
    print(f"{recorded['seconds']} s; {out / 'results.json'} and {out / 'figure.png'}")
    if args.record:
        record_expected(expected, outcome.values, recorded, len(used))
        (folder / f"figure{suffix}.png").write_bytes((out / "figure.png").read_bytes())
    return print_check(outcome.values, expected) if args.check else 0


def _parse(
    doc: str | None, options: Mapping[str, Sequence[str]], argv: Sequence[str] | None
) -> argparse.Namespace:
    parser = experiment_parser(doc, options)
    args = parser.parse_args(argv)
    if args.smoke and (args.check or args.record):
        parser.error("--smoke numbers mean nothing: --check and --record need the full run")
    if args.seeds is not None and args.record:
        parser.error("--record needs the experiment's own seeds")
    return args


def provenance(seconds: float, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """What made a result: commit, versions, device, command, time.

    Args:
      seconds: the measurement took.
      argv: the command; None: that of this process.

    Returns:
      What ``recorded`` says in results.json and expected.json.
    """
    packages = ("rvpo-jax", "jax", "jaxlib", "numpy", "scipy", "matplotlib")
    command = list(sys.argv if argv is None else argv)
    return {
        "commit": git_commit(),
        "jax": jax.__version__,
        "versions": {name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "device": f"{jax.default_backend()}, {os.cpu_count()} cores",
        # The folder only: where the clone stands is nobody's business.
        "command": shlex.join(["/".join(Path(command[0]).parts[-3:]), *command[1:]]),
        "seconds": round(seconds, 1),
        "date": datetime.date.today().isoformat(),
    }


def git_commit() -> str | None:
    """The commit of the package, with ``+`` where code differs from it; None without git.

    Returns:
      Seven hexadecimal digits, perhaps with ``+``.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = _output([*git, "rev-parse", "--short=7", "HEAD"])
        changed = _output([*git, "status", "--porcelain", "--", ":/*.py", ":/setup.cfg"])
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


class _Flat(argparse.Action):
    """Stores ``--seeds 7 0:2`` as [7, 0, 1]."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, [seed for some in values for seed in some])


def parse_seeds(text: str) -> list[int]:
    """Seeds from the command line.

    Args:
      text: a number, or ``first:end`` without the end.

    Returns:
      The seeds.

    >>> parse_seeds("3"), parse_seeds("0:4")
    ([3], [0, 1, 2, 3])
    """
    first, colon, end = text.partition(":")
    return list(range(int(first), int(end))) if colon else [int(first)]


def experiment_parser(
    doc: str | None, options: Mapping[str, Sequence[str]] | None = None
) -> argparse.ArgumentParser:
    """The arguments that every experiment has.

    Args:
      doc: description, the ``__doc__`` of its run.py.
      options: further flags and their values, the default first.

    Returns:
      A parser with --smoke, --check, --record, --seeds and the options.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--smoke", action="store_true", help="seconds, the same code; the numbers mean nothing"
    )
    parser.add_argument("--check", action="store_true", help="compare with expected.json")
    parser.add_argument(
        "--seeds", type=parse_seeds, nargs="+", action=_Flat, help="numbers or first:end"
    )
    parser.add_argument(
        "--record", action="store_true", help="write expected.json and the picture beside it"
    )
    for name, values in (options or {}).items():
        parser.add_argument(
            f"--{name}", choices=values, default=values[0], help=f"default {values[0]}"
        )
    return parser


def module_of(experiment: str | Path, name: str) -> Any:
    """A module of another experiment, whose files have the names of one's own.

    Args:
      experiment: its folder.
      name: of the module, such as ``config``.

    Returns:
      The module.
    """
    path = Path(experiment) / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
