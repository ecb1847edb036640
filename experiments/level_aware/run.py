"""A soft minimum that also sees levels: chosen on some worlds and seeds, judged on others.

python experiments/level_aware/run.py [--smoke] [--check]
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot

from rvpo_jax.lab.evidence import interval, paired
from rvpo_jax.lab.experiment import Outcome, run_experiment

# The sign that is better.
CRITERIA = {"worst met": 1, "joint": 1, "quiet": -1}
# Counted in the same way and part of no choice.
TOLD = {"worst level": 1, "mean": 1}
SIGN = CRITERIA | TOLD
SHOWN = ("worst met", "worst level", "joint", "mean", "quiet")


def measure(seeds, smoke: bool) -> Outcome:
    """Chooses a member, then compares it with the best of three rules in every cell."""
    options = config.SMOKE_OPTIONS if smoke else config.OPTIONS
    members = {member.name: config.rule_of(member) for member in config.MEMBERS}
    found, _ = config.survey(
        config.SMOKE_CELLS if smoke else config.CHOOSE_CELLS,
        {"GRPO": config.OTHERS["GRPO"], **members},
        seeds if smoke else config.CHOOSE_SEEDS,
        **options,
    )
    scores = {name: _mean_deficits(found, name) for name in ("GRPO", *members)}
    chosen = min(members, key=lambda name: sum(scores[name][column] for column in CRITERIA))
    judged = (*config.BEST_OF[1:], chosen, *config.JUDGED_BESIDE)
    beside = {"GRPO": config.OTHERS["GRPO"]} if smoke else config.OTHERS
    cells = config.SMOKE_CELLS if smoke else config.JUDGE_CELLS
    ends, kept = config.survey(
        cells,
        {**beside, **{name: members[name] for name in judged}},
        seeds,
        keep=config.first_steps,
        **options,
    )
    deficits = {
        f"{cell}/{name}/{column}": _deficit(rules, name, column)
        for cell, rules in ends.items()
        for name in rules
        for column in SIGN
    }
    values = _values(cells, ends, deficits, chosen)
    counts, notes = _count(ends, deficits, set(ends) if smoke else config.COUNTED)
    data = {
        "chosen": chosen,
        "criteria": tuple(CRITERIA),
        "scores": scores,
        "members": {m.name: [m.k, m.c, m.additive] for m in config.MEMBERS},
        "deficits": deficits,
        "first_steps": kept,
        "ends": ends,
        "margin": config.MARGIN,
    }
    notes = [f"chosen: {chosen}", *notes]
    return Outcome(values={**values, **counts}, data=data, notes=tuple(notes))


def _values(cells, ends, deficits, chosen: str) -> dict:
    """What is pinned down: how far the chosen rule is behind, and some ends as they are."""
    values = {
        f"{cell}, {chosen} behind the best/{key.split('/')[2]}": value
        for key, value in deficits.items()
        if key.split("/")[1] == chosen and key.split("/")[2] in CRITERIA
        for cell in [key.split("/")[0]]
    }
    for cell in cells:
        if cell.axis == "base" or cell.kind == "held out":
            for name, end in ends[cell.name].items():
                for column in SHOWN:
                    values[f"{cell.name}, {name}/{column}"] = interval(end[column])
    return values


def _best(rules, column: str) -> str:
    """Of the three rules, the one with the best mean; in favour of the competition."""
    sign = SIGN[column]
    return max(config.BEST_OF, key=lambda name: sign * rules[name][column].mean())


def _deficit(rules, name: str, column: str) -> dict:
    """How far a rule is behind the best of three, paired by seed; negative: it is ahead."""
    best = rules[_best(rules, column)][column]
    ours = rules[name][column]
    return paired(best, ours) if SIGN[column] > 0 else paired(ours, best)


def _mean_deficits(found, name: str) -> dict[str, float]:
    """By outcome: mean over cells of what is behind the best, where it is behind."""
    return {
        column: float(
            np.mean(
                [
                    max(
                        sign * (rules[_best(rules, column)][column] - rules[name][column]).mean(),
                        0.0,
                    )
                    for rules in found.values()
                ]
            )
        )
        for column, sign in SIGN.items()
    }


def _differ(rules, column: str) -> bool:
    """Whether it matters in a cell which of the three rules one takes."""
    means = [rules[name][column].mean() for name in config.BEST_OF]
    return max(means) - min(means) > config.MARGIN


def _count(ends, deficits, counted) -> tuple[dict, list[str]]:
    """Cells in which a rule is within the margin of the best, shown to be, and shown not to be.

    Of the counted cells those in which the three rules differ.
    """
    counts, notes = {}, []
    for name in next(iter(ends.values())):
        for column in SIGN:
            some = [
                deficits[f"{cell}/{name}/{column}"]
                for cell, rules in ends.items()
                if cell in counted and _differ(rules, column)
            ]
            shown = sum(value["high"] <= config.MARGIN for value in some)
            behind = sum(value["low"] > config.MARGIN for value in some)
            worst = max((value["ours"] for value in some), default=0.0)
            notes.append(
                f"{name}, {column}: of {len(some)} cells {shown} within {config.MARGIN} of the "
                f"best of three (interval), {behind} behind, {len(some) - shown - behind} open; "
                f"furthest behind {worst:.3f}"
            )
            counts[f"cells, {name}/{column} within"] = {"ours": shown, "n": len(some)}
            counts[f"cells, {name}/{column} behind"] = {"ours": behind, "n": len(some)}
    return counts, notes


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
