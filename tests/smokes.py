"""Runs the experiments that are named on its input, one after the other: JAX is started once.

Not in the tests' own process, which has eight devices and for which a warning is an error.
"""

import json
import os
import runpy
import sys
import traceback
from pathlib import Path


def run(script: Path, folder: Path) -> int | str | None:
    """Runs a program as if it were the first, in a folder; returns its exit code or message."""
    os.chdir(folder)
    known, path = set(sys.modules), sys.path.copy()
    sys.argv = [str(script), "--smoke"]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as exit:
        return exit.code
    except Exception:  # is that experiment's; the next one has its turn
        traceback.print_exc()
        return 1
    finally:
        sys.path[:] = path
        # Every experiment has a config and a plot of its own.
        for name in set(sys.modules) - known:
            if str(script.parents[1]) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    return 0


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        script, folder = map(Path, json.loads(line))
        print(json.dumps(run(script, folder)), file=answers, flush=True)
