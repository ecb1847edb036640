"""How often a report names what was planted in a log, and how often it alarms at a clean one.

python experiments/audit_logs/run.py [--smoke] [--check]
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import clean
import config
import misread
import planted
from plot import plot

import rvpo_jax
from rvpo_jax.lab.evidence import share
from rvpo_jax.lab.experiment import Outcome, run_experiment


def said(columns: dict[str, Any], options: dict[str, Any]) -> tuple[list[str], str]:
    """Everything that the first screen says, or the error, and the verdict's level."""
    try:
        result = rvpo_jax.audit(pa.table(columns), redact=True, **options)
    except ValueError as error:
        return [str(error)], "error"
    verdict = result.report["verdict"]
    return [verdict["headline"], *result.sentences], result.level


def is_named(kind: Any, rng: np.random.Generator) -> bool:
    """Whether a sentence about a random variant has all the words."""
    log = kind(rng)
    texts, _ = said(log.columns, log.options)
    return any(all(word in text for word in log.words) for text in texts)


def measure(seeds: list[int], smoke: bool) -> Outcome:
    """Every kind, in random variants."""
    variants, logs = (1, 1) if smoke else (config.VARIANTS, config.CLEAN_LOGS)
    seed = config.SEED + 100 * smoke  # a quick look is not one at the logs that count
    values, levels = {}, {}
    for number, kind in enumerate((*planted.KINDS, *misread.KINDS)):
        seeded = [np.random.default_rng([seed, number, v]) for v in range(variants)]
        hits = sum(is_named(kind, rng) for rng in seeded)
        values[f"planted {kind.__name__}/named"] = share(hits, variants)
        print(f"{kind.__name__}: named in {hits} of {variants}", flush=True)
    for number, kind in enumerate(clean.KINDS):
        seeded = [np.random.default_rng([seed + 1, number, v]) for v in range(logs)]
        found = [
            said(log, {"by": "family"} if "family" in log else {})[1] for log in map(kind, seeded)
        ]
        levels[kind.__name__] = {level: found.count(level) for level in sorted(set(found))}
        values[f"clean {kind.__name__}/alarms"] = share(found.count("problem"), logs)
        print(f"{kind.__name__}: {levels[kind.__name__]}", flush=True)
    return Outcome(values=values, data={"levels": levels, "variants": variants, "logs": logs})


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot))
