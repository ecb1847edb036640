"""Slices: the same numbers for each value of a column, and Simpson's paradox."""

import numpy as np
import pytest

import rvpo_jax
from rvpo_jax import cli
from rvpo_jax.auditing.read import ReadOptions, read_log

SIZE = 8


def sentence(report, topic="Slices"):
    return next(s for s in report["sentences"] if s["topic"] == topic)


def row_of(report, where, channel):
    [row] = [r for r in report["slices"] if (r["slice"], r["channel"]) == (where, channel)]
    return row


def make_log(seed=0, num_prompts=320, families=("law", "medicine", "poetry", "code")):
    """Groups of 8 with two independent channels; prompts take turns between the families."""
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(num_prompts), SIZE)
    family = np.array(families)[prompt % len(families)]
    good, safe = (rng.random((num_prompts, SIZE)) < 0.5 for _ in range(2))
    return {"prompt": prompt, "family": family, "good": good.ravel(), "safe": safe.ravel()}


def plain(columns):
    return {name: np.asarray(column).astype(object).tolist() for name, column in columns.items()}


def audit(columns, **options):
    return rvpo_jax.audit(plain(columns), **options).report


def test_a_slice_says_what_an_audit_of_its_rows_alone_says():
    # GRPO's advantages depend on nothing beyond the group.
    columns = make_log()
    report = audit(columns, by="family")
    for where in ("law", "code"):
        chosen = columns["family"] == where
        alone = audit(
            {name: column[chosen] for name, column in columns.items() if name != "family"}
        )
        for channel in ("good", "safe"):
            row = row_of(report, where, channel)
            [declared] = [c for c in alone["channels"] if c["name"] == channel]
            [quiet] = [
                q
                for q in alone["quiet_failures"]
                if q["channel"] == channel and q["rule"] == alone["rule_in_use"]
            ]
            [dead] = [d for d in alone["dead"] if d["channel"] == channel]
            assert row["pass_rate"] == declared["pass_rate"]
            assert row["gap"] == pytest.approx(quiet["gap"])
            assert row["p_paid"] == pytest.approx(quiet["p_value"])
            assert row["dead_fail_share"] == dead["dead_fail_share"]
            assert (row["completions"], row["prompts"]) == (640, 80)
    assert sum(r["completions"] for r in report["slices"]) == 2 * 2560


def with_payment_in(columns, family):
    """In one family good is worth having and safe excludes it; elsewhere they go together."""
    there = columns["family"] == family
    safe = np.where(there, ~columns["good"], columns["good"])
    worth = np.where(there, 3.0, 1.0)  # so that the sum pays for failing safe there
    return {**columns, "good": columns["good"] * worth, "safe": safe}


def test_a_failure_that_is_paid_in_one_slice_alone_is_named():
    # In three quarters of the prompts safe and good are met together; in law, safe costs 3 of good.
    report = audit(with_payment_in(make_log(), "law"), by="family", pass_at={"good": 1.0})
    assert report["verdict"]["level"] == "problem"
    found = sentence(report)
    assert found["level"] == "problem"
    assert "The whole log does not show that failing safe is paid in law" in found["text"]
    assert sentence(report, "Quiet failures")["level"] == "ok"
    alarm = {"channel": "safe", "slice": "law"}
    assert report["alarms"] == [alarm | {"test": "paid"}]
    assert report["focus"] == [alarm | {"why": "paid"}]
    without = audit(with_payment_in(make_log(), "law"), pass_at={"good": 1.0})
    assert without["verdict"]["level"] == "watch"  # what wins and what fails go together in law
    assert [check["check"] for check in without["checks"]] == ["spurious"]
    assert not any(s["topic"] == "Slices" for s in without["sentences"])


def test_the_first_cases_of_an_alarm_of_a_slice_are_of_the_slice():
    # In one of eight families the sum pays for failing safe; in the others it costs, and yet many
    # who fail it are reinforced. Names that hold "in" are names like any other.
    columns = make_log(num_prompts=640, families=(*"abcdefg", "law in paid"))
    there = columns["family"] == "law in paid"
    columns["safe in law"] = np.where(there, ~columns["good"], columns.pop("safe"))
    columns["good"] = columns["good"] * 3.0
    report = audit(columns, by="family", pass_at={"good": 1.0})
    assert report["alarms"] == [{"test": "paid", "channel": "safe in law", "slice": "law in paid"}]
    first = report["cases"][:3]
    assert {columns["family"][case["row"]] for case in first} == {"law in paid"}
    reason = "fails safe in law and is reinforced"
    assert {case["why"] for case in first} == {f"{reason} (in law in paid)"}
    assert any(case["why"] == reason and not there[case["row"]] for case in report["cases"])


def test_an_alarm_of_the_whole_log_comes_before_those_of_slices():
    columns = with_payment_in(make_log(num_prompts=640), "law")
    columns["format"] = np.repeat(np.arange(640) % 2, SIZE)  # whole groups fail it
    report = audit(columns, by="family", pass_at={"good": 1.0})
    found = [(entry["channel"], entry["why"], entry["slice"]) for entry in report["focus"]]
    assert found == [("format", "dead_fail", None), ("safe", "paid", "law")]


def test_where_all_is_paid_the_slices_are_put_in_order():
    columns = make_log()
    columns["safe"] = ~columns["good"]
    columns["good"] = columns["good"] * 3.0
    report = audit(columns, by="family", pass_at={"good": 1.0})
    assert "Failing safe is paid in 4 of 4 slices of family: from" in sentence(report)["text"]


def test_slices_without_a_difference_raise_nothing():
    levels = [sentence(audit(make_log(seed), by="family"))["level"] for seed in range(10)]
    assert levels == ["ok"] * 10


def over_steps(seed, share_late, rates, change, num_steps=60):
    """A log whose mix of two families changes over the steps, while each changes by ``change``."""
    rng = np.random.default_rng(seed)
    columns = {name: [] for name in ("step", "prompt", "family", "safe", "good")}
    for step in range(num_steps):
        late = step / (num_steps - 1)
        for index in range(20):
            easy = rng.random() < share_late[0] + (share_late[1] - share_late[0]) * late
            rate = rates[int(easy)] + change * late
            for _ in range(SIZE):
                columns["step"].append(step)
                columns["prompt"].append(f"{step} {index}")
                columns["family"].append("easy" if easy else "hard")
                columns["safe"].append(int(rng.random() < rate))
                columns["good"].append(int(rng.random() < 0.5))
    return columns


def test_simpsons_paradox_is_named():
    # Each family falls by 20 points from step to step; the easy one grows from 10 to 90 %.
    report = rvpo_jax.audit(over_steps(0, (0.1, 0.9), (0.3, 0.9), -0.2), by="family").report
    [found] = report["paradoxes"]
    assert found["channel"] == "safe"
    assert found["change"]["low"] > 0.1
    # A line that falls by 0.2 falls by 2/3 of that between the middles of the thirds.
    assert found["within"]["low"] < -0.2 * 2 / 3 < found["within"]["high"] < 0
    text = sentence(report)["text"]
    assert "Simpson's paradox: safe rises as a whole (+" in text
    assert "it falls by 1" in text
    assert "in 2 of 2 slices" in text


@pytest.mark.parametrize("change", [0.0, 0.2])
def test_a_rise_that_a_new_mix_alone_explains_is_no_paradox(change):
    for seed in range(3):
        log = over_steps(seed, (0.1, 0.9), (0.2, 0.6), change)
        assert rvpo_jax.audit(log, by="family").report["paradoxes"] == []


def test_two_logs_are_compared_at_one_mix():
    # b is better at either family, but holds mostly the hard one.
    a = over_steps(1, (0.9, 0.9), (0.3, 0.8), 0.0)
    b = over_steps(2, (0.1, 0.1), (0.4, 0.9), 0.0)
    comparison = rvpo_jax.audit(a, b, by="family").report["comparison"]
    rows = {(r["quantity"], r["channel"]): r for r in comparison["rows"]}
    assert rows["pass rate, last third", "safe"]["reading"] == "b is worse"
    mixed = rows["pass rate, last third, at one mix of family", "safe"]
    assert mixed["reading"] == "b is better"
    assert mixed["difference"]["low"] < 0.1 < mixed["difference"]["high"]
    assert (
        "Simpson's paradox: at one mix of family, safe is the other way round"
        in (comparison["headline"])
    )


@pytest.mark.parametrize(
    ("family", "problem"),
    [
        (lambda c: c["prompt"] * 0, "2 to 40 values, got family with 1"),
        (lambda c: c["prompt"], "2 to 40 values, got family with 320"),
        (lambda c: np.arange(len(c["prompt"])) % 3, "differs within 320 of 320 groups"),
        (lambda c: np.full(len(c["prompt"]), None), "2 to 40 values, got family with 0"),
    ],
)
def test_a_column_that_makes_no_slices_is_refused(family, problem):
    columns = make_log()
    columns["family"] = family(columns)
    with pytest.raises(ValueError, match=problem):
        audit(columns, by="family")


def test_a_column_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="--by must name a column of the log, got famly"):
        audit(make_log(), by="famly")


def test_groups_without_a_value_are_counted():
    columns = plain(make_log())
    columns["family"] = [None] * SIZE + columns["family"][SIZE:]
    report = rvpo_jax.audit(columns, by="family").report
    assert "1 of 320 groups have no value of family" in sentence(report, "What was read")["text"]
    assert sum(r["completions"] for r in report["slices"] if r["channel"] == "safe") == 2552


def test_columns_that_could_be_sliced_are_proposed_by_name():
    columns = make_log() | {"remark": np.array([f"remark {i}" for i in range(2560)])}
    notes = audit(columns)["notes"]
    [note] = [note for note in notes if note["kind"] == "sliceable"]
    assert "--by one of family (4 values in its first rows)." in note["text"]
    assert not any(n["kind"] == "sliceable" for n in audit(columns, by="family")["notes"])


def test_a_numeric_column_can_be_sliced_by_and_is_then_no_reward():
    columns = make_log()
    columns["level"] = columns["prompt"] % 3
    log = read_log(plain(columns), ReadOptions(by="level"))
    assert [channel.name for channel in log.channels] == ["good", "safe"]
    assert log.slice_names == ("0", "1", "2")


def test_the_command_shows_and_writes_slices(tmp_path, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "log.parquet"
    pq.write_table(pa.table(plain(with_payment_in(make_log(), "law"))), path)
    arguments = ["--by", "family", "--pass", "good=1", "--out", str(tmp_path)]
    assert cli.main(["audit", str(path), *arguments]) == 0
    out = capsys.readouterr().out
    assert "Slices of family" in out
    assert "medicine" in out
    page = (tmp_path / "audit.html").read_text()
    assert "Cases of <bdi>safe</bdi> in <bdi>law</bdi>" in page
    assert "of the whole log, not of the slice alone" in page
    assert '<a href="#slices">Slices</a>' in page
