"""RVPO inside the installed Tunix: the page's example trains a random tiny Qwen2 on the CPU.

Needs the extra rvpo-jax[tunix]; skipped without it. Its agentic learner is not run: that its config
and its registries take ours is checked, and its calls are made by hand.
"""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from rvpo_jax import AdvantageConfig, compute_advantages
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Channel
from rvpo_jax.integrations import tunix as rvpo_tunix
from rvpo_jax.method.aggregators import METHODS
from tests.integration_pages import example

pytest.importorskip("tunix", reason="needs Tunix: pip install 'rvpo-jax[tunix]'")

from flax import nnx
from tunix.models.qwen2 import model as qwen2
from tunix.rl import function_registry, reward_manager, rl_cluster
from tunix.rl.agentic import agentic_grpo_learner
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout.base_rollout import RolloutConfig

pytestmark = pytest.mark.filterwarnings("default")  # Tunix's own
NUM_PROMPTS, GROUP_SIZE, STEPS = 4, 4, 3
VOCABULARY, EOS, PAD = 40, 1, 0


@pytest.fixture(autouse=True)
def tunixs_ranks():
    """Tunix broadcasts ranks, also in a thread of its own; our tests forbid it."""
    before = jax.config.jax_numpy_rank_promotion
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", before)


class Words:
    """A tokenizer whose words are ids: a prompt is "17 4 25"."""

    def encode(self, text):
        return [int(word) for word in text.split()]

    def decode(self, ids):
        return " ".join(map(str, ids))

    def bos_id(self):
        return None

    def eos_id(self):
        return EOS

    def pad_id(self):
        return PAD


def make_cluster(**sizes):
    sizes = {"mini_batch_size": NUM_PROMPTS, "rollout_micro_batch_size": NUM_PROMPTS} | sizes
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    config = qwen2.ModelConfig(
        num_layers=2,
        vocab_size=VOCABULARY,
        embed_dim=32,
        hidden_dim=64,
        num_heads=2,
        head_dim=16,
        num_kv_heads=1,
        rope_theta=10_000,
        norm_eps=1e-6,
        use_tied_embedding=True,
    )
    settings = rl_cluster.ClusterConfig(
        role_to_mesh=dict.fromkeys(rl_cluster.Role, mesh),
        training_config=rl_cluster.RLTrainingConfig(
            actor_optimizer=optax.sgd(0.1),
            eval_every_n_steps=1_000,
            max_steps=STEPS,
            **sizes,
        ),
        # A random network with tied embeddings repeats its last word: hot enough that it does not.
        rollout_config=RolloutConfig(
            max_tokens_to_generate=12, max_prompt_length=8, kv_cache_size=20, temperature=10.0
        ),
    )
    model = qwen2.Qwen2(config, rngs=nnx.Rngs(0))
    return rl_cluster.RLCluster(actor=model, tokenizer=Words(), cluster_config=settings)


class Rewards:
    """Two reward functions of different scale that write down what they return."""

    def __init__(self):
        self.table = []  # per step [N, M]

    def helpful(self, prompts, completions, level, **columns):
        """Different words, weighted with a column of the data."""
        assert len(prompts) == len(level) == NUM_PROMPTS * GROUP_SIZE
        words = [len(set(text.split())) for text in completions]
        self.table.append([[a * float(b)] for a, b in zip(words, level, strict=True)])
        return np.array(self.table[-1])[:, 0]

    def short(self, completions, **columns):
        """1 without large ids; None, not judged, where a word is 7."""
        values = [
            None if "7" in (words := text.split()) else float(all(int(w) < 35 for w in words))
            for text in completions
        ]
        for row, value in zip(self.table[-1], values, strict=True):
            row.append(np.nan if value is None else value)
        return values


def train_as_on_the_page():
    """The page's example with a cluster of ours; what it did."""
    rewards, cluster = Rewards(), make_cluster()
    updates, logs = [], []
    update_actor = cluster.update_actor

    def watched(train_ds, *args, **kwargs):
        updates.append(np.concatenate([np.asarray(x.advantages) for x in train_ds]))
        return update_actor(train_ds, *args, **kwargs)

    cluster.update_actor = watched
    cluster.with_external_metrics_logger(lambda buffer: logs.append(buffer))
    prompts = np.array([f"{index + 2} {index + 9} 5" for index in range(NUM_PROMPTS)])
    batch = {"prompts": prompts, "level": np.array([1.0, 2.0, 3.0, 4.0])}
    before = jax.tree.map(np.array, nnx.state(cluster.actor_trainer.model))
    names = {
        "cluster": cluster,
        "helpful": rewards.helpful,
        "short": rewards.short,
        "batches": [batch] * STEPS,
    }
    exec(example("Tunix"), names)
    after = nnx.state(cluster.actor_trainer.model)
    moved = [
        float(np.abs(a - np.array(b)).max())
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    ]
    return rewards.table, updates, logs, moved, names["learner"]


def test_three_steps_of_tunix_use_the_advantages_of_compute_advantages():
    tables, updates, logs, moved, learner = train_as_on_the_page()
    assert len(tables) == len(updates) == STEPS
    assert any(np.isnan(table).any() for table in tables)  # something was not judged
    # k of the page's schedule, linear from 0.5 to 2 over 3 steps.
    for table, update, risk_coef in zip(tables, updates, (0.5, 1.0, 1.5), strict=True):
        groups = np.array(table).reshape(NUM_PROMPTS, GROUP_SIZE, 2)
        expected = np.asarray(compute_advantages(groups, risk_coef=risk_coef).advantages)
        np.testing.assert_allclose(update, expected.reshape(-1), atol=1e-6)
        assert np.abs(update).max() > 0.5
        # Not those of another k, or of the sum.
        for other in (AdvantageConfig(risk_coef=risk_coef + 0.5), AdvantageConfig(method="grpo")):
            different = np.asarray(compute_advantages(groups, config=other).advantages)
            assert np.abs(update - different.reshape(-1)).max() > 1e-3
    assert max(moved) > 0 and all(np.isfinite(moved))
    assert learner.rl_cluster.global_steps == STEPS
    first = logs[0].metrics
    assert first["risk_coef"][0] == [0.5]
    assert 0 <= first["audit/bottleneck/short"][0][0] <= 1
    assert set(first) >= {"rewards/helpful", "rewards/short", "reward/joint_pass_rate"}
    np.testing.assert_array_equal(first["rewards/short"][0][0], np.array(tables[0])[:, 1])


def test_tunix_that_cuts_the_batch_is_refused_before_it_trains():
    rvpo_tunix.register()

    def one(completions):
        return [0.0] * len(completions)

    def learner(whiten):
        return grpo_learner.GRPOLearner(
            rl_cluster=make_cluster(train_micro_batch_size=2, rollout_micro_batch_size=2),
            algo_config=rvpo_tunix.RVPOConfig(advantage=AdvantageConfig(whiten=whiten)),
            reward_fns=one,
        )

    with pytest.raises(Refusal, match=r"mini_batch_size 4, judged in parts of lcm\(2, 2\) = 2"):
        rvpo_tunix.bind(learner("batch"))
    rvpo_tunix.bind(learner("group"))


def test_tunix_knows_the_names():
    rvpo_tunix.register()
    manager = function_registry.get_reward_manager("rvpo")
    assert issubclass(manager, reward_manager.AbstractRewardManager)
    assert function_registry.get_advantage_estimator("rvpo") is rvpo_tunix.advantage_estimator
    config = rvpo_tunix.RVPOConfig(num_generations=4, epsilon=0.1)
    assert isinstance(config, grpo_learner.GRPOConfig) and config.epsilon == 0.1
    assert dataclasses.asdict(config)["advantage"]["method"] == "rvpo"
    with pytest.raises(ValueError, match="num_generations must be greater than 1"):
        rvpo_tunix.RVPOConfig(num_generations=1)


@pytest.mark.parametrize("method", METHODS)
def test_every_named_rule_by_way_of_tunixs_registry(method):
    rvpo_tunix.register()
    table = np.random.default_rng(0).normal(size=(8, 2))
    table[3, 1] = np.nan
    rule = AdvantageConfig(method=method, whiten="group")
    config = rvpo_tunix.RVPOConfig(num_generations=4, advantage=rule)

    def first(completions):
        return table[:, 0]

    def second(completions):
        return table[:, 1]

    manager = function_registry.get_reward_manager(config.reward_manager)
    info = manager(reward_fns=[first, second], algo_config=config)(
        prompts=["p"] * 8, completions=["c"] * 8, mode="train"
    )
    estimate = function_registry.get_advantage_estimator(config.advantage_estimator)
    advantages = estimate(rewards=info["rewards"], num_generations=4)
    expected = compute_advantages(
        table.reshape(2, 4, 2),
        config=rule,
        channels=[Channel(name="first"), Channel(name="second")],
    )
    np.testing.assert_allclose(advantages, np.asarray(expected.advantages).reshape(-1), atol=1e-6)


def test_the_agentic_config_and_manager_by_hand():
    rvpo_tunix.register()
    with pytest.raises(Refusal, match="where they arrive alone"):
        rvpo_tunix.AgenticRVPOConfig(num_generations=4)
    rule = AdvantageConfig(whiten="none", recenter=True)
    config = rvpo_tunix.AgenticRVPOConfig(
        num_generations=4, advantage=rule, trajectory_channel="environment", max_concurrency=2
    )
    assert isinstance(config, agentic_grpo_learner.GRPOConfig) and config.max_concurrency == 2
    manager = function_registry.get_reward_manager(config.reward_manager)

    def own(completions, **columns):
        return [0.0, 1.0, 1.0, 2.0]

    info = manager(reward_fns=own, algo_config=config)(
        prompts=["p"] * 4,
        completions=["c"] * 4,
        mode="train",
        trajectory_rewards=[1.0, 0.0, 1.0, 0.0],
    )
    assert np.asarray(info["rewards"]).tolist() == [0.5, 0.5, 1.0, 1.0]  # as it keeps them
    estimate = function_registry.get_advantage_estimator(config.advantage_estimator)
    advantages = estimate(rewards=info["rewards"], num_generations=4)
    table = np.array([[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 0.0]]])
    expected = np.asarray(compute_advantages(table, config=rule).advantages)[0]
    np.testing.assert_allclose(advantages, expected, atol=1e-6)
