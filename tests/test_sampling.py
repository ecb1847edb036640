"""The sampler: its logprobs, its ends, its independence of padding, batch and devices."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rvpo_jax.method import losses
from rvpo_jax.method.sampling import draw, filter_logits, make_sampler, prompt_keys
from rvpo_jax.models.presets import architecture
from rvpo_jax.models.transformer import Transformer, init_params
from tests.toys import LAYOUTS, layout_of

EOS, PAD = 1, 0
MODEL = Transformer(architecture("tiny", 12))
PARAMS = jax.tree.map(lambda x: 3 * x, init_params(MODEL, jax.random.key(0)))


def logprobs_of(tokens, mask, rollout, temperature=1.0):
    """Of the full forward pass, 0 on padding."""

    @jax.jit
    def full(params):
        logits = MODEL.apply({"params": params}, tokens, mask, rollout.completions) / temperature
        logprobs, _ = losses.token_logprobs(logits, rollout.completions)
        return jnp.where(rollout.completion_mask, logprobs, 0.0)

    return full(PARAMS)


def apply(method):
    return lambda params, *args: MODEL.apply({"params": params}, *args, method=method)


DECODER = SimpleNamespace(
    prefill=apply("prefill"), decode=apply("decode"), empty_cache=MODEL.empty_cache
)


def sampler(max_tokens=12, **options):
    options = {"group_size": 3, "eos_id": EOS, "pad_id": PAD} | options
    return make_sampler(DECODER, max_tokens=max_tokens, **options)


def prompts(num=4, width=5):
    tokens = np.random.default_rng(0).integers(2, 12, (num, width))
    mask = np.arange(width) >= (np.arange(num) % width)[:, None]
    return jnp.asarray(tokens), jnp.asarray(mask)


def table_decoder(logits):
    """A model whose next token depends on nothing: the sampler alone is tested."""
    logits = jnp.asarray(logits, jnp.float32)

    def prefill(params, prompts, prompt_mask):
        return jnp.broadcast_to(logits, (prompts.shape[0], logits.size)), None

    def decode(params, tokens, age, step, prefix, prompt_mask, cache):
        return jnp.broadcast_to(logits, (*tokens.shape, logits.size)), cache

    return SimpleNamespace(prefill=prefill, decode=decode, empty_cache=lambda *shape: None)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_logprobs_equal_those_of_the_full_forward_pass(temperature):
    tokens, mask = prompts()
    keys = prompt_keys(jax.random.key(1), 0, 4)
    rollout = jax.jit(sampler(temperature=temperature))(PARAMS, tokens, mask, keys)
    expected = logprobs_of(tokens, mask, rollout, temperature)
    np.testing.assert_allclose(rollout.logprobs, expected, atol=1e-5)
    assert rollout.completion_mask.sum() > 20


def test_a_completion_ends_with_its_first_eos_or_at_the_limit():
    tokens, mask = prompts()
    keys = prompt_keys(jax.random.key(2), 0, 4)
    rollout = jax.jit(sampler(group_size=8))(PARAMS, tokens, mask, keys)
    completions, written = np.asarray(rollout.completions), np.asarray(rollout.completion_mask)
    ends = set()
    for b in range(4):
        for g in range(8):
            row = completions[b, g].tolist()
            length = row.index(EOS) + 1 if EOS in row else 12
            assert written[b, g].tolist() == [i < length for i in range(12)]
            assert all(token == PAD for token in row[length:])
            assert bool(rollout.truncated[b, g]) == (EOS not in row)
            ends.add(EOS in row)
    assert ends == {True, False}, "the case needs both kinds of end"


def test_any_of_several_ends_ends_a_completion():
    # Token 2 is by far the likeliest and is the second of two ends.
    sample = make_sampler(
        table_decoder([-9.0, -9.0, 9.0]), group_size=2, max_tokens=4, eos_id=(1, 2), pad_id=0
    )
    rollout = sample(None, *prompts(2), prompt_keys(jax.random.key(0), 0, 2))
    assert rollout.completions[..., 0].tolist() == [[2, 2], [2, 2]]
    assert rollout.completion_mask.sum(-1).tolist() == [[1, 1], [1, 1]]
    assert not rollout.truncated.any()


def test_eos_at_the_first_position_is_one_token_and_not_truncated():
    sample = make_sampler(
        table_decoder([-9.0, 9.0, -9.0]), group_size=2, max_tokens=4, eos_id=1, pad_id=0
    )
    rollout = sample(None, *prompts(2), prompt_keys(jax.random.key(0), 0, 2))
    assert rollout.completion_mask.sum(-1).tolist() == [[1, 1], [1, 1]]
    assert not rollout.truncated.any()


def test_tokens_come_as_often_as_their_probability_says():
    probs = np.array([0.5, 0.0, 0.3, 0.15, 0.05])
    with np.errstate(divide="ignore"):
        decoder = table_decoder(np.log(probs))
    sample = make_sampler(decoder, group_size=50, max_tokens=20, eos_id=1, pad_id=0)
    rollout = sample(None, *prompts(4), prompt_keys(jax.random.key(0), 0, 4))
    counts = np.bincount(np.asarray(rollout.completions).ravel(), minlength=5)
    assert counts[1] == 0
    live = probs > 0
    # One fixed seed: a p-value below 1e-3 would mean a wrong distribution, not bad luck.
    assert stats.chisquare(counts[live], probs[live] * counts.sum()).pvalue > 1e-3


def test_temperature_zero_takes_the_most_likely_token():
    sample = make_sampler(
        table_decoder([0.0, -1.0, 0.5]), group_size=2, max_tokens=3, eos_id=1, pad_id=0,
        temperature=0.0,
    )  # fmt: skip
    rollout = sample(None, *prompts(2), prompt_keys(jax.random.key(0), 0, 2))
    assert set(np.asarray(rollout.completions).ravel().tolist()) == {2}


def test_top_k_and_top_p_by_hand():
    logits = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3]))

    def kept(**options):
        return jnp.isfinite(filter_logits(logits, **options)).tolist()

    assert kept(top_k=2) == [False, True, False, True]
    assert kept(top_k=9) == kept() == [True] * 4
    # 0.4 < 0.6 <= 0.4 + 0.3
    assert kept(top_p=0.6) == [False, True, False, True]
    assert kept(top_p=0.01) == [False, True, False, False]
    assert kept(top_k=3, top_p=0.99) == [False, True, True, True]


@pytest.mark.slow
def test_completions_do_not_depend_on_padding_or_on_the_rest_of_the_batch():
    tokens, mask = prompts()
    keys = prompt_keys(jax.random.key(1), 0, 4)
    sample = jax.jit(sampler())
    expected = sample(PARAMS, tokens, mask, keys).completions
    wide = jnp.concatenate([jnp.full((4, 3), 5), tokens], axis=1)
    wide_mask = jnp.concatenate([jnp.zeros((4, 3), bool), mask], axis=1)
    np.testing.assert_array_equal(sample(PARAMS, wide, wide_mask, keys).completions, expected)
    alone = sample(PARAMS, tokens[2:3], mask[2:3], keys[2:3]).completions
    np.testing.assert_array_equal(alone, expected[2:3])


@pytest.fixture(scope="module")
def sampled_on_one():
    return jax.jit(sampler())(PARAMS, *prompts(8), prompt_keys(jax.random.key(1), 0, 8))


@pytest.mark.slow
@pytest.mark.parametrize("shape", LAYOUTS)
def test_eight_devices_sample_what_one_samples(shape, sampled_on_one):
    expected = sampled_on_one
    tokens, mask = prompts(8)
    keys = prompt_keys(jax.random.key(1), 0, 8)
    layout = layout_of(shape)
    params = layout.for_sampling(layout.place(PARAMS))
    actual = layout.map_prompts(sampler())(params, (tokens, mask, keys))
    np.testing.assert_array_equal(actual.completions, expected.completions)
    np.testing.assert_allclose(actual.logprobs, expected.logprobs, atol=1e-5)


def test_keys_differ_between_steps_and_prompts():
    key = jax.random.key(0)
    data = [jax.random.key_data(prompt_keys(key, step, 5)) for step in range(3)]
    assert len({tuple(row) for row in np.concatenate(data).tolist()}) == 15


@pytest.mark.slow
@pytest.mark.parametrize("max_tokens", [12, 140])
@pytest.mark.parametrize("num_slots", [1, 5])
def test_slots_that_are_filled_again_write_the_same_completions(num_slots, max_tokens):
    # 140 tokens: the cache is long enough to be read in blocks, and goes round more than once.
    tokens, mask = prompts()
    keys = prompt_keys(jax.random.key(1), 0, 4)
    expected = jax.jit(sampler(max_tokens))(PARAMS, tokens, mask, keys)
    actual = jax.jit(sampler(max_tokens, num_slots=num_slots))(PARAMS, tokens, mask, keys)
    for field in ("completions", "completion_mask", "truncated"):
        np.testing.assert_array_equal(getattr(actual, field), getattr(expected, field), field)
    np.testing.assert_allclose(actual.logprobs, expected.logprobs, atol=1e-5)
    lengths = np.asarray(expected.completion_mask).sum(-1)
    assert lengths.min() < 12 <= lengths.max()
    assert lengths.sum() > max_tokens, "the case needs a cache that goes round"


@pytest.mark.slow
@pytest.mark.parametrize("max_tokens", [12, 140])
def test_logprobs_of_a_long_cache_equal_those_of_the_full_forward_pass(max_tokens):
    tokens, mask = prompts()
    keys = prompt_keys(jax.random.key(3), 0, 4)
    rollout = jax.jit(sampler(max_tokens, num_slots=3))(PARAMS, tokens, mask, keys)
    expected = logprobs_of(tokens, mask, rollout)
    np.testing.assert_allclose(rollout.logprobs, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("num_slots", [None, 2])
def test_completions_that_are_not_wanted_are_not_written(num_slots):
    tokens, mask = prompts()
    keys = prompt_keys(jax.random.key(1), 0, 4)
    sample = jax.jit(sampler(num_slots=num_slots))
    everything = sample(PARAMS, tokens, mask, keys)
    wanted = jnp.array([[1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]], bool)
    some = sample(PARAMS, tokens, mask, keys, wanted)
    np.testing.assert_array_equal(
        some.completion_mask, everything.completion_mask & wanted[..., None]
    )
    np.testing.assert_array_equal(
        some.completions, np.where(wanted[..., None], everything.completions, PAD)
    )
    assert not some.truncated[~wanted].any()


def test_positions_that_decoding_computes_are_counted_by_hand():
    # Every completion has 4 tokens. 2 x 3 of them in 2 slots: three rounds of 4 steps.
    decoder = table_decoder([0.0, -9e9, 0.5])
    options = {"group_size": 3, "max_tokens": 4, "eos_id": 1, "pad_id": 0}
    keys = prompt_keys(jax.random.key(0), 0, 2)
    for num_slots, total in [(None, 24), (2, 24), (4, 32)]:
        sample = make_sampler(decoder, num_slots=num_slots, **options)
        assert sample(None, *prompts(2), keys).computed.tolist() == [total / 2] * 2


def test_long_tails_leave_few_slots_empty():
    # Geometric lengths of mean 12: at least 85 % of the computed positions are tokens.
    with np.errstate(divide="ignore"):
        decoder = table_decoder(np.log([0.0, 1 / 12, 11 / 12]))
    options = {"group_size": 8, "max_tokens": 256, "eos_id": 1, "pad_id": 0}
    keys = prompt_keys(jax.random.key(0), 0, 32)
    used = {}
    for num_slots in (None, 16):
        rollout = jax.jit(make_sampler(decoder, num_slots=num_slots, **options))(
            None, *prompts(32), keys
        )
        used[num_slots] = float(rollout.completion_mask.sum() / rollout.computed.sum())
    assert used[None] < 0.3
    assert used[16] > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", [1, 2, 7, 417])
def test_tokens_are_drawn_with_their_probabilities(vocab_size):
    """A grid over both random numbers hits each token as often as its probability says.

    ``n`` evenly spaced numbers fall into an interval of length p between np - 1 and np + 1 times.
    A token is an interval of the first number, shared by its block, and one of the second.
    """
    n = 400
    logits = 2.0 * jax.random.normal(jax.random.key(vocab_size), (vocab_size,))
    logits = logits.at[vocab_size // 2 + 1 :: 5].set(-jnp.inf)  # ruled out
    grid = (jnp.arange(n) + 0.5) / n
    uniforms = jnp.stack(jnp.meshgrid(grid, grid), axis=-1)
    tokens = draw(jnp.broadcast_to(logits, (n, n, vocab_size)), uniforms)
    counts = np.bincount(np.asarray(tokens).reshape(-1), minlength=vocab_size)
    weights = np.exp(np.asarray(logits, np.float64))
    np.testing.assert_allclose(counts / n**2, weights / weights.sum(), atol=2.1 / n)
    assert not counts[weights == 0].any()


def test_the_last_random_number_draws_a_token_that_is_there():
    """The largest float32 below 1, and 0: neither lands on a token that is ruled out."""
    logits = jnp.where(jnp.arange(40) % 7 == 3, 0.0, -jnp.inf)
    last = jnp.nextafter(jnp.float32(1.0), jnp.float32(0.0))
    ends = draw(jnp.broadcast_to(logits, (2, 40)), jnp.array([[0.0, 0.0], [last, last]]))
    assert ends.tolist() == [3, 38]


def test_rounding_of_a_long_sum_draws_no_token_that_is_ruled_out():
    """XLA sums 500 numbers in pieces: the running sum may grow where nothing is added."""
    width = 500
    weights = jax.random.uniform(jax.random.key(0), (width,))
    weights = jnp.where(jax.random.bernoulli(jax.random.key(1), 0.5, (width,)), weights, 0.0)
    weights = weights / jnp.max(weights)
    sums = np.asarray(jnp.cumsum(weights))
    grows = np.flatnonzero((np.diff(sums) > 0) & (np.asarray(weights)[1:] == 0))
    assert len(grows)
    shares = jnp.asarray(sums[grows + 1] / sums.max())[:, None]
    shares = jnp.concatenate([shares - 2.0**-24 * jnp.float32(i) for i in range(4)])
    uniforms = jnp.concatenate([jnp.zeros_like(shares), shares], axis=-1)
    logits = jnp.full((width * width,), -jnp.inf).at[:width].set(jnp.log(weights))
    tokens = jax.lax.map(lambda uniform: draw(logits, uniform), uniforms)
    assert (np.asarray(weights)[np.asarray(tokens)] > 0).all()
