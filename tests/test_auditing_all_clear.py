"""What once got a false all-clear: each log here has something wrong, or says nothing."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from planted import CHANNELS, make_log, make_rewards

import rvpo_jax
from rvpo_jax.auditing.payers import payer_table
from rvpo_jax.auditing.read import ReadOptions, read_log
from rvpo_jax.auditing.replay import replay
from rvpo_jax.auditing.rules import base_rules

NAMES = [channel.name for channel in CHANNELS]
QUIET, BLIND, NEGLECT, DECIDES, NOTICED, READ = range(6)
SAFE = {"constraints": ("safety",), "group": "prompt_id"}


def columns_of(rewards, names=NAMES):
    """A table: 16 prompts that come back every second step, texts of their own."""
    steps, num_prompts, group_size, num_channels = rewards.shape
    step, prompt, member = (x.reshape(-1) for x in np.indices(rewards.shape[:3]))
    flat = rewards.reshape(-1, num_channels).astype(np.float64)
    return {
        "step": step,
        "prompt_id": step % 2 * num_prompts + prompt,
        "completion": [f"{s} {p} {m}" for s, p, m in zip(step, prompt, member, strict=True)],
    } | {name: flat[:, index] for index, name in enumerate(names)}


@pytest.fixture
def paid():
    """Rewards of a sum that pays for unsafe answers, as columns."""
    return columns_of(make_rewards(("paid",), steps=24))


def sentences_of(columns, **options):
    result = rvpo_jax.audit(pa.table(columns), **(SAFE | options))
    return result, result.report["sentences"]


# 1. A pass mark comes from the usual values.


@pytest.mark.parametrize("odd", [-1.0, 1000.0, -7.5])
def test_one_odd_value_does_not_switch_a_constraint_off(paid, odd):
    paid["safety"][17] = odd
    result, sentences = sentences_of(paid)
    channel = next(c for c in result.report["channels"] if c["name"] == "safety")
    assert channel["pass_at"] == 1.0
    assert sentences[QUIET]["level"] == "problem" and "safety" in sentences[QUIET]["text"]
    assert sentences[READ]["level"] == "watch"
    assert f"in 1 row(s), as far as {odd:g}" in sentences[READ]["text"]


def test_one_odd_value_does_not_move_the_mark_of_a_judge():
    rng = np.random.default_rng(0)
    judge = rng.random(4000)
    judge[5] = 1000.0
    columns = {"prompt": np.arange(4000) // 8, "judge": judge, "format": rng.random(4000) < 0.5}
    result, sentences = sentences_of(columns, constraints=(), group="prompt")
    assert result.report["channels"][0]["pass_at"] == pytest.approx(0.5, abs=0.01)
    assert "as far as 1000" in sentences[READ]["text"]


@pytest.mark.parametrize(("given", "level"), [({}, "watch"), ({"judge": 0.5}, "ok")])
def test_an_assumed_mark_that_nearly_all_reach_is_named(given, level):
    rng = np.random.default_rng(0)
    judge = 0.6 + 0.4 * rng.random(4000)
    judge[::125] = 0.0  # 0.8 %: too many for outliers, so the mark is the middle
    columns = {
        "prompt": np.arange(4000) // 8,
        "judge": judge,
        "format": rng.random(4000) < 0.5,
    }
    _, sentences = sentences_of(columns, constraints=(), group="prompt", pass_at=given)
    assert sentences[READ]["level"] == level
    assert ("which is assumed and makes" in sentences[READ]["text"]) == (level == "watch")


# 2. A measure is no reward.


@pytest.mark.parametrize(
    "name", ["response_length", "num_turns", "reward_ms", "gen_time", "prompt_tokens", "seq_len"]
)
def test_a_measure_does_not_join_the_sum_of_any_trainer(paid, name):
    rng = np.random.default_rng(1)
    measure = rng.integers(20, 2000, len(paid["step"]))
    verl = {
        "input": [f"p{p}" for p in paid["prompt_id"]],
        "output": paid["completion"],
        "score": np.sum([paid[n] for n in NAMES], 0),
        "step": paid["step"],
        name: measure,
    } | {n: paid[n] for n in NAMES}
    result, sentences = sentences_of(verl, group=None)
    assert result.report["format"] == "verl"
    assert [c["name"] for c in result.report["channels"]] == NAMES
    assert sentences[QUIET]["level"] == "problem"
    assert name in sentences[READ]["text"]  # among what was not used


def test_a_measure_that_the_user_names_is_a_channel(paid):
    paid["latency"] = np.random.default_rng(1).random(len(paid["step"]))
    assert "latency" not in [c.name for c in read_log(pa.table(paid)).channels]
    for options in ({"pass_at": {"latency": 0.5}}, {"constraints": ("latency",)}):
        log = read_log(pa.table(paid), ReadOptions(group="prompt_id", **options))
        assert "latency" in [c.name for c in log.channels]


def test_a_channel_that_is_nearly_all_of_the_sum_is_named(paid):
    paid["verbosity"] = np.random.default_rng(1).integers(20, 2000, len(paid["step"]))
    result, sentences = sentences_of(paid)
    assert result.level != "no_alarm"
    assert sentences[DECIDES]["level"] == "watch"
    assert "verbosity carries 100.0 % of the sum's variance" in sentences[DECIDES]["text"]


# 3. Verdicts in words.


@pytest.mark.parametrize(
    ("met", "failed"), [("pass", "fail"), ("yes", "no"), ("Safe", "UNSAFE"), ("true", "false")]
)
@pytest.mark.parametrize("kind", ["text", "categorical", "list", "some lost"])
def test_a_verdict_in_words_is_a_channel(paid, met, failed, kind):
    words = [met if value else failed for value in paid["safety"]]
    if kind == "some lost":
        words[::50] = [None] * len(words[::50])
    column = pa.array(words)
    paid["safety"] = column.dictionary_encode() if kind == "categorical" else column
    table = pa.table(paid).to_pylist() if kind == "list" else pa.table(paid)
    source = pa.Table.from_pylist(table) if kind == "list" else table
    result, sentences = sentences_of(source.to_pydict() if kind == "list" else paid)
    assert [c["name"] for c in result.report["channels"]] == NAMES
    assert sentences[QUIET]["level"] == "problem" and "safety" in sentences[QUIET]["text"]


def test_verdicts_in_the_words_of_a_json_log_are_read(tmp_path, paid):
    import json

    rows = pa.table(paid).to_pylist()
    for row in rows:
        row["safety"] = "pass" if row["safety"] else "fail"
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = rvpo_jax.audit(path, **SAFE)
    assert "Failing safety is paid" in result.sentences[QUIET]


def test_a_named_column_that_cannot_be_read_is_an_error(paid):
    paid["grade"] = [f"quite good {i}" for i in range(len(paid["step"]))]
    with pytest.raises(ValueError, match="grade, in which no row is one"):
        sentences_of(paid, rewards=("safety", "grade"))
    with pytest.raises(ValueError, match="must name channels of the log, got grade"):
        sentences_of(paid, constraints=("grade",))


def test_words_that_belong_to_the_prompt_are_no_verdicts_and_what_is_ignored_is_listed(paid):
    paid["truth"] = ["yes" if p % 3 else "no" for p in paid["prompt_id"]]
    paid["remark"] = ["fine", "too long"] * (len(paid["step"]) // 2)
    result, sentences = sentences_of(paid)
    assert [c["name"] for c in result.report["channels"]] == NAMES
    assert "never differ among the completions of a prompt" in sentences[READ]["text"]
    assert "truth" in sentences[READ]["text"] and "remark" in sentences[READ]["text"]
    assert "nothing was left out" not in sentences[READ]["text"]
    named, _ = sentences_of(paid, rewards=(*NAMES, "truth"))
    assert [c["name"] for c in named.report["channels"]][-1] == "truth"


# 4. Where nothing can be said.


def test_one_channel_gets_no_all_clear():
    columns = columns_of(make_rewards(steps=24))
    kept = {name: columns[name] for name in ("step", "prompt_id", "completion", "format")}
    result, sentences = sentences_of(kept, constraints=())
    assert sentences[DECIDES]["text"] == "One channel only: it decides alone."
    assert result.level == "unclear"
    assert "One channel only" in result.report["verdict"]["headline"]


def test_groups_without_any_difference_are_named():
    rewards = make_rewards(steps=24)
    silent = np.arange(16) % 8 != 0  # 14 of 16 prompts
    rewards[:, silent] = [3.0, 1.0, 1.0, 1.0]
    result, sentences = sentences_of(columns_of(rewards), constraints=())
    assert result.level == "watch"
    assert "No channel varies in 88 %" in sentences[BLIND]["text"]
    assert "rests on the other 48" in sentences[BLIND]["text"]


# 5. Gaps within groups, and which rule would have helped.


def test_the_rules_are_compared_within_groups_that_hold_both(paid):
    # 60 % of the groups fail safety as a whole: every rule reinforces half of those failures.
    dead = np.isin(paid["prompt_id"] % 5, (0, 1, 2))
    paid["safety"][dead] = 0.0
    result, sentences = sentences_of(paid)
    text = sentences[QUIET]["text"]
    gaps = {
        row["rule"]: row["gap"]["value"]
        for row in result.report["quiet_failures"]
        if row["channel"] == "safety"
    }
    assert f"It would not be paid by soft minimum, k = 1 ({gaps['rvpo:k=1']:+.2f})" in text or (
        f"hard minimum ({gaps['hard_min']:+.2f})" in text
    )
    assert f"mean (GDPO) ({gaps['gdpo']:+.2f})" in text
    assert max(gaps, key=lambda rule: gaps[rule]) == "grpo"


def test_the_payer_is_named_and_its_parts_add_up_to_the_gap(paid):
    result, sentences = sentences_of(paid)
    assert "correctness pays for it" in sentences[QUIET]["text"]
    report = result.report
    row = next(
        r for r in report["quiet_failures"] if (r["channel"], r["rule"]) == ("safety", "grpo")
    )
    parts = {r["payer"]: r["part"]["value"] for r in report["payers"] if r["channel"] == "safety"}
    # By hand: what the channel itself adds is -1 over the group's deviation of the sum.
    flat = np.stack([paid[name] for name in NAMES], -1)
    group = paid["step"] * 100 + paid["prompt_id"]
    own = []
    for key in np.unique(group):
        rows = flat[group == key]
        deviation = rows.sum(-1).std(ddof=1)
        if 0 < rows[:, 2].mean() < 1:
            own.append(-1 / deviation if deviation > 0 else 0.0)
    assert sum(parts.values()) + np.mean(own) == pytest.approx(row["gap"]["value"], abs=1e-3)


def test_logged_advantages_of_a_run_of_ours_are_split_as_its_method_is():
    log = make_log(("paid",), steps=12)
    mean = replay(log, base_rules(1.0, False), 1.0).advantages["gdpo"]
    log = dataclasses.replace(log, advantage=mean, method="gdpo")
    played = replay(log, base_rules(1.0, True), 1.0)
    parts = {row["payer"]: row["part"]["value"] for row in payer_table(played, [2])}
    own = played.scores[:, 2] / 4  # its own quarter of the mean, whitened as the others are
    std = np.array([played.scores[log.step == step].mean(-1).std(ddof=1) for step in range(12)])
    own = own / std[log.step]
    gaps = []
    for group in np.unique(log.group):
        rows = log.group == group
        met = played.met[rows, 2]
        if 0 < met.mean() < 1:
            gaps.append(own[rows][~met].mean() - own[rows][met].mean())
    gap = float(np.nanmean(played.gaps["logged"][:, 2]))
    assert sum(parts.values()) + np.mean(gaps) == pytest.approx(gap, abs=1e-3)


def test_channels_that_cancel_in_a_batch_pay_nothing_there():
    # Step 0: the judge pays for bad tone. Step 1: both move in one completion, and cancel.
    first = {"judge": [1, 0, 1, 0, 0, 1, 0, 1], "tone": [0, 1, 0, 1, 1, 0, 1, 1]}
    second = {"judge": [1, 1, 1, 0, 1, 1, 1, 1], "tone": [0, 0, 0, 1, 0, 0, 0, 0]}
    table = {name: first[name] + second[name] for name in first}
    table |= {"step": [0] * 8 + [1] * 8, "prompt": (["a"] * 4 + ["b"] * 4) * 2}
    log = dataclasses.replace(read_log(table), advantage=np.zeros(16, np.float32), method="gdpo")
    rows = payer_table(replay(log, base_rules(1.0, True), 1.0), [1])
    assert [row["payer"] for row in rows] == ["judge"]
    assert 0 < rows[0]["part"]["value"] < 3  # over the deviation of its batch, at most 2 here


# 7. Rows that are there twice.


def test_rows_of_two_processes_are_counted_in_words(paid):
    table = pa.table(paid)
    _, sentences = sentences_of(pa.concat_tables([table, table.slice(0, 64)]).to_pydict())
    assert "64 row(s) repeat the completion and the rewards" in sentences[READ]["text"]
    gap = pa.table({name: np.asarray(column)[np.asarray(paid["step"]) != 9]
                    for name, column in paid.items()})  # fmt: skip
    _, sentences = sentences_of(gap.to_pydict())
    assert "lacks 1 of the 24 steps from 0 to 23: 9" in sentences[READ]["text"]


# 6. Steps depend on each other.


def wandering(rng, steps, correlation):
    """A stationary AR(1) series ``[steps]`` of variance 1."""
    level = np.empty(steps)
    level[0] = rng.normal()
    for step in range(1, steps):
        innovation = rng.normal() * np.sqrt(1 - correlation**2)
        level[step] = correlation * level[step - 1] + innovation
    return level


def neglect_of(logit, rng, group_size=8):
    """Sentence on neglect for 0/1 rewards of ``[steps, prompts, M]`` logits; prompts as given."""
    logit, prompt = logit
    steps, num_prompts, num_channels = logit.shape
    shape = (steps, num_prompts, group_size, num_channels)
    met = rng.random(shape) < 1 / (1 + np.exp(-logit[:, :, None]))
    columns = {
        "step": np.repeat(np.arange(steps), num_prompts * group_size),
        "prompt": np.repeat(prompt.reshape(-1), group_size),
    } | {f"r{i}": met[..., i].reshape(-1).astype(float) for i in range(num_channels)}
    return sentences_of(columns, constraints=(), group="prompt")[1][NEGLECT]


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_pass_rates_that_wander_and_go_nowhere_raise_no_alarm(correlation):
    rng = np.random.default_rng(int(100 * correlation))
    levels = []
    for _ in range(20):
        series = np.stack([wandering(rng, 48, correlation) for _ in range(3)], -1)
        prompt = np.stack([rng.permutation(16)[:8] for _ in range(48)])
        logit = 0.5 + 0.6 * series[:, None] + np.zeros((1, 8, 1))
        levels.append(neglect_of((logit, prompt), rng)["level"])
    assert levels.count("problem") <= 1  # 3 in 10 before


def test_prompts_that_become_harder_are_no_neglect():
    rng = np.random.default_rng(3)
    hardness = np.linspace(0, 2.5, 48)[:, None, None]
    new = np.arange(48 * 8).reshape(48, 8)
    sentence = neglect_of((1.5 - hardness + np.zeros((48, 8, 2)), new), rng)
    assert sentence["level"] == "watch"
    assert "ones that became harder would look the same" in sentence["text"]
    # The same with prompts that come back: harder ones are drawn later, and none gets worse.
    rng = np.random.default_rng(3)
    drawn = np.clip(np.arange(48)[:, None] // 2 + rng.integers(-6, 7, (48, 32)), 0, 23)
    drawn = drawn * 32 + np.arange(32)
    logit = (1.5 - 2.5 * (drawn // 32) / 23)[..., None] + np.zeros((48, 32, 2))
    sentence = neglect_of((logit, drawn), rng)
    assert sentence["level"] == "ok" and "did not get worse" in sentence["text"]
    # And what does get worse is a problem still.
    logit[..., 1] -= 2.0 * np.linspace(0, 1, 48)[:, None]
    sentence = neglect_of((logit, drawn), rng)
    assert sentence["level"] == "problem"
    assert sentence["text"].startswith("r1 (") and "compared with itself" in sentence["text"]


@pytest.mark.parametrize("last", [4, 0])
def test_what_collapses_in_the_last_steps_is_told(last):
    # r1 is met by 95 of 100 completions until the last steps, then by none. Of thirds the change is
    # 4 of 16 steps, and one step down is what a series that wanders far looks like.
    rng = np.random.default_rng(5)
    logit = np.full((48, 8, 2), 3.0)
    logit[48 - last :, :, 1] = -9.0
    prompt = np.stack([rng.permutation(16)[:8] for _ in range(48)])
    sentence = neglect_of((logit, prompt), rng)
    assert sentence["level"] == ("watch" if last else "ok")
    assert sentence["text"].startswith("r1 (9" if last else "No channel clearly falls")
    assert (" to 0 %) fell late" in sentence["text"]) == bool(last)


# An outcome that the rewards stand for.


@pytest.mark.parametrize("falls", [True, False])
def test_an_outcome_that_falls_while_the_rewards_rise_is_over_optimisation(falls):
    rng = np.random.default_rng(0)
    columns = columns_of(make_rewards(steps=48))
    course = columns["step"] / 47
    gold = 0.6 - 0.3 * course * falls + 0.1 * rng.normal(size=len(course))
    result, sentences = sentences_of(columns | {"gold": gold}, constraints=(), outcome="gold")
    assert [c["name"] for c in result.report["channels"]] == NAMES  # gold is held out
    outcome = next(s for s in sentences if s["topic"] == "Outcome")
    assert outcome["level"] == ("problem" if falls else "ok")
    assert ("over-optimised" in outcome["text"]) == falls
    if not falls:
        assert "an outcome that falls" in result.report["verdict"]["headline"]


def test_an_outcome_that_cannot_be_read_is_refused():
    columns = columns_of(make_rewards(steps=4))
    with pytest.raises(ValueError, match="--outcome must name a column of the log, got gold"):
        sentences_of(columns, outcome="gold")
    columns["gold"] = [f"text {i}" for i in range(len(columns["step"]))]
    with pytest.raises(ValueError, match="--outcome must name a column of numbers"):
        sentences_of(columns, outcome="gold")
