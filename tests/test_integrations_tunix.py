"""RVPO inside a SIMULATED Tunix (tests/tunix_stub.py); the real one: tests/peers/test_tunix.py."""

import dataclasses
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tunix_stub import GRPOConfig, Learner, install, make_engine

from rvpo_jax import AdvantageConfig, compute_advantages
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Channel, RiskScheduleConfig
from rvpo_jax.integrations import tunix
from rvpo_jax.integrations.tunix_rewards import RewardManager
from rvpo_jax.method.aggregators import METHODS
from rvpo_jax.method.rules import Rule, RuleOutput
from rvpo_jax.rewards import RewardError, reward_channel

PLAIN, CONSTANT = AdvantageConfig(whiten="none"), RiskScheduleConfig()
# Two prompts, four completions each, two channels; the last channel judges five of eight.
TABLE = np.array(
    [[3, 0], [3, 1], [-3, 1], [0, 1], [1, 1], [2, np.nan], [3, np.nan], [-1, np.nan]], float
)
TEXTS = [str(index) for index in range(len(TABLE))]


def correctness(prompts, completions, **columns):
    return [TABLE[int(text), 0] for text in completions]


def style(completions, **columns):
    """None where a table of rewards has NaN: Tunix functions may return either."""
    values = [TABLE[int(text), 1] for text in completions]
    return [None if np.isnan(value) else value for value in values]


@pytest.fixture
def registry(monkeypatch):
    tunix.register.cache_clear()
    tunix._config_class.cache_clear()
    yield install(monkeypatch)
    tunix.register.cache_clear()
    tunix._config_class.cache_clear()


@pytest.fixture
def make_learner(registry):
    tunix.register()

    def make(advantage=PLAIN, risk=CONSTANT, engine=None, newer=False, **rest):
        config = tunix.RVPOConfig(num_generations=4, advantage=advantage, risk=risk)
        rest = {"reward_fns": [correctness, style]} | rest
        return Learner(registry, engine, config, newer=newer, **rest)

    return make


def judged_by(config, where=None, table=TABLE, **options):
    where = None if where is None else np.asarray(where, bool)
    out = compute_advantages(table.reshape(2, 4, 2), where, config, **options)
    return np.asarray(out.advantages).reshape(-1)


CHANNELS = (Channel(name="correctness"), Channel(name="style"))


@pytest.mark.parametrize("newer", [False, True], ids=["0.1.7", "newer, simulated"])
@pytest.mark.parametrize("method", METHODS)
def test_every_named_rule_gives_the_advantages_of_compute_advantages(make_learner, method, newer):
    config = AdvantageConfig(method=method, risk_coef=2.0, whiten="batch", dead_channels="drop")
    learner = make_learner(config, engine=make_engine(), newer=newer)
    tunix.bind(learner)
    advantages, _ = learner.judge(["p"] * 8, TEXTS)
    assert type(advantages) is np.ndarray and advantages.dtype == np.float32
    expected = judged_by(config, channels=CHANNELS)
    np.testing.assert_allclose(advantages, expected, atol=1e-6)
    assert np.abs(advantages).max() > 0.1


def test_a_function_of_the_users_is_a_rule_too(make_learner):
    def worst(scores, where):
        return jnp.min(scores, axis=-1, where=where, initial=jnp.inf)

    learner = make_learner(AdvantageConfig(method=worst, whiten="none"))
    advantages, _ = learner.judge(["p"] * 8, TEXTS)
    np.testing.assert_allclose(
        advantages, judged_by(AdvantageConfig(method="hard_min", whiten="none")), atol=1e-6
    )


def test_what_was_not_scored_leaves_the_soft_minimum(make_learner):
    advantages, metrics = make_learner().judge(["p"] * 8, TEXTS)
    value, reduce = metrics["rewards/style"]
    assert reduce([value]) == 0.8  # of five
    # Prompt 2: one completion has a style, so that channel is dead there (0); the others have
    # correctness alone, and a soft minimum of one number is that number. Their group is
    # (1, 2, 3, -1): mean 1.25, standard deviation sqrt(35 / 12) = 1.7078.
    np.testing.assert_allclose(advantages[5:], (np.array([2, 3, -1]) - 1.25) / 1.7078, atol=1e-4)


def test_weights_by_name_follow_the_functions_names(make_learner):
    weights = {"style": 3.0}
    advantages, _ = make_learner(AdvantageConfig(whiten="none", weights=weights)).judge(
        ["p"] * 8, TEXTS
    )
    expected = judged_by(AdvantageConfig(whiten="none", weights=(1.0, 3.0)))
    np.testing.assert_allclose(advantages, expected, atol=1e-6)


def test_a_valid_mask_of_a_newer_tunix_is_where(make_learner):
    valid = np.array([True, True, False, True, True, True, True, True])
    advantages, _ = make_learner(newer=True).judge(["p"] * 8, TEXTS, valid_mask=valid)
    where = np.broadcast_to(valid[:, None], TABLE.shape).reshape(2, 4, 2)
    np.testing.assert_allclose(advantages, judged_by(PLAIN, where), atol=1e-6)
    assert advantages[2] == 0
    # Not as if it were there with reward 0.
    assert np.abs(advantages - judged_by(PLAIN)).max() > 0.1


def test_a_group_with_one_valid_completion_has_no_advantage_and_leaves_the_batch(make_learner):
    learner = make_learner(AdvantageConfig(), engine=make_engine(), newer=True)
    tunix.bind(learner)
    valid = np.array([True, True, True, True, False, True, False, False])
    advantages, _ = learner.judge(["p"] * 8, TEXTS, valid_mask=valid)
    assert advantages[4:].tolist() == [0.0] * 4
    alone = compute_advantages(TABLE[:4].reshape(1, 4, 2))
    np.testing.assert_allclose(advantages[:4], np.asarray(alone.advantages)[0], atol=1e-6)


# Two completions, each best in one of two channels: z = (a, -a) and (-a, a), a = 1/sqrt(2), so that
# both have the soft minimum -log((exp(-k a) + exp(k a)) / 2) / k = -log(cosh(k a)) / k.
@pytest.mark.parametrize(("step", "risk_coef"), [(0, 0.5), (1, 1.0), (2, 1.5), (9, 2.0)])
@pytest.mark.parametrize("newer", [False, True], ids=["0.1.7", "newer, simulated"])
def test_k_follows_the_engines_step(registry, step, risk_coef, newer):
    tunix.register()
    risk = RiskScheduleConfig(kind="linear", start=0.5, end=2.0, horizon=3)
    config = tunix.RVPOConfig(num_generations=2, advantage=PLAIN, risk=risk)
    functions = [lambda completions: [1, 0], reward_channel(name="b")(lambda completions: [0, 1])]
    learner = Learner(registry, make_engine(global_steps=step), config, functions, newer=newer)
    tunix.bind(learner)
    advantages, metrics = learner.judge(["p"] * 2, ["x", "y"])
    expected = -np.log(np.cosh(risk_coef / np.sqrt(2))) / risk_coef
    np.testing.assert_allclose(advantages, [expected] * 2, atol=1e-5)
    assert metrics["risk_coef"][0] == pytest.approx(risk_coef)


def test_the_rule_has_no_state_of_its_own(make_learner):
    engine = make_engine()
    learner = make_learner(
        risk=RiskScheduleConfig(kind="linear", horizon=4), engine=engine, newer=False
    )
    tunix.bind(learner)
    first, _ = learner.judge(["p"] * 8, TEXTS)
    engine.global_steps = 4
    later, _ = learner.judge(["p"] * 8, TEXTS)
    engine.global_steps = 0  # as after a restart from the first checkpoint
    again, _ = learner.judge(["p"] * 8, TEXTS)
    assert np.array_equal(first, again) and not np.allclose(first, later)


def test_functions_get_what_they_name(make_learner):
    seen = {}

    def greedy(prompts, completions, answer, beta, **rest):
        seen.update(prompts=prompts, answer=answer, beta=beta, rest=rest)
        return [0.0] * len(prompts)

    def modest(completions):
        return [1.0] * len(completions)

    learner = make_learner(reward_fns=[greedy, modest])
    learner.judge(["p"] * 4, TEXTS[:4], answer=np.arange(4), beta_=1)
    assert seen["prompts"] == ["p"] * 4 and seen["beta"] == 0.04
    assert seen["answer"].tolist() == [0, 1, 2, 3]
    assert seen["rest"] == {"mode": "train", "beta_": 1}


def test_one_function_is_one_channel(make_learner):
    learner = make_learner(reward_fns=correctness)
    advantages, _ = learner.judge(["p"] * 8, TEXTS)
    # Alone, a channel is standardised and left as it is: the first group is (3, 3, -3, 0).
    np.testing.assert_allclose(advantages[:4], (TABLE[:4, 0] - 0.75) / np.sqrt(8.25), atol=1e-5)


def test_the_view_has_plain_means_and_nothing_else_carries_the_channels(make_learner):
    view = make_learner().reward_manager(prompts=["p"] * 8, completions=TEXTS)["rewards"]
    # Mean of what was scored: (3 + 0) / 2, ..., 2 alone.
    assert view.tolist() == [1.5, 2.0, -1.0, 0.5, 1.0, 2.0, 3.0, -1.0]
    for reduced in (np.mean(view), np.max(view), view.sum(), np.min(view)):
        assert isinstance(reduced, np.floating) and not isinstance(reduced, np.ndarray)
    assert type(np.asarray(view)) is np.ndarray and type(view + 1) is np.ndarray
    for other in (view[:4], view[::-1], view[np.arange(8)[::-1]], view.copy(), np.array(view)):
        with pytest.raises(Refusal, match="must be what the reward manager rvpo returned"):
            tunix.advantage_estimator(other, 4)


@pytest.mark.slow
def test_metrics_say_what_the_mean_hides(make_learner):
    @reward_channel(pass_at=1, kind="constraint")
    def safe(completions):
        return [0.0, 1.0, 1.0, 1.0] * (len(completions) // 4)

    @reward_channel(low=-3, high=3, pass_at=3)
    def right(completions):
        return [TABLE[int(text), 0] for text in completions]

    learner = make_learner(
        AdvantageConfig(method="grpo", whiten="none"),
        reward_fns=[right, safe],
        metric_fns=[tunix.rvpo_metrics],
    )
    _, metrics = learner.judge(["p"] * 4, TEXTS[:4])
    values = {name: reduce([value]) for name, (value, reduce) in metrics.items() if reduce}
    # The sum pays for the first completion: right, and not safe.
    assert values["audit/quiet_failures/used/safe"] == 0.25
    assert values["audit/compensation"] == 1.0
    assert values["reward/safe/pass_rate"] == 0.75 and values["rewards/safe"] == 0.75
    assert values["reward/joint_pass_rate"] == 0.25  # the second
    assert values["reward/safe/dead_fail_frac"] == 0.0
    weights = [values[f"aggregate/weight/{name}"] for name in ("right", "safe")]
    # std of a channel over std of the sum; sums are (3, 4, -2, 1).
    stds = [np.std(x, ddof=1) for x in ([3, 3, -3, 0], [0, 1, 1, 1], [3, 4, -2, 1])]
    np.testing.assert_allclose(weights, np.array(stds[:2]) / stds[2], rtol=1e-4)
    assert all(np.isfinite(value) for value in values.values())


def test_metrics_look_at_the_advantages_that_were_used(make_learner):
    @reward_channel(kind="constraint")
    def safe(completions):
        return [0.0, 1.0, 1.0, 1.0]

    learner = make_learner(reward_fns=[correctness, safe])
    view = learner.reward_manager(prompts=["p"] * 4, completions=TEXTS[:4])["rewards"]

    def quiet(advantages):
        metrics = tunix.rvpo_metrics(None, TEXTS[:4], view, np.array(advantages), level=[1] * 4)
        return metrics["audit/quiet_failures/used/safe"][0]

    assert quiet([1.0, 0, 0, 0]) == 0.25 and quiet([-1.0, 1, 1, 1]) == 0


def test_what_nobody_scored_is_logged_as_such(make_learner):
    learner = make_learner(reward_fns=[correctness, style], metric_fns=[tunix.rvpo_metrics])
    table = {"completions": ["5", "6", "7", "5"], "prompts": ["p"] * 4}
    _, metrics = learner.judge(**table)
    value, reduce = metrics["rewards/style"]
    assert np.isnan(reduce([value, value])) and metrics["reward/style/scored_frac"][0] == 0
    assert np.isfinite(metrics["rewards/score/mean"][0])


def test_the_config_survives_asdict_and_takes_plain_values(registry):
    config = tunix.RVPOConfig(
        num_generations=4,
        advantage={"method": "gdpo", "whiten": "none", "weights": {"a": 2.0}},
        risk={"kind": "linear", "horizon": 10},
    )
    assert (config.advantage_estimator, config.reward_manager) == ("rvpo", "rvpo")
    assert isinstance(config, GRPOConfig)
    plain = dataclasses.asdict(config)
    assert plain["advantage"]["weights"] == {"a": 2.0} and plain["risk"]["horizon"] == 10
    again = tunix.RVPOConfig(**plain)
    assert again.advantage == config.advantage and again.risk == config.risk
    assert tunix.RVPOConfig(advantage="grpo").advantage == AdvantageConfig(method="grpo")


def remembering(num_channels):
    return jnp.zeros(num_channels)


def apply(scores, state):
    return RuleOutput(aggregate=jnp.mean(scores, axis=-1), state=state)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"advantage": AdvantageConfig(whiten="token")}, "whiten must not be 'token' in Tunix"),
        ({"advantage": {"method": "no"}}, "advantage.method"),
        ({"advantage": 3}, "an advantage config must be"),
        ({"risk": RiskScheduleConfig(kind="cosine")}, "risk.horizon must be set for kind cosine"),
        ({"risk": {"kinds": "x"}}, "unknown config field risk.kinds"),
        ({"num_generations": 1}, "num_generations must be greater than 1"),
    ],
)
def test_a_bad_config_is_refused_where_it_is_built(registry, fields, message):
    with pytest.raises(ValueError, match=message):
        tunix.RVPOConfig(**fields)


def test_a_rule_with_a_memory_is_refused(make_learner):
    rule = AdvantageConfig(method=Rule(remembering, apply), whiten="none")
    with pytest.raises(Refusal, match="(?s)must have no memory in Tunix, got apply.*checkpoints"):
        make_learner(rule)


def test_unknown_weights_are_refused_before_anything_is_sampled(make_learner):
    with pytest.raises(Refusal, match=r"weights names unknown channel\(s\): styel"):
        make_learner(AdvantageConfig(weights={"styel": 2.0}, whiten="none"))


@pytest.mark.parametrize(
    "sizes",
    [
        dict(mini=8, train_micro=2),
        dict(mini=8, rollout_micro=4, compute_logps_micro=2),
        dict(rollout_micro=4, compute_logps_micro=4),  # of a batch of unknown size
    ],
)
def test_whitening_over_part_of_a_batch_is_refused(make_learner, sizes):
    learner = make_learner(AdvantageConfig(), engine=make_engine(**sizes))
    with pytest.raises(Refusal, match="over the batch needs all of it at once") as refused:
        tunix.bind(learner)
    assert "rollout_micro_batch_size" in str(refused.value)
    tunix.bind(make_learner(PLAIN, engine=make_engine(**sizes)))


@pytest.mark.parametrize(
    "sizes",
    [
        dict(),
        dict(mini=8),
        dict(mini=8, train_micro=2, rollout_micro=8),
        dict(mini=8, rollout_micro=8, compute_logps_micro=4),
        dict(mini=6, rollout_micro=2, compute_logps_micro=3),  # lcm: 6
        dict(rollout_micro=4),  # logps are computed of the whole batch, and lcm is that
    ],
)
def test_whitening_over_the_whole_batch_is_not(make_learner, sizes):
    tunix.bind(make_learner(AdvantageConfig(), engine=make_engine(**sizes)))


def test_a_group_that_arrives_alone_cannot_be_whitened_over_a_batch(make_learner):
    learner = make_learner(AdvantageConfig(), engine=make_engine())
    tunix.bind(learner)
    with pytest.raises(Refusal, match="must not need several groups where they arrive alone, got"):
        learner.judge(["p"] * 4, TEXTS[:4])
    learner.judge(["p"] * 4, TEXTS[:4], mode="eval")  # the rest of an evaluation: no gradient


@pytest.mark.parametrize(
    ("advantage", "risk"),
    [
        (AdvantageConfig(), CONSTANT),
        (PLAIN, RiskScheduleConfig(kind="linear", horizon=4)),
        (PLAIN, RiskScheduleConfig(kind=lambda step: 1.0)),
    ],
    ids=["whitening", "schedule", "function"],
)
def test_what_needs_the_engine_says_so(make_learner, advantage, risk):
    learner = make_learner(advantage, risk, engine=make_engine())
    with pytest.raises(Refusal, match=r"bind\(learner\) before learner.train"):
        learner.judge(["p"] * 8, TEXTS)


def test_binding_another_learner_is_refused(registry):
    with pytest.raises(Refusal, match="bind needs a learner with the reward manager rvpo"):
        tunix.bind(object())


def test_another_config_is_refused():
    with pytest.raises(Refusal, match="needs an RVPOConfig, got GRPOConfig"):
        RewardManager(reward_fns=[correctness], algo_config=GRPOConfig())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, r"got shape \(\)"),
        ([1.0], r"one number per completion \(4\), got shape \(1,\)"),
        ([[1.0]] * 4, r"got shape \(4, 1\)"),
        (["a"] * 4, "numbers, None or NaN: could not convert"),
    ],
)
def test_what_is_no_reward_names_its_function(make_learner, values, message):
    def broken(completions):
        return values

    learner = make_learner(reward_fns=[broken, correctness])
    with pytest.raises(RewardError, match=f"(?s)reward broken must return .*{message}"):
        learner.judge(["p"] * 4, TEXTS[:4])


def test_an_incomplete_group_and_another_size_are_refused(make_learner):
    learner = make_learner()
    with pytest.raises(Refusal, match="whole groups of 4 completions, got 6"):
        learner.judge(["p"] * 6, TEXTS[:6])
    view = learner.reward_manager(prompts=["p"] * 8, completions=TEXTS)["rewards"]
    with pytest.raises(Refusal, match="num_generations must be that of the config, 4, got 2"):
        tunix.advantage_estimator(view, 2)
    with pytest.raises(Refusal, match=r"valid_mask must have one flag per completion \(8\)"):
        tunix.advantage_estimator(view, 4, np.ones(4, bool))


# Groups arrive one at a time in Tunix's agentic learner.
ALONE = AdvantageConfig(whiten="none", recenter=True)


def agentic(registry, advantage=ALONE, channel="environment", functions=(correctness,)):
    tunix.register()
    config = tunix.AgenticRVPOConfig(
        num_generations=4, advantage=advantage, trajectory_channel=channel
    )
    return Learner(registry, make_engine(), config, functions and list(functions))


@pytest.mark.parametrize("whiten", ["batch", lambda values, keep: values], ids=["name", "function"])
def test_agentic_learners_refuse_to_whiten_over_groups(registry, whiten):
    with pytest.raises(Refusal, match="where they arrive alone, got") as refused:
        tunix.AgenticRVPOConfig(advantage=AdvantageConfig(whiten=whiten))
    assert 'whiten="none", recenter=True' in str(refused.value)


def test_the_environments_reward_is_one_more_channel(registry):
    learner = agentic(registry)
    own = np.array([0.0, 1.0, 1.0, 1.0])
    advantages, metrics = learner.judge(["p"] * 4, TEXTS[:4], trajectory_rewards=own.tolist())
    table = np.stack([TABLE[:4, 0], own], axis=-1)[None]
    expected = compute_advantages(table, config=ALONE).advantages
    np.testing.assert_allclose(advantages, np.asarray(expected)[0], atol=1e-6)
    assert metrics["rewards/environment"][0].tolist() == own.tolist()


def test_the_environments_reward_may_be_the_only_one(registry):
    advantages, _ = agentic(registry, functions=None).judge(
        ["p"] * 4, TEXTS[:4], trajectory_rewards=[0, 1, 2, 3]
    )
    np.testing.assert_allclose(advantages, (np.arange(4) - 1.5) / np.sqrt(5 / 3), atol=1e-5)


def test_an_environment_without_rewards_is_no_dead_channel(registry):
    learner = agentic(registry, channel=None, functions=(correctness, style))
    advantages, _ = learner.judge(["p"] * 4, TEXTS[:4], trajectory_rewards=[0.0] * 4)
    expected = compute_advantages(TABLE[:4][None], config=ALONE).advantages
    np.testing.assert_allclose(advantages, np.asarray(expected)[0], atol=1e-6)
    with pytest.raises(Refusal, match="trajectory_channel must be set where the environment"):
        learner.judge(["p"] * 4, TEXTS[:4], trajectory_rewards=[0.0, 1.0, 0.0, 0.0])
    with pytest.raises(Refusal, match="trajectory_channel must be set where there are no"):
        agentic(registry, channel=None, functions=None)


@pytest.mark.parametrize("use", ["register", "RVPOConfig", "AgenticRVPOConfig"])
def test_without_tunix_the_error_names_the_extra(monkeypatch, use):
    tunix.register.cache_clear()
    tunix._config_class.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "tunix"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tunix", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rvpo-jax\[tunix\]'"):
        getattr(tunix, use)() if use == "register" else getattr(tunix, use)


def test_registering_twice_is_registering_once(registry):
    tunix.register()
    tunix.register()
    assert set(registry["reward_manager"]) == {"rvpo", "rvpo-agentic"}
    assert set(registry["advantage_estimator"]) == {"rvpo"}


def test_a_name_that_is_not_there_is_no_attribute():
    assert not hasattr(tunix, "Nonsense")
