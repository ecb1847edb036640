"""Further rules of an audit come from the records of the methods; a new one needs nothing here."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from test_auditing_replay import ragged_log

from rvpo_jax import AdvantageConfig, compute_advantages, what_if
from rvpo_jax.auditing import Formula, replay, rules
from rvpo_jax.basics.residue import POSITIVE
from rvpo_jax.method.aggregators import METHODS
from rvpo_jax.method.rules import Method, Rule, RuleOutput


def record(**fields):
    """A record of a method, the mean unless told otherwise."""
    usual = {"rule": lambda scores: scores.mean(-1), "label": "new", "pointwise": True}
    return Method(**usual | fields)


def with_memory():
    """A rule that returns what it was given last."""
    return Rule(
        init=jnp.zeros,
        apply=lambda scores, state: RuleOutput(aggregate=scores.mean(-1), state=state),
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_named_method_can_be_replayed_under_its_own_label(method):
    rule = rules.parse_rule(method, what_if.further_rules)
    assert rule.label.startswith(METHODS[method].label)
    assert rule.color == METHODS[method].color
    played = replay.replay(ragged_log(), [rule], 1.0)
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


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"rule": with_memory()}, "remembers", id="memory"),
    ],
)
def test_a_method_that_a_log_cannot_feed_is_refused_with_the_reason(monkeypatch, fields, reason):
    monkeypatch.setitem(METHODS, "new", record(**fields))
    with pytest.raises(ValueError, match=f"new cannot be replayed: .*{reason}"):
        rules.parse_rule("new", what_if.further_rules)


@pytest.mark.parametrize("text", ["gdpo:k=2", "variance:k=inf", "rvpo:k=-1", "rvpo:k=e", "rvpo:"])
def test_a_coefficient_that_a_method_cannot_have_is_refused(text):
    with pytest.raises(ValueError, match="a rule must be one of"):
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
