"""Further rules of an audit come from the records of the methods; a new one needs nothing here."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from test_auditing_replay import ragged_log

from rvpo_jax import AdvantageConfig, compute_advantages, what_if
from rvpo_jax.auditing import Formula, replay, rules
from rvpo_jax.basics.residue import POSITIVE
from rvpo_jax.method.methods import METHODS
from rvpo_jax.method.rules import Method, Rule, RuleOutput


def record(**fields):
    """A record of a method, the mean unless told otherwise."""
    usual = {"rule": lambda scores: scores.mean(-1), "label": "new", "pointwise": True}
    return Method(**usual | fields)


@pytest.mark.parametrize("method", METHODS)
def test_every_named_method_can_be_replayed_under_its_own_label(method):
    rule = rules.parse_rule(method, what_if.further_rules)
    assert rule.label.startswith(METHODS[method].label)
    assert rule.color == METHODS[method].color
    log = ragged_log()
    of_all = METHODS[method].needs == "targets"
    channels = tuple(
        dataclasses.replace(channel, target=channel.high if of_all or m == 0 else None)
        for m, channel in enumerate(log.channels)
    )
    played = replay.replay(dataclasses.replace(log, channels=channels), [rule], 1.0)
    advantage = played.advantages[rule.name]
    # With many live groups every rule has both signs, in the completions that training would use.
    assert np.nanmax(advantage) > POSITIVE > -POSITIVE > np.nanmin(advantage)
    np.testing.assert_array_equal(np.isfinite(advantage), played.usable)


def test_a_new_method_is_known_by_its_record_alone(monkeypatch):
    new = record(label="median", color="#123456", reads=("risk_coef",), pointwise=False)
    monkeypatch.setitem(METHODS, "median", new)
    rule = rules.parse_rule("median:k=3", what_if.further_rules)
    assert (rule.name, rule.label, rule.color) == ("median:k=3", "median, k = 3", "#123456")
    assert rule.risk_coef == 3.0
    assert rule.whitened
    played = replay.replay(ragged_log(), [rule], 1.0)
    np.testing.assert_array_equal(np.isfinite(played.advantages[rule.name]), played.usable)
    with pytest.raises(ValueError, match="median.*with :k=NUMBER after .*median"):
        rules.parse_rule("unheard of", what_if.further_rules)


def test_a_rule_with_memory_is_replayed_in_the_order_of_the_steps(monkeypatch):
    # The aggregate is the mean times the number of steps before, so a first step has no sign.
    def apply(scores, state):
        return RuleOutput(aggregate=scores.mean(-1) * state[0], state=state + 1)

    counting = record(rule=Rule(init=jnp.zeros, apply=apply), pointwise=False, whitened=False)
    monkeypatch.setitem(METHODS, "counting", counting)
    log = ragged_log()
    rule = rules.parse_rule("counting", what_if.further_rules)
    found = replay.replay(log, [rule], 1.0).advantages["counting"]
    plain = replay.replay(log, [from_elsewhere(lambda scores: scores.mean(-1))], 1.0)
    steps = np.unique(log.step)
    assert len(steps) > 2
    for before, step in enumerate(steps):
        rows = (log.step == step) & np.isfinite(found)
        assert np.any(plain.advantages["new"][rows])
        sign = np.corrcoef(found[rows], plain.advantages["new"][rows])[0, 1] if before else 0.0
        assert np.any(found[rows]) == (before > 0)
        assert before == 0 or sign == pytest.approx(1.0, abs=1e-4)
    scale = [np.nanstd(found[log.step == step]) for step in steps[1:]]
    assert scale[-1] > scale[0]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("lagrangian", {}, "lagrangian needs channels with a target.*\n.*--target NAME=VALUE"),
        ("soft_and", {}, "soft_and needs the target of every channel, got none of"),
        ("gated", {"kind": "quality"}, "gated needs constraints.*\n.*--constraint NAME"),
        ("tchebycheff_running", {"step": None}, "remembers earlier steps, got a log without steps"),
    ],
)
def test_a_log_that_does_not_say_what_a_rule_needs_is_refused(name, changes, message):
    log = ragged_log()
    if "kind" in changes:
        plain = tuple(dataclasses.replace(channel, kind="quality") for channel in log.channels)
        changes = {"channels": plain}
    rule = rules.parse_rule(name, what_if.further_rules)
    with pytest.raises(ValueError, match=message):
        rules.check_rules([rule], dataclasses.replace(log, **changes))


def test_numbers_of_a_rule_change_what_it_says():
    few, all_of_them = (
        rules.parse_rule(f"cvar:tail={tail}", what_if.further_rules) for tail in ("0.1", "1.0")
    )
    assert (few.name, few.label) == ("cvar:tail=0.1", "CVaR over channels, tail = 0.1")
    log = ragged_log()
    played = replay.replay(log, [few, all_of_them, rules.parse_rule("gdpo")], 1.0).advantages
    np.testing.assert_allclose(played["cvar:tail=1"], played["gdpo"], atol=1e-5)
    worst = replay.replay(log, [rules.parse_rule("hard_min")], 1.0).advantages["hard_min"]
    np.testing.assert_allclose(played["cvar:tail=0.1"], worst, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cvar:k=2", "got k=2 in cvar:k=2.\n.*takes these: tail"),
        ("cvar:tail=2", r"tail of cvar must lie in \(0, 1\], got 2"),
        ("cvar:tail", "tail of cvar must lie"),
    ],
)
def test_numbers_that_a_rule_does_not_take_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        rules.parse_rule(text, what_if.further_rules)


@pytest.mark.parametrize("text", ["gdpo:k=2", "variance:k=inf", "rvpo:k=-1", "rvpo:k=e", "rvpo:"])
def test_a_coefficient_that_a_method_cannot_have_is_refused(text):
    with pytest.raises(ValueError, match="a rule must be"):
        rules.parse_rule(text)


def from_elsewhere(method):
    """A rule that is none of the named ones."""
    record = Formula(label="new", color="#123456", advantages=what_if.advantages_under(method))
    return rules.Rule(name="new", label="new", method="new", formula=record)


def far_from_the_batch(scores, *, where):
    """A rule that looks at the whole batch: distance of a completion from its mean scores."""
    count = jnp.sum(where, axis=(0, 1), keepdims=True)
    center = jnp.sum(scores, axis=(0, 1), where=where, keepdims=True) / count
    return jnp.sum(jnp.abs(scores - center), axis=-1, where=where)


@pytest.mark.slow
def test_a_rule_that_looks_at_the_batch_sees_the_steps_as_training_did():
    log = ragged_log()
    far = from_elsewhere(far_from_the_batch)
    ours = replay.replay(log, [far], 1.0).advantages["new"]
    for step in np.unique(log.step):
        groups = [np.flatnonzero(log.group == g) for g in np.unique(log.group[log.step == step])]
        groups = [rows for rows in groups if len(rows) > 1]
        padded = np.full((len(groups), max(map(len, groups)), 4), np.nan, np.float32)
        for place, rows in enumerate(groups):
            padded[place, : len(rows)] = log.rewards[rows]
        config = AdvantageConfig(method=far_from_the_batch)
        out = compute_advantages(padded, config=config, with_weights=False)
        advantages = np.asarray(out.advantages)
        for place, rows in enumerate(groups):
            scored = ~np.isnan(log.rewards[rows]).all(-1)
            expected = np.where(scored, advantages[place, : len(rows)], np.nan)
            np.testing.assert_allclose(ours[rows], expected, atol=1e-5)


@pytest.mark.parametrize("text", ["gdpo", "rvpo:k=2", "variance:k=2", "grpo", "rvpo:k=inf"])
def test_what_rvpo_jax_hands_in_is_what_the_formula_says(text):
    log = ragged_log()
    own = rules.parse_rule(text)
    handed_in = dataclasses.replace(own, formula=what_if.further_rules()[own.method])
    ours, theirs = (replay.replay(log, [rule], 1.0).advantages for rule in (own, handed_in))
    np.testing.assert_allclose(ours[own.name], theirs[own.name], atol=2e-5)
