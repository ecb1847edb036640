"""Logprobs in chunks of the vocabulary's work: equal to those at once, and small."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax.method import vocabulary
from rvpo_jax.method.losses import token_logprobs
from rvpo_jax.method.vocabulary import vocabulary_logprobs


def case(dtype=jnp.float32, shape=(2, 3, 7), width=5, vocab=11):
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(*shape, width)), dtype)
    table = jnp.asarray(rng.normal(size=(vocab, width)), jnp.float32)
    return hidden, table, jnp.asarray(rng.integers(0, vocab, shape))


def weighted(function):
    """A loss that gives each logprob and each entropy its own weight."""

    def loss(hidden, table, tokens):
        logprobs, entropy = function(hidden, table, tokens)
        steps = jnp.arange(tokens.size, dtype=jnp.float32).reshape(tokens.shape)
        return jnp.sum(jnp.cos(steps) * logprobs + jnp.sin(steps) * entropy)

    return loss


def oracle(hidden, table, tokens, temperature):
    """Logprobs and entropies in float64."""
    logits = np.asarray(hidden, np.float64) @ np.asarray(table, np.float64).T / temperature
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(log_probs, np.asarray(tokens)[..., None], -1)[..., 0]
    return chosen, -(np.exp(log_probs) * log_probs).sum(-1)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("chunk", [1, 3, 7, None])
def test_values_equal_a_float64_oracle(chunk, temperature):
    inputs = case()
    actual = vocabulary_logprobs(*inputs, temperature=temperature, chunk=chunk)
    for have, want in zip(actual, oracle(*inputs, temperature), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_gradients_equal_those_of_all_logits(chunk):
    inputs = case()

    def at_once(hidden, table, tokens):
        return token_logprobs(jnp.einsum("...d,vd->...v", hidden, table) / 0.7, tokens)

    def chunked(hidden, table, tokens):
        return vocabulary_logprobs(hidden, table, tokens, temperature=0.7, chunk=chunk)

    expected = jax.grad(weighted(at_once), argnums=(0, 1))(*inputs)
    actual = jax.grad(weighted(chunked), argnums=(0, 1))(*inputs)
    for have, want in zip(actual, expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=5e-5)


def test_the_gradient_of_the_table_is_summed_in_float32():
    # 4,096 tokens add 2^-10 each to one entry: in bfloat16 the sum would stick at 2^-2.
    num = 4096
    hidden = jnp.ones((num, 1), jnp.bfloat16)
    table, tokens = jnp.zeros((2, 1)), jnp.zeros(num, int)

    def loss(table):
        return jnp.sum(vocabulary_logprobs(hidden, table, tokens, chunk=1)[0]) * 2**-9

    # d logprob / d table[0] = 1 - 1/2.
    np.testing.assert_allclose(jax.grad(loss)(table)[:, 0], [num * 2**-10, -num * 2**-10])


def test_memory_does_not_grow_with_the_number_of_tokens():
    vocab, width = 152_064, 8

    def temporaries(num_tokens):
        shapes = (
            jax.ShapeDtypeStruct((1, num_tokens, width), jnp.bfloat16),
            jax.ShapeDtypeStruct((vocab, width), jnp.float32),
            jax.ShapeDtypeStruct((1, num_tokens), jnp.int32),
        )
        loss = jax.grad(weighted(vocabulary_logprobs), argnums=(0, 1))
        return jax.jit(loss).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    short, long = temporaries(1024), temporaries(4096)
    assert long - short < 2**22, "four times the tokens, the same temporaries"
    assert long < 4096 * vocab * 4 / 1.5


@pytest.mark.parametrize(("num_shards", "rounds"), [(1, 8), (4, 2)])
def test_each_shard_of_a_mesh_has_a_chunk_of_the_size_that_one_device_has(
    monkeypatch, num_shards, rounds
):
    # 8 x 16 tokens, 32 ids: 512 logits are two tokens of each row on one device, eight on four.
    monkeypatch.setattr(vocabulary, "CHUNK_LOGITS", 512)
    arguments = (jnp.zeros((8, 16, 4)), jnp.zeros((32, 4)), jnp.zeros((8, 16), jnp.int32))
    made = jax.make_jaxpr(partial(vocabulary_logprobs, num_shards=num_shards))(*arguments)
    found = re.findall(r"scan\[.*?length=(\d+)", str(made), re.DOTALL)
    assert found == [str(rounds)]
