"""Probe tasks with known answers: each breaks if one part of the step breaks.

The policy is one table of logits per context; a completion is one or two tokens.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rvpo_jax.config import AdvantageConfig, LossConfig
from rvpo_jax.method import losses
from rvpo_jax.method.step import init_state, make_train_step
from rvpo_jax.types import Batch


def logprobs_of(params, batch):
    context = batch.prompts[:, None, -1:]
    logits = params["logits"][jnp.broadcast_to(context, batch.completions.shape)]
    return losses.token_logprobs(logits, batch.completions)


def train_bandit(
    reward_of,
    advantage,
    *,
    num_arms=3,
    num_contexts=1,
    num_tokens=1,
    steps=150,
    learning_rate=0.3,
    loss=LossConfig(microbatch_size=None),
    mask_of=None,
    reference=None,
    seed=0,
):
    """Trains on ``reward_of(contexts, arms) -> [B, G, M]``; the policy's final probabilities."""
    optimizer = optax.sgd(learning_rate)
    step = make_train_step(logprobs_of, advantage, optimizer, loss=loss)
    params = {"logits": jnp.zeros((num_contexts, num_arms))}
    shape = (32, 16, num_tokens)
    ones = jnp.ones(shape, bool)

    def one_step(state, key):
        contexts_key, arms_key = jax.random.split(key)
        contexts = jax.random.randint(contexts_key, (shape[0], 1), 0, num_contexts)
        logits = state.params["logits"][contexts[:, :, None]]  # [B, 1, 1, arms]
        arms = jax.random.categorical(arms_key, jnp.broadcast_to(logits, (*shape, num_arms)))
        rewards = reward_of(contexts, arms)
        batch = Batch(
            prompts=contexts,
            prompt_mask=jnp.ones_like(contexts, bool),
            completions=arms,
            completion_mask=ones if mask_of is None else mask_of(ones),
            old_logprobs=jnp.zeros(shape),
            rewards=rewards,
            where=jnp.ones(rewards.shape, bool),
            ref_logprobs=None if reference is None else reference[arms],
        )
        batch = jax.tree_util.tree_map(lambda x: x, batch)
        on_policy, _ = logprobs_of(state.params, batch)
        batch = type(batch)(**{**vars(batch), "old_logprobs": on_policy})
        state, _, metrics = step(state, batch)
        return state, metrics["policy/entropy"]

    state = init_state(params, optimizer, jax.random.key(seed))
    state, _ = jax.jit(lambda s: jax.lax.scan(one_step, s, jax.random.split(s.key, steps)))(state)
    return np.asarray(jax.nn.softmax(state.params["logits"]))


def table_reward(table):
    """Channel values by arm, from an ``[arms, M]`` table."""
    return lambda contexts, arms: jnp.asarray(table, jnp.float32)[arms[..., 0]]


RVPO, GDPO = AdvantageConfig(), AdvantageConfig(method="gdpo")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rvpo", "variance", "hard_min", "gdpo", "gdpo_sum", "grpo"])
def test_the_rewarded_arm_is_learned(method):
    probs = train_bandit(table_reward([[0], [1], [0]]), AdvantageConfig(method=method))
    assert probs[0, 1] > 0.95


def test_a_constant_reward_moves_nothing():
    probs = train_bandit(table_reward([[7.3], [7.3], [7.3]]), RVPO)
    np.testing.assert_array_equal(probs, np.float32(1 / 3))


def test_the_arm_that_fits_the_context_is_learned():
    def reward(contexts, arms):
        return (arms == contexts[:, None]).astype(jnp.float32)

    probs = train_bandit(reward, RVPO, num_contexts=3, steps=300)
    assert np.diag(probs).min() > 0.9


def test_masked_tokens_do_not_learn():
    # Two tokens from the same table; only arm 1 pays, and only as the second token, which is
    # masked: nothing that the mask lets through can raise it.
    def reward(contexts, arms):
        return (arms[..., 1:] == 1).astype(jnp.float32)

    def first_token_only(ones):
        return ones.at[..., 1].set(False)

    masked = train_bandit(reward, RVPO, num_tokens=2, mask_of=first_token_only)
    free = train_bandit(reward, RVPO, num_tokens=2)
    # Chance alone drifts a little: the first token's advantages are noise.
    assert masked[0, 1] < 0.6
    assert free[0, 1] > 0.95


# Arms X = (1, 0), Y = (.45, .45), W = (0, 1), at a uniform policy (style of a conflict between two
# channels): the mean of the scores leaves the balanced arm Y, the soft minimum keeps it.
CONFLICT = [[1.0, 0.0], [0.45, 0.45], [0.0, 1.0]]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_softmin_keeps_the_balanced_arm_and_the_mean_drops_it(seed):
    reward = table_reward(CONFLICT)
    mean = train_bandit(reward, GDPO, steps=300, seed=seed)
    softmin = train_bandit(reward, RVPO, steps=300, seed=seed)
    assert mean[0, 1] < 0.15
    assert softmin[0, 1] > 0.9


def test_kl_holds_the_policy_near_the_reference():
    reference = jax.nn.log_softmax(jnp.zeros(3))
    reward = table_reward([[0], [1], [0]])
    held = LossConfig(microbatch_size=None, kl_coef=2.0)
    free = train_bandit(reward, RVPO)
    probs = train_bandit(reward, RVPO, loss=held, reference=reference)
    assert probs[0, 1] < 0.8 < free[0, 1]
    assert probs[0, 1] > 1 / 3
