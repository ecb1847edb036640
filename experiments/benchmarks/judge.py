"""Whether a judge run saturates the rate that it is allowed, and what the cache leaves of a second.

    python experiments/benchmarks/judge.py [--smoke]     # needs rvpo-jax[judge]

16 completions x 10 items, one call per item (160) or per completion (16), against an HTTP server on
this machine that takes 0.2 s an answer, in a process of its own. Allowed: a rate of calls per
minute, or none. Saturation is calls per minute, from the first to the last that reached the server,
over those allowed. The second run is another object with the file of the first, as after a restart.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from rvpo_jax.rewards.judge import Counts, Judge, rubric

COMPLETIONS, ITEMS = 16, 10
LATENCY_S = 0.2


class Case(NamedTuple):
    """What is measured."""

    ask: Any  # completion or item
    per_min: float | None
    concurrency: int = 16


CASES = (
    Case("item", 600),
    Case("item", 1200),
    Case("item", 3000),
    Case("item", None),
    Case("completion", 120),
    Case("completion", None),
)
SMOKE = (Case("item", 6000, 64),)


class Handler(BaseHTTPRequestHandler):
    """Meets every other item, a while later."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    times: list[float] = []

    def do_POST(self) -> None:
        """One answer; the times at which calls came in go with it."""
        self.times.append(time.time())
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        criteria = json.loads(body["messages"][1]["content"])["criteria"]
        verdicts = [{"criterion": c["criterion"], "met": c["criterion"] % 2 == 0} for c in criteria]
        time.sleep(LATENCY_S)
        message = {"role": "assistant", "content": json.dumps({"verdicts": verdicts})}
        usage = {"prompt_tokens": 300, "completion_tokens": 12 * len(verdicts)}
        answer = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        self._send(json.dumps(answer).encode())

    def do_GET(self) -> None:
        """The times so far, which are forgotten."""
        data = json.dumps(self.times).encode()
        self.times.clear()
        self._send(data)

    def _send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Nothing on standard error."""


def serve(port: Any) -> None:
    """The judge; tells its port through the queue."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        port.put(server.server_address[1])
        server.serve_forever()


def measure(case: Case, address: str, file: Path) -> dict[str, Any]:
    """A first run and a second one with its file."""
    import httpx2

    row = {"prompt": "Say it.", "rubric": [{"text": f"Says {i}."} for i in range(ITEMS)]}
    texts, rows = [f"answer {i}" for i in range(COMPLETIONS)], [row] * COMPLETIONS
    judge = Judge(
        endpoint=f"{address}/v1",
        model="local",
        key_variable=None,
        ask=case.ask,
        requests_per_min=case.per_min,
        concurrency=case.concurrency,
        file=str(file),
    )
    counts: list[Counts] = []
    for _ in range(2):
        reward = rubric(judge)
        reward(texts, rows)
        counts.append(reward.take_counts())
    times = sorted(httpx2.get(address).json())
    span = max(times[-1] - times[0], 1e-9)
    return {"first": counts[0], "second": counts[1], "per_min": (len(times) - 1) * 60 / span}


def row_of(case: Case, found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    first, second, reached = found["first"], found["second"], found["per_min"]
    allowed = "-" if case.per_min is None else f"{case.per_min:g}"
    share = "-" if case.per_min is None else f"{reached / case.per_min:.1%}"
    cells = [case.ask, allowed, str(first.calls), f"{first.seconds:.2f}", f"{reached:.0f}", share]
    return [*cells, str(second.calls), f"{second.seconds:.3f}"]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="one case, a few seconds")
    cases = SMOKE if parser.parse_args().smoke else CASES
    table = Table(title=f"{COMPLETIONS} completions x {ITEMS} items, {LATENCY_S} s an answer")
    for name in ("a call per", "allowed/min", "calls", "s", "reached/min", "of allowed"):
        table.add_column(name, justify="right")
    for name in ("second run: calls", "s"):
        table.add_column(name, justify="right")
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    server = context.Process(target=serve, args=(port,), daemon=True)
    server.start()
    address = f"http://127.0.0.1:{port.get()}"
    with tempfile.TemporaryDirectory() as folder:
        for index, case in enumerate(cases):
            found = measure(case, address, Path(folder, f"{index}.sqlite"))
            table.add_row(*row_of(case, found))
    server.terminate()
    Console().print(table)


if __name__ == "__main__":
    main()
