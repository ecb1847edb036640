"""Trains cells of the map under rules and says how they ended; ``level_aware`` uses it too.

``T`` recorded points, ``M`` channels.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from rvpo_jax.config import AdvantageConfig
from rvpo_jax.lab.training import History, outcomes, train_many

# Of the recorded points: what counts as the end, and as late.
END_FRAC = 0.25
LATE_FRAC = 1 / 3


def survey(
    cells: Sequence[Any],
    rules: Mapping[str, AdvantageConfig],
    seeds: Sequence[int],
    *,
    risk_paths: Mapping[str, Any] | None = None,
    keep: Callable[[Any, str, History], Any] | None = None,
    only: Callable[[Any, str], bool] | None = None,
    completions: int,
    steps: int,
    **options: Any,
) -> tuple[dict[str, dict[str, dict[str, np.ndarray]]], dict[str, Any]]:
    """Trains every cell under every rule; cells of the same shapes in one program.

    Args:
      cells: of the map.
      rules: by name; those that differ in k alone share a program.
      seeds: common to all cells and rules.
      risk_paths: by rule, (first, last) value of k; a rule that is missing here keeps its k.
      keep: ``(cell, rule, history)``; what it returns other than None is returned by
        ``cell/rule``.
      only: ``(cell, rule)``, whether to train it; None: all.
      completions: B * G.
      steps: SGD steps.
      **options: of ``train``.

    Returns:
      Outcomes ``[seeds]`` by cell, rule and column; and what was kept.
    """
    risk_paths = risk_paths or {}
    programs: dict[Any, list[tuple[Any, str]]] = {}
    for cell in cells:
        shapes = jax.tree_util.tree_structure(cell.world), cell.world.logits.shape
        for name, rule in rules.items():
            if only and not only(cell, name):
                continue
            key = (
                shapes,
                cell.group_size,
                cell.dead_channels,
                dataclasses.replace(rule, risk_coef=1.0),
            )
            programs.setdefault(key, []).append((cell, name))

    def run(program):
        (_, group_size, dead, rule), settings = program
        if dead == "drop":
            rule = dataclasses.replace(rule, dead_channels=dead)
        paths = np.array(
            [_path(risk_paths.get(name, rules[name].risk_coef), steps) for _, name in settings]
        )
        history = train_many(
            [cell.world for cell, _ in settings],
            rule,
            seeds,
            risk_coefs=paths,
            steps=steps,
            group_size=group_size,
            num_groups=completions // group_size,
            **options,
        )
        return settings, history

    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    kept: dict[str, Any] = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for settings, history in pool.map(run, programs.items()):
            for i, (cell, name) in enumerate(settings):
                one = jax.tree_util.tree_map(lambda x, i=i: x[i], history)
                found.setdefault(cell.name, {})[name] = ended(cell, one)
                more = keep(cell, name, one) if keep else None
                if more is not None:
                    kept[f"{cell.name}/{name}"] = more
    return found, kept


def ended(cell: Any, history: History) -> dict[str, np.ndarray]:
    """Outcomes of one cell under one rule, ``[seeds]`` each.

    Over the last quarter: ``worst met``, pass rate of the channel whose pass rate is lowest;
    ``worst level``, the same of mean rewards; ``joint``, share that meets all; ``mean``, of
    channels and completions; ``quiet easy`` and ``quiet hard``, share that fails the first, the
    last channel and has a positive advantage; ``quiet``, that fails any channel and has one.
    ``drop``: how far the worst level of the batch, averaged over three points, ends below its
    own best.

    Args:
      cell: of the map.
      history: with leading axis seeds.

    Returns:
      The columns.
    """
    points = history.joint_pass.shape[-1]
    last = max(int(END_FRAC * points), 1)
    end = outcomes(history, cell.world, last, np.arange(len(cell.world.channels)) < cell.channels)
    quiet = history.quiet_failures[:, -last:].mean(1)  # [seeds, M]
    return {
        "worst met": end["worst_pass"],
        "worst level": end["worst"],
        "joint": end["joint_pass"],
        "mean": end["mean"],
        "quiet": end["quiet_any"],
        "quiet easy": quiet[:, 0],
        "quiet hard": quiet[:, cell.channels - 1],
        "drop": late_drop(history.channel_mean[:, :, : cell.channels].min(-1)),
    }


def late_drop(curves: np.ndarray, width: int = 3) -> np.ndarray:
    """How far smoothed curves end below their own best.

    Args:
      curves: ``[seeds, T]``.
      width: recorded points that are averaged.

    Returns:
      ``[seeds]`` >= 0.
    """
    width = min(width, curves.shape[1])
    windows = np.lib.stride_tricks.sliding_window_view(curves, width, axis=1).mean(-1)
    return windows.max(1) - windows[:, -1]


def _path(k: Any, steps: int) -> np.ndarray:
    first, last = k if isinstance(k, tuple) else (k, k)
    # linspace between two infinities is NaN.
    return np.full(steps, first) if first == last else np.linspace(first, last, steps)


def first_steps(cell, name: str, history):
    """Levels and alignment at the start of the base worlds, where all rules see the same policy."""
    if cell.axis != "base":
        return None
    return {
        "level": history.channel_mean[:, 0].mean(0),
        "alignment": history.alignment[:, 0].mean(0),
        "curve": history.channel_mean.min(-1).mean(0),
    }
