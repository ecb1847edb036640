"""The configuration tree: what it refuses and how it says so, presets, immutability."""

import ast
import dataclasses
import functools
import inspect
import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax import config
from rvpo_jax.basics.plain import named_only
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import (
    AdvantageConfig,
    Channel,
    CheckpointConfig,
    Config,
    DataConfig,
    EvalConfig,
    LogConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ParallelConfig,
    RiskScheduleConfig,
    RolloutConfig,
)
from rvpo_jax.config.method import PRESETS

INF = math.inf
NAN = math.nan
SECTIONS = [
    ModelConfig, DataConfig, RolloutConfig, AdvantageConfig, RiskScheduleConfig, LossConfig,
    OptimConfig, EvalConfig, CheckpointConfig, LogConfig, ParallelConfig, Config,
]  # fmt: skip


BAD_VALUES = [
    (ModelConfig, "dtype", "float16", "model.dtype must be one of float32, bfloat16"),
    (
        ModelConfig,
        "init",
        "cold",
        "model.init must be one of auto, warm, leaky, random, got 'cold'",
    ),
    (RolloutConfig, "num_prompts", 0, "rollout.num_prompts must be > 0, got 0"),
    (RolloutConfig, "group_size", 1, "rollout.group_size must be >= 2, got 1"),
    (RolloutConfig, "max_prompt_tokens", 0, "rollout.max_prompt_tokens must be > 0, got 0"),
    (RolloutConfig, "max_completion_tokens", -1, "rollout.max_completion_tokens must be > 0"),
    (RolloutConfig, "temperature", 0.0, "rollout.temperature must be > 0, got 0.0"),
    (RolloutConfig, "temperature", NAN, "rollout.temperature must be > 0, got nan"),
    (RolloutConfig, "top_k", -1, "rollout.top_k must be >= 0, got -1"),
    (RolloutConfig, "top_p", 0.0, "rollout.top_p must lie in (0, 1], got 0.0"),
    (RolloutConfig, "top_p", 1.1, "rollout.top_p must lie in (0, 1], got 1.1"),
    (AdvantageConfig, "method", "rpo", "advantage.method must be one of rvpo, variance"),
    (AdvantageConfig, "method", 3, "advantage.method must be one of rvpo"),
    (AdvantageConfig, "risk_coef", -0.1, "advantage.risk_coef must be >= 0, got -0.1"),
    (AdvantageConfig, "risk_coef", NAN, "advantage.risk_coef must be >= 0, got nan"),
    (AdvantageConfig, "variance_coef", -1, "advantage.variance_coef must be >= 0, got -1"),
    (AdvantageConfig, "variance_coef", INF, "advantage.variance_coef must be"),
    (AdvantageConfig, "level_coef", -1, "advantage.level_coef must be >= 0, got -1"),
    (AdvantageConfig, "level_coef", NAN, "advantage.level_coef must be >= 0, got nan"),
    (AdvantageConfig, "level_coef", INF, "advantage.level_coef must be finite, got inf"),
    (AdvantageConfig, "weights", (1.0, -1.0), "advantage.weights must be >= 0, got -1.0"),
    (AdvantageConfig, "weights", (0.0, 0.0), "advantage.weights must be finite, >= 0 and not"),
    (AdvantageConfig, "weights", {"a": NAN}, "advantage.weights must be >= 0, got nan"),
    (AdvantageConfig, "weights", (1.0, INF), "advantage.weights must be finite, got inf"),
    (AdvantageConfig, "weights", (), "advantage.weights must be finite, >= 0 and not all 0"),
    (AdvantageConfig, "ddof", 2, "advantage.ddof must be one of 0, 1, got 2"),
    (AdvantageConfig, "eps", -1e-6, "advantage.eps must be >= 0, got -1e-06"),
    (AdvantageConfig, "dead_channels", "mask", "advantage.dead_channels must be one of keep"),
    (AdvantageConfig, "whiten", "batches", "advantage.whiten must be one of batch, token"),
    (AdvantageConfig, "whiten", None, "advantage.whiten must be one of batch"),
    (AdvantageConfig, "whiten_eps", -1.0, "advantage.whiten_eps must be >= 0, got -1.0"),
    (AdvantageConfig, "whiten_eps_on", "var", "advantage.whiten_eps_on must be one of std"),
    (RiskScheduleConfig, "kind", "exp", "risk.kind must be one of constant, linear"),
    (RiskScheduleConfig, "start", -1.0, "risk.start must be >= 0, got -1.0"),
    (RiskScheduleConfig, "end", INF, "risk.end must be finite, got inf"),
    (RiskScheduleConfig, "points", ((0, NAN),), "risk.points must be >= 0, got nan"),
    (RiskScheduleConfig, "horizon", 0, "risk.horizon must be > 0, got 0"),
    (LossConfig, "clip_low", 1.0, "loss.clip_low must lie in [0, 1), got 1.0"),
    (LossConfig, "clip_low", -0.1, "loss.clip_low must lie in [0, 1), got -0.1"),
    (LossConfig, "clip_high", -0.1, "loss.clip_high must be >= 0, got -0.1"),
    (LossConfig, "dual_clip", 1.0, "loss.dual_clip must be > 1, got 1.0"),
    (LossConfig, "kl_coef", -0.1, "loss.kl_coef must be >= 0, got -0.1"),
    (LossConfig, "kl_estimator", "k4", "loss.kl_estimator must be one of k1, k2, k3"),
    (LossConfig, "denominator", "mean", "loss.denominator must be one of token, sequence"),
    (LossConfig, "ratio_level", "group", "loss.ratio_level must be one of token, sequence"),
    (LossConfig, "importance_cap", 0.0, "loss.importance_cap must be > 0, got 0.0"),
    (LossConfig, "num_minibatches", 0, "loss.num_minibatches must be > 0, got 0"),
    (LossConfig, "num_epochs", 0, "loss.num_epochs must be > 0, got 0"),
    (LossConfig, "microbatch_size", -2, "loss.microbatch_size must be > 0, got -2"),
    (OptimConfig, "name", "adam", "optim.name must be one of adamw, sgd, got 'adam'"),
    (OptimConfig, "schedule", "exp", "optim.schedule must be one of constant, cosine"),
    (OptimConfig, "learning_rate", 0.0, "optim.learning_rate must be > 0, got 0.0"),
    (OptimConfig, "max_grad_norm", 0.0, "optim.max_grad_norm must be > 0, got 0.0"),
    (OptimConfig, "warmup_steps", -1, "optim.warmup_steps must be >= 0, got -1"),
    (OptimConfig, "weight_decay", -1.0, "optim.weight_decay must be >= 0, got -1.0"),
    (OptimConfig, "learning_rate", INF, "optim.learning_rate must be finite, got inf"),
    (RolloutConfig, "temperature", INF, "rollout.temperature must be finite, got inf"),
    (AdvantageConfig, "eps", INF, "advantage.eps must be finite, got inf"),
    (AdvantageConfig, "whiten_eps", NAN, "advantage.whiten_eps must be >= 0, got nan"),
    (AdvantageConfig, "risk_coef", np.float32(-1), "advantage.risk_coef must be >= 0, got -1.0"),
    (AdvantageConfig, "risk_coef", jnp.array(-1.0), "advantage.risk_coef must be >= 0, got -1.0"),
    (AdvantageConfig, "risk_coef", None, "advantage.risk_coef must be a number, got None"),
    (AdvantageConfig, "risk_coef", "1", "advantage.risk_coef must be a number, got '1'"),
    (AdvantageConfig, "risk_coef", True, "advantage.risk_coef must be a number, got True"),
    (AdvantageConfig, "risk_coef", np.ones(1), "advantage.risk_coef must be a number, got array"),
    (AdvantageConfig, "weights", [1.0, None], "advantage.weights must be a number, got None"),
    (AdvantageConfig, "weights", {"a": None}, "advantage.weights must be a number, got None"),
    (AdvantageConfig, "weights", 1.0, "advantage.weights must be a list or a tuple, got 1.0"),
    (AdvantageConfig, "weights", np.ones((1, 2)), "advantage.weights must be a list or a tuple"),
    (AdvantageConfig, "recenter", "no", "advantage.recenter must be True or False, got 'no'"),
    (AdvantageConfig, "ddof", True, "advantage.ddof must be one of 0, 1, got True"),
    (RolloutConfig, "group_size", True, "rollout.group_size must be a whole number, got True"),
    (RolloutConfig, "group_size", 4.0, "rollout.group_size must be a whole number, got 4.0"),
    (RiskScheduleConfig, "points", ((0, 1.0, 2.0),), "risk.points must hold 2 values"),
    (LossConfig, "objective", "ppo", "loss.objective must be one of clipped, gspo, cispo"),
    (LossConfig, "extra_terms", ("entropy",), "loss.extra_terms must be a function, got 'entr"),
    (LossConfig, "entropy_coef", NAN, "loss.entropy_coef must be a number, got nan"),
    (LogConfig, "audit_every", -1, "log.audit_every must be >= 0, got -1"),
    (DataConfig, "rewards", "format", "data.rewards must be a list or a tuple, got 'format'"),
    (DataConfig, "rewards", (3,), "data.rewards must be a text, got 3"),
    (Config, "advantage", "gdpo", "advantage must be of type AdvantageConfig, got 'gdpo'"),
    (Config, "rollout", None, "rollout must be of type RolloutConfig, got None"),
    (OptimConfig, "b1", -0.1, "optim.b1 must"),
    (OptimConfig, "b1", 1.0, "optim.b1 must"),
    (OptimConfig, "b2", -0.1, "optim.b2 must"),
    (OptimConfig, "b2", 1.5, "optim.b2 must"),
    (DataConfig, "eval_frac", 0.0, "data.eval_frac must lie in (0, 1), got 0.0"),
    (DataConfig, "eval_frac", 1.0, "data.eval_frac must lie in (0, 1), got 1.0"),
    (DataConfig, "source", "rows.jsonl", "data.rewards must name the reward functions"),
    (DataConfig, "rewards", ("a", "b", "a"), "data.rewards has a name twice: a, b, a"),
    (DataConfig, "on_reward_error", "zero", "data.on_reward_error must be one of raise, skip"),
    (DataConfig, "reward_threads", 0, "data.reward_threads must be > 0, got 0"),
    (EvalConfig, "num_prompts", 0, "eval.num_prompts must be > 0, got 0"),
    (EvalConfig, "every", -1, "eval.every must be >= 0, got -1"),
    (CheckpointConfig, "every", 0, "checkpoint.every must be > 0, got 0"),
    (CheckpointConfig, "keep", 0, "checkpoint.keep must be > 0, got 0"),
    (LogConfig, "every", 0, "log.every must be > 0, got 0"),
    (LogConfig, "console_every", 0, "log.console_every must be > 0, got 0"),
    (LogConfig, "samples_every", -1, "log.samples_every must be >= 0, got -1"),
    (LogConfig, "num_samples", -1, "log.num_samples must be >= 0, got -1"),
    (LogConfig, "rollouts", "all", "log.rollouts must be one of texts, rewards, none"),
    (LogConfig, "rollouts", "none", "log.audit reads the files that log.rollouts none"),
    (LogConfig, "sinks", ("mlflow",), "log.sinks must be one of tensorboard, wandb"),
    (ParallelConfig, "impl", "xmap", "parallel.impl must be one of pmap, mesh, jit"),
    (ParallelConfig, "num_devices", 0, "parallel.num_devices must be > 0, got 0"),
    (Config, "steps", 0, "steps must be > 0, got 0"),
    (Config, "seed", -1, "seed must lie in [0, 2**32), got -1"),
    (Config, "seed", 2**32, "seed must lie in [0, 2**32), got 4294967296"),
]


@pytest.mark.parametrize(
    ("section", "field", "value", "words"),
    BAD_VALUES,
    ids=[f"{section.__name__}.{field}={value}" for section, field, value, _ in BAD_VALUES],
)
def test_a_bad_value_is_refused_with_its_name_the_rule_and_what_came(section, field, value, words):
    with pytest.raises(ValueError) as info:
        section(**{field: value})
    first, second = str(info.value).split("\n")
    assert first.startswith(words)
    assert second.startswith("  ") and second.endswith(".")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        pytest.param(
            lambda: RiskScheduleConfig(kind="piecewise"),
            "risk.points must have increasing steps >= 0, got ()",
            id="no points",
        ),
        pytest.param(
            lambda: RiskScheduleConfig(kind="piecewise", points=((5, 1.0), (2, 1.0))),
            "risk.points must have increasing steps",
            id="steps fall",
        ),
        pytest.param(
            lambda: RiskScheduleConfig(kind="piecewise", points=((5, 1.0), (5, 2.0))),
            "risk.points must have increasing steps",
            id="step twice",
        ),
        pytest.param(
            lambda: RiskScheduleConfig(kind="piecewise", points=((-1, 1.0),)),
            "risk.points must have increasing steps >= 0",
            id="negative step",
        ),
        pytest.param(
            lambda: Config(loss=LossConfig(num_minibatches=3)),
            "rollout.num_prompts = 16 must be divisible by loss.num_minibatches = 3",
            id="groups split",
        ),
        pytest.param(
            lambda: Config(
                model=ModelConfig(init="warm"), data=DataConfig(source="a.jsonl", rewards=("b",))
            ),
            "model.init warm belongs to data.source embedded, got a.jsonl",
            id="warm start of other data",
        ),
        pytest.param(
            lambda: AdvantageConfig.preset("papr"),
            f"preset must be one of {', '.join(PRESETS)}, got 'papr'",
            id="unknown preset",
        ),
        pytest.param(
            lambda: AdvantageConfig.preset("trl", ddof=3), "advantage.ddof must be", id="override"
        ),
        pytest.param(
            lambda: Channel(name="x", low=1.0, high=1.0, pass_at=1.0),
            "channel x must have a finite range with low < high, got (1.0, 1.0)",
            id="empty range",
        ),
        pytest.param(
            lambda: Channel(name="x", high=INF), "channel x must have a finite range", id="infinite"
        ),
        pytest.param(
            lambda: Channel(name="x", pass_at=0.0),
            "pass_at of channel x must lie in (0.0, 1.0], got 0.0",
            id="everything passes",
        ),
        pytest.param(
            lambda: Channel(name="x", pass_at=1.5),
            "pass_at of channel x must lie",
            id="none passes",
        ),
        pytest.param(
            lambda: Channel(name="x", kind="hard"), "kind of channel x must be one of", id="kind"
        ),
    ],
)
def test_values_that_do_not_fit_together_are_refused(build, words):
    with pytest.raises(ValueError) as info:
        build()
    assert str(info.value).startswith(words)
    assert "\n  " in str(info.value)


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: AdvantageConfig(risk_coef=INF), id="hard minimum"),
        pytest.param(lambda: AdvantageConfig(risk_coef=0), id="mean"),
        pytest.param(lambda: AdvantageConfig(eps=0.0, whiten_eps=0.0, ddof=0), id="no eps"),
        pytest.param(lambda: AdvantageConfig(weights=(0.0, 1.0)), id="a weight of 0"),
        pytest.param(lambda: LossConfig(clip_low=0.0, clip_high=5.0, dual_clip=1.5), id="clips"),
        pytest.param(lambda: OptimConfig(max_grad_norm=INF, b1=0.0), id="no clipping"),
        pytest.param(lambda: RiskScheduleConfig(start=0.0, end=0.0), id="k = 0"),
        pytest.param(lambda: Config(seed=2**32 - 1), id="last seed"),
        pytest.param(lambda: Channel(name="x", low=-3.0, high=3.0, pass_at=3.0), id="range"),
    ],
)
def test_values_at_the_edge_are_taken(build):
    build()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.__name__)
def test_sections_are_frozen_and_have_a_line_for_every_field(section):
    instance = section()
    fields = dataclasses.fields(section)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(instance, fields[0].name, None)
    body = ast.parse(inspect.getsource(section)).body[0].body
    for statement, following in zip(body, body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and section is not Config:
            assert isinstance(following, ast.Expr), f"{statement.target.id} is not documented"


def test_the_default_tree_can_be_hashed_and_compared():
    assert hash(Config()) == hash(Config())
    assert Config() == Config()
    assert Config() != Config(steps=3)


# Weights by name


def test_weights_by_name_take_the_order_of_the_channels():
    base = AdvantageConfig(weights={"b": 3.0, "c": 0.5})
    assert base.with_channels(("a", "b", "c")).weights == (1.0, 3.0, 0.5)
    assert base.with_channels(("c", "b", "a")).weights == (0.5, 3.0, 1.0)
    assert base.weights == {"b": 3.0, "c": 0.5}


def test_weights_in_order_and_no_weights_stay_as_they_are():
    assert AdvantageConfig(weights=(1.0, 2.0)).with_channels(("a", "b")).weights == (1.0, 2.0)
    assert AdvantageConfig().with_channels(("a", "b")).weights is None


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"z": 1.0, "a": 1.0, "y": 2.0}, "advantage.weights names unknown channel(s): z, y."),
        ((1.0,), "advantage.weights has 1 values for 2 channels: a, b."),
    ],
)
def test_weights_that_do_not_fit_the_channels_are_refused(weights, words):
    with pytest.raises(ValueError) as info:
        AdvantageConfig(weights=weights).with_channels(("a", "b"))
    assert str(info.value).startswith(words)


def test_a_weight_of_0_by_name_switches_off_that_channel_alone():
    # Unnamed channels weigh 1, so these weights are not all 0.
    config = AdvantageConfig(weights={"b": 0.0})
    assert config.with_channels(("a", "b")).weights == (1.0, 0.0)


def test_weights_of_0_by_name_for_every_channel_of_the_run_are_refused():
    with pytest.raises(ValueError, match="not all 0"):
        AdvantageConfig(weights={"a": 0.0, "b": 0.0}).with_channels(("a", "b"))


# Presets (peers.md 1.1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("paper", dict(method="rvpo", ddof=1, eps=1e-6, whiten="batch", dead_channels="keep")),
        ("trl", dict(method="gdpo_sum", ddof=1, eps=1e-4, whiten="batch", whiten_eps=1e-4)),
        (
            "verl",
            dict(method="gdpo_sum", ddof=1, eps=1e-6, whiten="token", whiten_eps=1e-8)
            | dict(whiten_eps_on="variance"),
        ),
        ("nemo", dict(method="gdpo_sum", ddof=1, eps=1e-6, whiten="batch", whiten_eps=0.0)),
    ],
)
def test_presets_have_the_conventions_of_their_systems(name, expected):
    preset = AdvantageConfig.preset(name)
    assert {field: getattr(preset, field) for field in expected} == expected


def test_preset_paper_is_the_default():
    assert AdvantageConfig.preset("paper") == AdvantageConfig()


def test_overrides_change_single_fields_of_a_preset():
    preset = AdvantageConfig.preset("trl", method="rvpo", risk_coef=2.0)
    assert (preset.method, preset.risk_coef, preset.eps) == ("rvpo", 2.0, 1e-4)
    assert AdvantageConfig.preset("trl").method == "gdpo_sum"


def test_config_imports_the_standard_library_and_the_basics_only():
    modules = {
        name.name if isinstance(node, ast.Import) else node.module
        for path in Path(config.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    }
    own = {name for name in modules if name.startswith("rvpo_jax")}
    assert {name.rpartition(".")[0] for name in own} == {"rvpo_jax.basics", "rvpo_jax.config"}
    assert {name.split(".")[0] for name in modules - own} <= sys.stdlib_module_names


def test_a_bound_function_is_written_with_what_is_bound():
    method = functools.partial(max, default=0)
    written = Config(advantage=AdvantageConfig(method=method)).to_dict()["advantage"]["method"]
    assert written == "builtins:max {'default': 0}"


# Types, functions and what JSON holds


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param([1, 2], id="list of whole numbers"),
        pytest.param(np.array([1.0, 2.0]), id="NumPy array"),
        pytest.param(np.array([1, 2]), id="NumPy array of whole numbers"),
        pytest.param(jnp.array([1.0, 2.0]), id="JAX array"),
        pytest.param((np.float32(1), 2.0), id="NumPy scalars"),
    ],
)
def test_weights_in_any_sequence_become_a_tuple_of_floats(weights):
    config = AdvantageConfig(weights=weights)
    assert config.weights == (1.0, 2.0)
    assert [type(weight) for weight in config.weights] == [float, float]
    assert hash(config) == hash(AdvantageConfig(weights=(1.0, 2.0)))


def test_a_number_of_numpy_or_jax_becomes_a_number_that_json_can_hold():
    made = Config(
        steps=np.int64(7),
        advantage=AdvantageConfig(risk_coef=jnp.float32(2), eps=np.float32(0.5)),
        optim=OptimConfig(learning_rate=np.float64(0.25)),
    )
    again = Config.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    assert (again.steps, again.advantage.risk_coef, again.advantage.eps) == (7, 2.0, 0.5)


def test_a_traced_risk_coef_stays_traced_and_has_its_gradient():
    def twice(k):
        return 2.0 * AdvantageConfig(risk_coef=k).risk_coef

    assert float(jax.grad(twice)(3.0)) == 2.0
    assert float(jax.jit(twice)(-3.0)) == -6.0  # nobody can check a traced value


def own_rule(scores):
    return scores[..., 0]


class PairOfFunctions(NamedTuple):
    init: Any
    apply: Any


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        pytest.param(AdvantageConfig, "method", own_rule, id="method"),
        pytest.param(AdvantageConfig, "whiten", own_rule, id="whiten"),
        pytest.param(RiskScheduleConfig, "kind", own_rule, id="risk schedule"),
        pytest.param(LossConfig, "objective", own_rule, id="objective"),
        pytest.param(LossConfig, "kl_estimator", own_rule, id="KL estimator"),
        pytest.param(LossConfig, "denominator", own_rule, id="denominator"),
        pytest.param(LossConfig, "extra_terms", (own_rule,), id="extra terms"),
        pytest.param(OptimConfig, "schedule", own_rule, id="learning rate"),
        pytest.param(DataConfig, "rewards", ("format", own_rule), id="rewards"),
        pytest.param(
            AdvantageConfig, "method", PairOfFunctions(len, own_rule), id="rule with memory"
        ),
    ],
)
def test_a_function_is_taken_where_a_name_is_and_written_by_its_name(section, field, value):
    made = section(**{field: value})
    assert getattr(made, field) == value
    name = f"{__name__}:own_rule"
    place = made._section
    expected = {"extra_terms": [name], "rewards": ["format", name]}.get(field, name)
    assert Config(**{place: made}).to_dict()[place][field] == expected


def test_a_stored_config_without_its_functions_can_be_read_again():
    made = Config(
        steps=9,
        advantage=AdvantageConfig(method=own_rule, eps=0.5),
        loss=LossConfig(objective=own_rule, extra_terms=(own_rule,), clip_low=0.1),
        optim=OptimConfig(schedule=own_rule),
        data=DataConfig(rewards=("format", "my_rewards.py:polite")),
    )
    again = Config.from_dict(named_only(Config, made.to_dict()))
    assert again == Config(
        steps=9,
        advantage=AdvantageConfig(eps=0.5),
        loss=LossConfig(clip_low=0.1),
        data=DataConfig(rewards=("format", "my_rewards.py:polite")),
    )


@pytest.mark.parametrize("values", [[], None, "x", 3], ids=repr)
@pytest.mark.parametrize("place", ["", "optim"], ids=["the whole", "a section"])
def test_a_stored_config_that_is_no_table_is_refused(place, values):
    with pytest.raises(Refusal) as info:
        Config.from_dict({place: values} if place else values)
    assert str(info.value).startswith(
        f"{place or 'a config'} must be a table of fields, got {values!r}."
    )


def test_an_unknown_field_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(Refusal) as info:
        Config.from_dict({"optim": {"lr": 1.0}})
    first, second = str(info.value).split("\n")
    assert first == "unknown config field optim.lr."
    assert "learning_rate" in second


def test_a_path_is_taken_as_a_data_source():
    assert DataConfig(source=Path("rows.jsonl"), rewards=["format"]).source == "rows.jsonl"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(AdvantageConfig(eps=0.5), AdvantageConfig(eps=0.5), id="config"),
        pytest.param("gdpo", AdvantageConfig(method="gdpo"), id="name"),
        pytest.param(own_rule, AdvantageConfig(method=own_rule), id="function"),
        pytest.param(
            PairOfFunctions(len, own_rule),
            AdvantageConfig(method=PairOfFunctions(len, own_rule)),
            id="rule with memory",
        ),
        pytest.param(
            {"method": "gdpo", "weights": [1, 3]},
            AdvantageConfig(method="gdpo", weights=(1.0, 3.0)),
            id="mapping",
        ),
    ],
)
def test_an_advantage_config_is_made_of_what_stands_for_one(value, expected):
    assert AdvantageConfig.of(value) == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5, "an advantage config must be an AdvantageConfig, the name of a method, a rule or"),
        (None, "an advantage config must be"),
        (AdvantageConfig, "an advantage config must be"),
        (Config(), "an advantage config must be"),
        ("gdop", "advantage.method must be one of rvpo"),
        ({"risk": 1.0}, "unknown config field advantage.risk."),
    ],
    ids=["number", "None", "the class", "another config", "misspelt", "unknown field"],
)
def test_what_stands_for_no_advantage_config_is_refused(value, words):
    with pytest.raises(Refusal) as info:
        AdvantageConfig.of(value)
    assert str(info.value).startswith(words)


def test_a_hostile_name_is_quoted_on_one_line_and_not_at_length():
    with pytest.raises(Refusal) as info:
        AdvantageConfig(method="\x1b[31m" + "x" * 500 + "\n\u202e")
    first, _ = str(info.value).split("\n")
    assert "\x1b" not in first and "\u202e" not in first
    assert len(first) < 450
