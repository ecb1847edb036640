"""How fast and how lean an audit is, as a process of its own, from the shell.

python experiments/benchmarks/audit.py [--rows 10000 100000 1000000] [--program PATH] [--out FOLDER]

The logs are Parquet files with 8 channels, prompts and completions of a few hundred characters and
groups of 16; the first has 2,560 rows and 2 channels, and shows what a start costs. One more is
JSONL, with completions of a thousand characters. Each is audited twice, by ``rvpo audit`` and by
each ``--program``, such as the path of ``rvpo-audit`` in another environment. Compare figures
within one run only: machines differ, and so does their load.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

GROUP, CHUNK = 16, 65536
SMALL = (2560, 2)  # rows, channels
LONG = 200  # words of a completion of the JSONL log
WORDS = "the model answers with a call whose arguments are checked against what was asked".split()


def make_log(path: Path, num_rows: int, num_channels: int = 8, seed: int = 0) -> None:
    """Writes a log whose channels differ in difficulty, with one that pays for failing another."""
    rng = np.random.default_rng(seed)
    names = [f"channel_{index}" for index in range(num_channels)]
    writer = None
    for start in range(0, num_rows, CHUNK):
        rows = np.arange(start, min(start + CHUNK, num_rows))
        group = rows // GROUP
        quality = rng.normal(size=len(rows))[:, None]
        level = np.linspace(-1, 2, num_channels) + 0.5 * quality
        rewards = (rng.random((len(rows), num_channels)) < 1 / (1 + np.exp(-level))).astype(
            np.float32
        )
        rewards[:, 0] += 3 * (rewards[:, 1] == 0)
        words = rng.integers(len(WORDS), size=(len(rows), 40))
        table = pa.table(
            {
                "step": group // 64,
                "prompt_id": group % 4096,
                "prompt": [f"Prompt {g % 4096}: " + "tell me more about it " * 8 for g in group],
                "completion": [" ".join(WORDS[w] for w in line) for line in words],
                **{name: rewards[:, index] for index, name in enumerate(names)},
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def make_jsonl(path: Path, num_rows: int, seed: int = 0) -> None:
    """Writes a log of three channels as JSONL, with long completions, as a trainer does."""
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for row in range(num_rows):
            group = row // GROUP
            words = rng.integers(len(WORDS), size=LONG)
            scores = (rng.random(3) < (0.3, 0.5, 0.7)).astype(int).tolist()
            line = {
                "step": group // 64,
                "prompt_id": group % 4096,
                "prompt": f"Prompt {group % 4096}: " + "tell me more about it " * 8,
                "completion": f"{row}: " + " ".join(WORDS[word] for word in words),
                **{f"channel_{index}": score for index, score in enumerate(scores)},
            }
            file.write(json.dumps(line) + "\n")


MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
"""


def run_audit(program: list[str], log: Path, out: Path) -> dict:
    """Wall seconds, CPU seconds and peak bytes of one audit's process."""
    command = [*program, str(log), "--group", "prompt_id"]
    command += ["--constraint", "channel_1", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=True
    )
    code, wall, cpu, peak = done.stdout.split()
    if code != "0":
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}")
    return {"wall_s": float(wall), "cpu_s": float(cpu), "peak_mb": float(peak) / 2**20}


def load_seconds(page: Path) -> float | None:
    """Seconds until the load event in headless Chromium; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = os.environ.get("RVPO_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    if browser is None:
        return None
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=browser, args=options)
        tab = opened.new_page()
        start = time.perf_counter()
        tab.goto(page.resolve().as_uri(), wait_until="load")
        seconds = time.perf_counter() - start
        opened.close()
    return seconds


def measured(program: list[str], log: Path, num_rows: int) -> list[str]:
    """A row of the table."""
    name = Path(program[0]).name if len(program) == 1 else "rvpo audit"
    out = log.with_name(f"{log.stem} {name}")
    first, again = run_audit(program, log, out), run_audit(program, log, out)
    load = load_seconds(out / "audit.html")
    report = json.loads((out / "audit.json").read_text())
    return [
        name,
        f"{num_rows:,} {log.suffix[1:]}",
        f"{log.stat().st_size / 2**20:.0f}",
        f"{first['wall_s']:.1f}",
        f"{again['wall_s']:.1f}",
        f"{again['cpu_s']:.1f}",
        f"{num_rows / again['wall_s']:,.0f}",
        f"{max(first['peak_mb'], again['peak_mb']):.0f}",
        f"{(out / 'audit.html').stat().st_size / 1000:.0f}",
        "no browser" if load is None else f"{load:.2f}",
        report["verdict"]["level"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--jsonl-rows", type=int, default=200_000)
    parser.add_argument("--out", type=Path, help="keep the logs and pages here")
    parser.add_argument("--program", nargs="*", default=[], help="further programs to measure")
    args = parser.parse_args()
    programs = [[sys.executable, "-m", "rvpo_jax", "audit"], *([path] for path in args.program)]
    table = Table(title=f"an audit, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    columns = ("program", "rows", "log MB", "wall s", "again s", "CPU s", "rows/s", "peak MB")
    for column in (*columns, "page kB", "page load s", "audit"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for num_rows, *num_channels in (SMALL, *((rows,) for rows in args.rows)):
            log = folder / f"log_{num_rows}.parquet"
            make_log(log, num_rows, *num_channels)
            for program in programs:
                table.add_row(*measured(program, log, num_rows))
        if args.jsonl_rows:
            log = folder / f"log_{args.jsonl_rows}.jsonl"
            make_jsonl(log, args.jsonl_rows)
            for program in programs:
                table.add_row(*measured(program, log, args.jsonl_rows))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
