"""From a log to an ``Audit``: read, replay under every rule, count, say it in words."""

import dataclasses
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..basics.files import to_json, write_text
from ..basics.refusals import Refusal
from ..basics.version import __version__
from . import cases, compare, findings, slices, tables, trends
from .checks import run_checks
from .definitions import definition_rows
from .focus import focus_channels
from .payers import payer_table
from .read import Note, ReadOptions, RewardLog, read_log
from .read.bucket import local_copy
from .replay import Replay, replay
from .rules import Further, Rule, base_rules, check_rules, parse_rule
from .sweep import sweep_table

if TYPE_CHECKING:
    import pyarrow as pa

    from .page.picture import Picture

TABLES = (
    *("channels", "quiet_failures", "dead", "neglect", "slices", "compensation", "notes", "cases"),
)


@dataclasses.dataclass(frozen=True)
class Audit:
    """What an audit found: ``report`` is the content of ``audit.json``.

    In a notebook it shows itself as the HTML page.
    """

    report: Mapping[str, Any]

    @property
    def level(self) -> str:
        """problem, watch, no_alarm or unclear."""
        return self.report["verdict"]["level"]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The findings in words, one per topic."""
        return tuple(sentence["text"] for sentence in self.report["sentences"])

    @property
    def tables(self) -> dict[str, "pa.Table"]:
        """Arrow tables by name (``TABLES``).

        ``.to_pandas()`` makes a data frame of one where pandas is installed. An estimate becomes
        the columns ``NAME``, ``NAME_low``, ``NAME_high`` and ``NAME_n``.
        """
        import pyarrow as pa

        return {
            name: pa.Table.from_pylist([_flat(row) for row in self.report[name]]) for name in TABLES
        }

    @property
    def figures(self) -> dict[str, "Picture"]:
        """Pictures by name: overview, pass_rates, weights, conditional, compensation, quiet.

        A notebook shows one that ends a cell; ``.save("weights.svg")`` writes it.
        """
        from .page.plots import make_figures

        return make_figures(self.report)

    def to_html(self) -> str:
        """The self-contained page."""
        from .page.page import render_page

        return render_page(self.report)

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Writes ``audit.json`` and ``audit.html``, each as a whole or not at all.

        Args:
          folder: created if absent.

        Returns:
          The two paths.
        """
        folder = Path(folder) if isinstance(folder, str) else folder
        folder.mkdir(parents=True, exist_ok=True)
        data, page = folder / "audit.json", folder / "audit.html"
        write_text(data, to_json(self.report, indent=1) + "\n")
        write_text(page, self.to_html())
        return data, page

    def _repr_html_(self) -> str:
        # A frame of its own: the page's styles and its policy must not meet the notebook's.
        page = html.escape(self.to_html(), quote=True)
        return (
            f'<iframe srcdoc="{page}" sandbox="allow-scripts" width="100%" height="800" '
            'title="audit of a reward log"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Audit({self.report['title']!r}: {self.level})"


def audit(
    source: Any,
    other: Any = None,
    *,
    options: ReadOptions | None = None,
    risk_coef: float | None = None,
    what_if: Sequence[str] = (),
    redact: bool = False,
    further: Further | None = None,
) -> Audit:
    """Shows what the average of several rewards hides in a log of any trainer.

    Args:
      source: a file or folder (Parquet, Arrow, JSONL, CSV; a run of ours; what other trainers
        log), also ``gs://BUCKET/PATH``, or a table in memory (Arrow, pandas, polars, a list of
        dictionaries).
      other: a second log to compare with the first: did it neglect less.
      options: which columns are what, pass marks, constraints; None: by format.
      risk_coef: k of the soft minimum, 1/score; None: that of the run, else 1.
      what_if: further rules, for example ``("rvpo:k=2",)``.
      redact: leave all texts out of the report.
      further: loads the records of rules in ``what_if`` that are not in ``formulas``.

    Returns:
      The audit; of ``other``, compared with ``source``, where it is given.

    Raises:
      ValueError: on a source that cannot be read, or options that do not fit it.
    """
    options = ReadOptions() if options is None else options
    more = [parse_rule(name, further) for name in dict.fromkeys(what_if)]
    with local_copy(source) as place:
        report = _report(read_log(place, options), risk_coef, more, redact)
    if other is None:
        return Audit(report)
    with local_copy(other) as place:
        second = _report(read_log(place, options), risk_coef, more, redact)
    return Audit(second | {"comparison": compare.compare(report, second)})


def audit_with(
    source: Any, other: Any = None, further: Further | None = None, /, **options: Any
) -> Audit:
    """``audit`` with the fields of ``ReadOptions`` as plain keyword arguments.

    Args:
      source: see ``audit``.
      other: see ``audit``.
      further: see ``audit``.
      **options: fields of ``ReadOptions`` and keyword arguments of ``audit``.

    Returns:
      The audit.

    Raises:
      ValueError: on an option that neither knows.
    """
    fields = {field.name for field in dataclasses.fields(ReadOptions)}
    own = ("risk_coef", "what_if", "redact")
    unknown = [name for name in options if name not in fields and name not in own]
    if unknown:
        raise Refusal(
            f"audit has no option {', '.join(unknown)}.",
            f"It has: {', '.join([*sorted(fields), *own])}.",
        )
    reading = {name: value for name, value in options.items() if name in fields}
    rest = {name: value for name, value in options.items() if name in own}
    return audit(source, other, options=ReadOptions(**reading), further=further, **rest)


def _report(
    log: RewardLog, risk_coef: float | None, what_if: Sequence[Rule], redact: bool
) -> dict[str, Any]:
    if risk_coef is None:
        risk_coef = 1.0 if log.risk_coef is None else log.risk_coef
    first = base_rules(risk_coef, log.advantage is not None)
    rules = tuple({rule.name: rule for rule in (*first, *what_if)}.values())
    check_rules(rules, log)
    played = replay(log, rules, risk_coef)
    report = _tables(played, risk_coef)
    judged = [log.channels[index].name for index in tables.judged_channels(played)]
    report |= findings.write_findings(report, judged)
    report["focus"] = focus_channels(report, judged)
    chosen = cases.select_cases(played, rules[0].name, cases.other_rule(rules), report["focus"])
    shown, batches = cases.describe_cases(played, chosen, redact=redact)
    return report | {"cases": shown, "batches": batches, "redacted": redact}


def _tables(played: Replay, risk_coef: float) -> dict[str, Any]:
    log, rules = played.log, played.rules
    in_use = rules[0].name
    moves = trends.neglect(played)
    followed = [in_use, *(rule.name for rule in rules if rule.name != in_use)]
    return {
        "title": log.name,
        "format": log.format,
        "version": __version__,
        "counts": _counts(played),
        "rule_in_use": in_use,
        "risk_coef": risk_coef if risk_coef != float("inf") else "inf",
        "rules": [rule.plain() for rule in rules],
        "channels": tables.channel_table(played),
        "joint_pass_rate": tables.joint_pass_rate(played),
        "quiet_failures": tables.quiet_failure_table(played),
        "payers": payer_table(played, tables.paid_channels(played)),
        "signal": tables.signal_table(played),
        "checks": run_checks(played),
        "bottleneck": tables.bottleneck_table(played)
        | trends.switching(played)
        | {"reversals": trends.reversals(played)},
        "dead": tables.dead_table(played),
        "neglect": moves,
        "outcome": trends.outcome_trend(played),
        **_slices(played, moves),
        **tables.between_channels(played),
        "level": tables.level_table(played),
        "spread": tables.spread_table(played, risk_coef),
        "sweep": sweep_table(played),
        "flips": tables.flip_table(played),
        "compensation": tables.compensation_table(played),
        "trajectory": trends.trajectory(played, followed),
        "scatter": tables.scatter(
            played, in_use, cases.scatter_rows(played, in_use, tables.SCATTER_POINTS)
        ),
        "notes": [dataclasses.asdict(note) for note in (*log.notes, *_memory_notes(played))],
        "definitions": definition_rows(),
        "comparison": None,
    }


def _memory_notes(played: Replay) -> list[Note]:
    """That a rule's memory began with the log, which may be later than the run did."""
    names = [rule.name for rule in played.rules if rule.formula and rule.formula.remembers]
    if not names or played.log.step is None:
        return []
    first = int(played.log.step.min())
    text = f"{', '.join(names)} began without memory at step {first}, the first of the log."
    return [Note(kind="memory", count=len(names), text=text)]


def _slices(played: Replay, moves: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = slices.slice_table(played)
    paradoxes = slices.paradoxes(rows, moves)
    return {"sliced_by": played.log.sliced_by, "slices": rows, "paradoxes": paradoxes}


def _counts(played: Replay) -> dict[str, int]:
    log = played.log
    return {
        "completions": len(log.rewards),
        "groups": len(played.status),
        "prompts": int(log.prompt.max()) + 1,
        "steps": 0 if log.step is None else int(played.batch.max()) + 1,
        "channels": len(log.channels),
    }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping) and "value" in value:
            flat |= {name: value["value"]} | {
                f"{name}_{part}": value[part] for part in ("low", "high", "n")
            }
        elif isinstance(value, (Mapping, list)):
            flat[name] = json.dumps(value)
        else:
            flat[name] = value
    return flat
