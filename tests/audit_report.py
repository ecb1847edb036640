"""A report dict made by hand for the tests of the page: honest float64 numbers, hostile texts.

The numbers come from a small random reward array through ``oracle.py``; sentences and statistics
of trends are made up. ``N`` completions, ``G`` of a group, ``M`` channels.
"""

import math

import numpy as np
import oracle

GRID = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 20.0, "inf")
FORMULAS = {
    "grpo": ("sum (GRPO)", "grpo", None),
    "gdpo": ("mean (GDPO)", "gdpo", None),
    "rvpo:k=1": ("soft minimum, k = 1", "rvpo", 1.0),
    "hard_min": ("hard minimum", "hard_min", None),
}
# Each would do something if it reached the page or a terminal as it is.
HOSTILE = (
    "<script>window.__pwned = 1; alert(1)</script>",
    "</script><script>window.__pwned = 2</script>",
    '"><img src=x onerror="window.__pwned = 3"> <svg/onload=window.__pwned=4>',
    "{{ 7 * 191 }} {% for x in range(9) %}boom{% endfor %} ${7*191} <%= 7*191 %>",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \0 NUL",
    "\u202eright to left\u202c \u2066isolated \u200bzero\u200d \ufeff \u2028 \u2029 line",
    "lone \ud800 and \udfff surrogates, \U000e0041 a tag",
    "x" * 700 + " " + "\N{COMBINING ACUTE ACCENT}" * 60,
    "<!-- --> <![CDATA[ ]]> </style> </textarea> &lt;b&gt; &#x3c; javascript:alert(1)",
    "\N{ARABIC LETTER ALEF}\N{HEBREW LETTER ALEF} mixed <b>bold</b>\n\tsecond line\r\n",
)
NAMES = ("correctness", "format", "safety")
HOSTILE_NAMES = (
    "<img src=x onerror=window.__pwned=5>",
    "$\\frac{a}{$ _x_ ^2",
    "\u202eytefas\x1b[2J",
    "a_very_long_channel_name_without_any_break_" * 3,
    "</script><script>window.__pwned=6</script>",
    "{{ config }}",
    "\ud800\x00\N{CJK UNIFIED IDEOGRAPH-6B63}\N{GRINNING FACE}",
)


def make_report(
    *,
    names=NAMES,
    num_steps=6,
    groups_per_step=4,
    num_windows=6,
    num_cases=12,
    text_size=0,
    logged=True,
    comparison=False,
    redacted=False,
    seed=0,
):
    """A report of random rewards with missing entries, constant channels and unequal groups."""
    rng = np.random.default_rng(seed)
    groups = [_group(rng, len(names)) for _ in range(num_steps * groups_per_step)]
    step = [10 * (index // groups_per_step) for index in range(len(groups))]
    batch = [index // groups_per_step for index in range(len(groups))]
    batches = [
        batch_statistics([g for g, b in zip(groups, batch, strict=True) if b == wanted])
        for wanted in range(num_steps)
    ]
    rows = _rows(rng, groups, step, batch, batches, logged)
    rules = [{"name": "logged", "label": "as logged", "method": None, "risk_coef": None}]
    rules = (rules if logged else []) + [
        {"name": name, "label": label, "method": method, "risk_coef": k, "color": "#888888"}
        for name, (label, method, k) in FORMULAS.items()
    ]
    in_use = rules[0]["name"]
    table = _Table(rows, names, rules)
    title = f"runs/a {HOSTILE[0]} \u202e"
    report = {
        "title": title,
        "format": "rvpo",
        "version": "0.1.0",
        "counts": {
            "completions": len(rows),
            "groups": len(groups),
            "prompts": len(groups),
            "steps": num_steps,
            "channels": len(names),
        },
        "verdict": {
            "level": "problem",
            "headline": f"Completions that fail {names[-1]} are reinforced.",
            "certainty": "A log without problems raises an alarm with probability 1 % at most.",
        },
        "sentences": [
            {"topic": topic, "level": level, "text": f"{names[-1]}: a plain sentence on {topic}."}
            for topic, level in (
                ("Quiet failures", "problem"),
                ("Who decides", "watch"),
                ("Blind spots", "ok"),
                ("Neglect", "unclear"),
                ("What was read", "ok"),
            )
        ],
        "alarms": [{"test": "paid", "channel": names[-1], "slice": None}],
        "focus": [{"channel": names[-1], "why": "paid", "slice": None}],
        "error_rate": 0.01,
        "rule_in_use": in_use,
        "rules": rules,
        "channels": table.channels(),
        "joint_pass_rate": wilson(table.met_or_absent.all(-1)),
        "quiet_failures": table.quiet(),
        "bottleneck": table.bottleneck(),
        "dead": table.dead(groups),
        "neglect": table.neglect(step[-1] + 10),
        "outcome": {
            "first": wilson(table.met[:, 0]),
            "last": wilson(table.met[:, 0]),
            "rewards": 0.2,
            "change": {"value": -0.1, "low": -0.2, "high": 0.0, "n": 6},
            "returns": False,
            "own_change": None,
            "p_fall": 0.2,
            "p_rise": 0.8,
        },
        "checks": [{"check": "twins", "channels": list(names[:2]), "text": HOSTILE[0]}],
        "sliced_by": "family",
        "slices": table.slices(),
        "paradoxes": [],
        **table.between(),
        "level": table.level(),
        "spread": {"k_spread": 0.71, "to_mean": 0.22, "to_min": 0.44, "position": 1 / 3},
        "sweep": table.sweep(),
        "flips": table.flips(),
        "compensation": table.compensation(),
        "trajectory": table.trajectory(num_windows) if num_windows else None,
        "scatter": table.scatter(in_use),
        "cases": [
            _case(rows, groups, index, names, HOSTILE[order % len(HOSTILE)], text_size, redacted)
            for order, index in enumerate(
                np.linspace(0, len(rows) - 1, min(num_cases, len(rows))).astype(int)
            )
        ],
        "batches": batches,
        "notes": [{"kind": "missing", "count": 3, "text": f"3 values of {names[0]} are missing."}],
        "definitions": [{"name": "quiet failure", "text": "Fails, and A > 0 all the same."}],
        "redacted": redacted,
        "comparison": _comparison(title, names) if comparison else None,
    }
    return report


def _group(rng, num_channels):
    """``[G, M]`` raw rewards: unequal G, other scales, some constant, some not scored."""
    rewards = rng.integers(0, 2, (rng.integers(2, 7), num_channels)).astype(np.float64)
    rewards[:, 0] = rng.normal(size=len(rewards)) * 3
    rewards[:, rng.random(num_channels) < 0.15] = 1.0
    rewards[rng.random(rewards.shape) < 0.08] = np.nan
    return rewards


def group_scores(group):
    """Z ``[G, M]`` of one group, 0 where constant or not scored; and which were scored."""
    where = ~np.isnan(group)
    return oracle.standardize(group[None], where[None], ddof=1, eps=1e-6)[0][0], where


def group_aggregates(group, method, k=1.0):
    """One number per completion before whitening; NaN where nothing was scored."""
    scores, where = group_scores(group)
    if method == "grpo":
        sums = np.nansum(group, axis=1)[None, :, None]
        scored = where.any(-1)[None, :, None]
        values = oracle.standardize(sums, scored, ddof=1, eps=1e-6)[0][0, :, 0]
    else:
        options = {"risk_coef": k, "variance_coef": 0.0}
        values = np.array(
            [
                oracle.aggregate(z, method, where=there, **options)
                for z, there in zip(scores, where, strict=True)
            ]
        )
    return np.where(where.any(-1), values, np.nan)


def group_weights(group, method, k=1.0):
    """d aggregate / d Z ``[G, M]``; for the sum: std of the channel over that of the sum."""
    scores, where = group_scores(group)
    if method == "grpo":
        sums = np.nansum(group, axis=1)[where.any(-1)]
        deviation = oracle.moments(sums.tolist(), 1)[1] if len(set(sums.tolist())) > 1 else 0.0
        stds = [
            oracle.moments(values.tolist(), 1)[1] if len(set(values.tolist())) > 1 else 0.0
            for values in (group[there, m] for m, there in enumerate(where.T))
        ]
        return where * (np.array(stds) / deviation if deviation else np.zeros(len(stds)))
    k = {"gdpo": 0.0, "hard_min": math.inf}.get(method, k)
    pairs = zip(scores, where, strict=True)
    return np.array([oracle.softmin_gradient(z, k, where=there) for z, there in pairs])


def batch_statistics(groups):
    """Whitening statistics of one batch, at every k of the grid."""

    def of(method, k=1.0):
        values = np.concatenate([group_aggregates(group, method, k) for group in groups])
        return oracle.moments(values[np.isfinite(values)].tolist(), 1)

    curve = [of("rvpo", math.inf if k == "inf" else k) for k in GRID]
    result = {
        "k": list(GRID),
        "rvpo": {"mean": [mean for mean, _ in curve], "std": [std for _, std in curve]},
        "grpo": {"mean": 0.0, "std": 1.0},
    }
    for method in ("gdpo", "hard_min"):
        mean, std = of(method)
        result[method] = {"mean": mean, "std": std}
    return result


def whitened(values, batch, method, k=1.0):
    """A = (aggregate - mean) / (std + 1e-6) with the statistics of the batch; grpo as it is."""
    if method == "grpo":
        return values
    statistics = batch[method]
    if method == "rvpo":
        at = batch["k"].index("inf" if math.isinf(k) else k)
        return (values - statistics["mean"][at]) / (statistics["std"][at] + 1e-6)
    return (values - statistics["mean"]) / (statistics["std"] + 1e-6)


def _rows(rng, groups, step, batch, batches, logged):
    rows = []
    for number, group in enumerate(groups):
        scores, where = group_scores(group)
        weights = group_weights(group, "rvpo")
        advantages = {
            name: whitened(
                group_aggregates(group, method, k or 1.0), batches[batch[number]], method
            )
            for name, (_, method, k) in FORMULAS.items()
        }
        if logged:
            advantages = {
                "logged": advantages["grpo"] + rng.normal(size=len(group)) / 10
            } | advantages
        for index in range(len(group)):
            rows.append(
                {
                    "group": number,
                    "index": index,
                    "step": step[number],
                    "batch": batch[number],
                    "rewards": group[index],
                    "where": where[index],
                    "scores": scores[index],
                    "weights": weights[index],
                    "advantages": {name: values[index] for name, values in advantages.items()},
                }
            )
    return rows


def _plain(value):
    return float(value) if math.isfinite(value) else None


def wilson(flags):
    """A share with its Wilson interval; every entry counts as independent."""
    n = len(flags)
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0}
    rate, z = float(np.mean(flags)), 1.959963984540054
    center = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + (z / (2 * n)) ** 2)
    return {"value": rate, "low": max(center - half, 0.0), "high": min(center + half, 1.0), "n": n}


class _Table:
    """Totals over all rows."""

    def __init__(self, rows, names, rules):
        self.rows, self.names = rows, names
        self.rules = [rule["name"] for rule in rules]
        self.rewards = np.array([row["rewards"] for row in rows])
        self.where = np.array([row["where"] for row in rows])
        self.scores = np.array([row["scores"] for row in rows])
        self.weights = np.array([row["weights"] for row in rows])
        self.step = np.array([row["step"] for row in rows])
        self.met = self.where & (np.nan_to_num(self.rewards) >= 1)
        self.met_or_absent = self.met | ~self.where
        self.paid = {
            rule: np.array([row["advantages"][rule] for row in rows]) > 1e-5 for rule in self.rules
        }

    def channels(self):
        return [
            {
                "name": name,
                "kind": "constraint" if m == len(self.names) - 1 else "quality",
                "low": -9.0 if m == 0 else 0.0,
                "high": 9.0 if m == 0 else 1.0,
                "pass_at": 1.0,
                "scored": int(self.where[:, m].sum()),
                "mean": _plain(self.rewards[self.where[:, m], m].mean()),
                "pass_rate": wilson(self.met[self.where[:, m], m]),
                "assumed_pass": m == 0,
            }
            for m, name in enumerate(self.names)
        ]

    def quiet(self):
        rows = []
        for m, channel in enumerate(self.channels()):
            there, met = self.where[:, m], self.met[:, m]
            for rule in self.rules:
                quiet = there & ~met & self.paid[rule]
                gap = float(np.mean(self.paid[rule][there & ~met]) - np.mean(self.paid[rule][met]))
                rows.append(
                    {
                        "channel": channel["name"],
                        "kind": channel["kind"],
                        "rule": rule,
                        "count": int(quiet.sum()),
                        "failures": int((there & ~met).sum()),
                        "scored": int(there.sum()),
                        "rate": wilson(quiet[there]),
                        "of_failures": wilson(quiet[there & ~met]),
                        "gap": {"value": gap, "low": gap - 0.1, "high": gap + 0.1, "n": 24},
                        "p_value": 0.0004 if gap > 0 else 0.6,
                        "groups": 24,
                    }
                )
        return rows

    def bottleneck(self):
        share = self.weights.mean(0)
        channels = [
            {
                "channel": name,
                "minima_share": float(share[m]),
                "weight": float(share[m]),
                "weight_grpo": float(share[-1 - m]),
            }
            for m, name in enumerate(self.names)
        ]
        return {
            "channels": channels,
            "effective_channels": 2.2,
            "switch_rate": {"value": 0.6, "low": 0.5, "high": 0.7, "n": 24},
            "switch_chance": 0.5,
            "switch_unit": "visits",
            "reversals": [{"channels": list(pair), "count": 3, "steps": [10, 30, 40]}]
            if len(pair := self.names[:2]) == 2
            else [],
        }

    def dead(self, groups):
        rows = []
        for m, name in enumerate(self.names):
            kinds = [set(g[~np.isnan(g[:, m]), m].tolist()) for g in groups]
            present = [kind for kind in kinds if kind]
            constant = [min(kind) for kind in present if len(kind) == 1]
            failing = [value < 1 for value in constant]
            rows.append(
                {
                    "channel": name,
                    "groups": len(present),
                    "live": len(present) - len(constant),
                    "dead_pass": len(constant) - sum(failing),
                    "dead_fail": sum(failing),
                    "dead_fail_share": wilson(failing + [False] * (len(present) - len(failing))),
                    "p_value": 0.2,
                }
            )
        return rows

    def neglect(self, end):
        rows = []
        for m, name in enumerate(self.names):
            halves = [
                self.where[:, m] & early for early in (self.step < end / 2, self.step >= end / 2)
            ]
            first, last = (wilson(self.met[half, m]) for half in halves)
            change = (last["value"] or 0.0) - (first["value"] or 0.0)
            rows.append(
                {
                    "channel": name,
                    "first": first,
                    "last": last,
                    "change": {"value": change, "low": change - 0.1, "high": change + 0.1, "n": 24},
                    "returns": True,
                    "own_change": {"value": 0.1, "low": -0.1, "high": 0.3, "n": 24},
                    "p_fall": 0.7,
                    "p_rise": 0.3,
                    "gain_share": 1 / len(self.names),
                    "late": None,
                }
            )
        return rows

    def slices(self):
        """Two slices, one of them with a hostile name."""
        rows = []
        for m, name in enumerate(self.names):
            for where, part in (("odd", self.step >= 0), (HOSTILE[0][:80], self.step < 30)):
                rate = wilson(self.met[part & self.where[:, m], m])
                rows.append(
                    {
                        "slice": where,
                        "channel": name,
                        "completions": int(part.sum()),
                        "prompts": 3,
                        "scored": int((part & self.where[:, m]).sum()),
                        "pass_rate": rate,
                        "failures": int((~self.met[part & self.where[:, m], m]).sum()),
                        "gap": {"value": 0.1, "low": -0.1, "high": 0.3, "n": 3},
                        "p_paid": 0.2,
                        "dead_fail_share": rate,
                        "p_dead_fail": 0.9,
                        **dict.fromkeys(("first", "last", "change", "returns", "p_fall")),
                    }
                )
        return rows

    def between(self):
        met, where = self.met.astype(float), self.where.astype(float)
        given = where.T @ met
        z = np.where(self.where, self.scores, 0.0)
        scale = np.sqrt(np.outer((z**2).sum(0), (z**2).sum(0)))
        opposite = (z[:, :, None] * z[:, None, :] < 0).mean(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            matrices = {
                "conditional": met.T @ met / given,
                "correlation": z.T @ z / scale,
                "conflict": opposite,
            }
        return {k: [[_plain(v) for v in row] for row in m] for k, m in matrices.items()}

    def level(self):
        edges = [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]
        cells = [
            {
                "channel": name,
                "low": low,
                "high": high,
                "groups": 3 * place,
                "weight_failing": 0.1 * place if place else None,
                "weight_passing": 0.2 if place else None,
                "weight_even": 1 / len(self.names),
            }
            for name in self.names
            for place, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True))
        ]
        return {"edges": edges, "cells": cells, "favours": "Easy channels get more of the weight."}

    def sweep(self):
        """Made up, but another number for every k, channel and quantity."""
        count = len(self.names)
        places = [[k * count + m for m in range(count)] for k in range(len(GRID))]
        scales = {"rate": 0.001, "of_failures": 0.002, "gap": -0.03, "weight": 0.003}
        parts = {name: [[s * x for x in row] for row in places] for name, s in scales.items()}
        return {"k": list(GRID), "completions": len(self.rows), **parts}

    def flips(self):
        pairs = [[self.paid[a] != self.paid[b] for b in self.rules] for a in self.rules]
        return [[float(np.mean(pair)) for pair in row] for row in pairs]

    def compensation(self):
        failing = ~self.met_or_absent[:, -1]
        return [{"rule": r, "rate": wilson(self.paid[r][failing])} for r in self.rules]

    def trajectory(self, num_windows):
        parts = np.array_split(np.unique(self.step), min(num_windows, len(np.unique(self.step))))
        inside = [np.isin(self.step, part) for part in parts]

        def curve(met, where):
            rates = [wilson(met[chosen & where]) for chosen in inside]
            keys = {"rate": "value", "low": "low", "high": "high"}
            return {name: [rate[key] for rate in rates] for name, key in keys.items()}

        columns = list(enumerate(self.names))
        return {
            "steps": [[int(part[0]), int(part[-1])] for part in parts],
            "step": [float(np.mean(part)) for part in parts],
            "pass_rate": {n: curve(self.met[:, m], self.where[:, m]) for m, n in columns},
            "joint": curve(self.met_or_absent.all(-1), self.where.any(-1)),
            "weight": {
                n: [float(self.weights[chosen, m].mean()) for chosen in inside] for m, n in columns
            },
            "quiet": {
                n: {
                    r: [
                        float(np.mean((self.paid[r] & ~self.met_or_absent[:, m])[c]))
                        for c in inside
                    ]
                    for r in self.rules
                }
                for m, n in columns
            },
        }

    def scatter(self, rule):
        count = np.maximum(self.where.sum(-1), 1)
        values = [_plain(row["advantages"][rule]) for row in self.rows]
        known = [index for index, value in enumerate(values) if value is not None][:1500]
        return {
            "x": (self.scores.sum(-1) / count)[known].tolist(),
            "y": [values[index] for index in known],
            "failed": (~self.met_or_absent[known, -1]).tolist(),
            "x_label": "mean score over channels",
            "y_label": "advantage",
        }


def _case(rows, groups, index, names, text, text_size, redacted):
    row = rows[index]
    completion = f"case {index}: {text}"
    if text_size:
        completion = (completion + " " + "".join(HOSTILE) * 9)[:text_size]
    met = np.nan_to_num(row["rewards"], nan=1.0) >= 1
    return {
        "row": int(index),
        "step": row["step"],
        "group": row["group"],
        "index": row["index"],
        "prompt": None if redacted else (completion if text_size else f"prompt {text}"),
        "completion": None if redacted else completion,
        "cut": 17 if text_size else 0,
        "prompt_cut": 0,
        "failed": [name for name, fine in zip(names, met, strict=True) if not fine],
        "why": f"fails {names[-1]} and is reinforced",
        "rewards": [_plain(value) for value in row["rewards"]],
        "scores": [float(value) for value in row["scores"]],
        "weights": [float(value) for value in row["weights"]],
        "advantages": {name: _plain(value) for name, value in row["advantages"].items()},
        "group_rewards": [[_plain(value) for value in r] for r in groups[row["group"]]],
        "batch": row["batch"],
    }


def _comparison(title, names):
    estimate = {"value": 0.2, "low": 0.1, "high": 0.3, "n": 20}
    return {
        "a": title,
        "b": "runs/b",
        "rows": [
            {
                "quantity": "pass rate",
                "channel": name,
                "a": estimate,
                "b": estimate,
                "difference": estimate | {"value": 0.0, "low": -0.1, "high": 0.1},
                "reading": "no difference can be told",
            }
            for name in (*names, None)
        ],
        "headline": f"B neglects {names[-1]} as much as A.",
    }


def emptied(report):
    """The same report with None for every number that may be unknown, and no completions drawn."""
    steps = report["trajectory"] and report["trajectory"]["step"]
    edges, scatter = report["level"]["edges"], report["scatter"]
    report = _emptied(report)
    report["error_rate"], report["level"]["edges"] = 0.01, edges
    report["scatter"] = scatter | {"x": [], "y": [], "failed": []}
    for channel in report["channels"]:
        channel |= {"low": 0.0, "high": 1.0, "pass_at": 1.0}
    if steps:
        report["trajectory"]["step"] = steps
    return report


def _emptied(value):
    if isinstance(value, dict):
        return {k: v if k in ("k", "batches", "counts") else _emptied(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_emptied(item) for item in value]
    return None if isinstance(value, float) else value
