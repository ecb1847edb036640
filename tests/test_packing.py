"""Packed completions: where tokens lie, and what the model makes of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config, LossConfig, ModelConfig, ParallelConfig, RolloutConfig
from rvpo_jax.data.tokenizer import ByteTokenizer
from rvpo_jax.method.microbatches import (
    computed_positions,
    map_over_microbatches,
    sum_over_microbatches,
)
from rvpo_jax.method.packing import ROW, num_rows, pack_rows
from rvpo_jax.models import build_model
from rvpo_jax.run.policy import Policy
from tests.toys import layout_of, ragged_batch

LENGTHS = np.array([[5, 70, 1], [1, 1, 1], [33, 32, 64], [0, 0, 0]])


def mask_of(lengths, width=70):
    return jnp.arange(width)[None, None] < jnp.asarray(lengths)[..., None]


def test_every_token_has_its_own_place_in_a_row_of_its_prompt():
    mask = mask_of(LENGTHS)
    capacity = int(num_rows(mask).sum())
    assert num_rows(mask).tolist() == [3, 1, 5, 0]
    rows = pack_rows(mask, capacity + 2)
    place, source = np.asarray(rows.place), np.asarray(rows.source).reshape(-1)
    flat = np.flatnonzero(np.asarray(mask))
    assert sorted(source[source < mask.size]) == flat.tolist()
    np.testing.assert_array_equal(source[place.reshape(-1)[flat]], flat)
    assert (place[~np.asarray(mask)] == (capacity + 2) * ROW).all()
    np.testing.assert_array_equal(
        np.asarray(rows.prompt)[place.reshape(-1)[flat] // ROW],
        np.nonzero(np.asarray(mask))[0],
    )
    # Tokens of a completion follow one another.
    assert all((np.diff(place[b, g][mask[b, g]]) == 1).all() for b in range(4) for g in range(3))


def tiny_batch(width=70):
    rng = np.random.default_rng(0)
    shape = (*LENGTHS.shape, width)
    batch = ragged_batch(*shape)
    prompts = rng.integers(0, 256, (4, 9))
    mask = mask_of(LENGTHS, width)
    return dataclasses.replace(
        batch,
        prompts=jnp.asarray(prompts, jnp.int32),
        prompt_mask=jnp.arange(9)[None] >= jnp.array([0, 8, 3, 5])[:, None],
        completions=jnp.where(mask, rng.integers(0, 256, shape), 0).astype(jnp.int32),
        completion_mask=mask,
    )


@pytest.mark.slow
@pytest.mark.parametrize("spare", [0, 4])
def test_packed_logprobs_and_gradients_equal_those_of_the_padded_batch(spare):
    model = build_model(ModelConfig(preset="tiny"), 300)
    params, batch = model.init(jax.random.key(0)), tiny_batch()
    params = jax.tree.map(lambda x: 3 * x, params)
    steps = jnp.cos(jnp.arange(batch.completions.size, dtype=jnp.float32)).reshape(
        batch.completions.shape
    )

    def loss(params, capacity):
        logprobs, entropy = model.logprobs(params, batch, 0.8, capacity)
        masked = jnp.where(batch.completion_mask, logprobs + 0.3 * entropy, 0.0)
        return jnp.sum(steps * masked), masked

    grad = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (_, expected), expected_grad = grad(params, None)
    (_, actual), actual_grad = grad(params, 9 + spare)
    np.testing.assert_allclose(actual, expected, atol=2e-5)

    def assert_close(actual, expected):
        # Sums of float32 in another order: small entries of an array have the errors of large ones.
        np.testing.assert_allclose(actual, expected, atol=3e-5 * float(jnp.abs(expected).max()))

    jax.tree.map(assert_close, actual_grad, expected_grad)


def work(num_prompts=7):
    batch = ragged_batch(num_prompts, 4, 9)
    return {"batch": batch, "keep": jnp.ones((num_prompts, 4), bool)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        LossConfig(microbatch_tokens=64, microbatch_size=None),
        LossConfig(microbatch_tokens=64, microbatch_size=2),
        LossConfig(microbatch_tokens=4096, microbatch_size=None),
        LossConfig(microbatch_size=1),
        LossConfig(microbatch_size=None),
    ],
)
def test_microbatches_hold_every_token_once_in_whole_groups(config):
    everything = work()

    def count(part):
        batch = part["batch"]
        value = jnp.sum(batch.old_logprobs, where=batch.completion_mask)
        return value, jnp.sum(batch.completion_mask), jnp.sum(part["keep"])

    value, tokens, kept = sum_over_microbatches(count, everything, config)
    batch = everything["batch"]
    assert float(value) == pytest.approx(float(jnp.sum(batch.old_logprobs)), rel=1e-5)
    assert (int(tokens), int(kept)) == (int(batch.completion_mask.sum()), 28)
    out = map_over_microbatches(lambda part: part["batch"].old_logprobs, everything, config)
    np.testing.assert_array_equal(out, batch.old_logprobs)


@pytest.mark.slow
def test_positions_that_the_update_computes_are_counted_by_hand():
    # Two rows of 32 hold two prompts of 27 and 20 tokens; the third begins a new microbatch.
    lengths = np.array([[27], [20], [3]])
    batch = dataclasses.replace(ragged_batch(3, 1, 27), completion_mask=mask_of(lengths, 27))
    everything = {"batch": batch, "keep": jnp.ones((3, 1), bool)}
    assert computed_positions(everything, LossConfig(microbatch_tokens=64)) == 128
    assert computed_positions(everything, LossConfig()) == 81


def tiny_config(**loss):
    return Config(
        rollout=RolloutConfig(num_prompts=2, group_size=4, max_completion_tokens=40),
        loss=LossConfig(**loss),
        parallel=ParallelConfig(num_devices=1),
    )


def test_a_microbatch_that_does_not_hold_a_group_is_refused_with_the_number_that_does():
    model = build_model(ModelConfig(), 300)
    Policy(model, layout_of(None, 1), ByteTokenizer(), tiny_config(microbatch_tokens=160))
    with pytest.raises(Refusal, match=r"(?s)= 159 must hold one group.*Give 160 or more"):
        Policy(model, layout_of(None, 1), ByteTokenizer(), tiny_config(microbatch_tokens=159))


def test_a_model_that_does_not_pack_is_refused():
    model = build_model(ModelConfig(), 300)._replace(logprobs=None)
    Policy(model, layout_of(None, 1), ByteTokenizer(), tiny_config())
    with pytest.raises(Refusal, match="packs completions, which model tiny does not"):
        Policy(model, layout_of(None, 1), ByteTokenizer(), tiny_config(microbatch_tokens=160))
