"""Devices: split and merge, errors, compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rvpo_jax.config import AdvantageConfig
from rvpo_jax.method.step import init_state, make_train_step
from rvpo_jax.run import parallel
from tests.toys import bigram_logprobs, bigram_params, ragged_batch


def test_merge_undoes_split():
    x = jnp.arange(48).reshape(16, 3)
    assert parallel.split(x, 8).shape == (8, 2, 3)
    np.testing.assert_array_equal(parallel.merge(parallel.split(x, 8)), x)


@pytest.mark.parametrize("impl", ["pmap", "shard_map"])
def test_the_step_is_traced_once_over_three_steps(impl):
    traces = []

    def counted(params, batch):
        traces.append(1)
        return bigram_logprobs(params, batch)

    optimizer = optax.sgd(0.1)
    devices = parallel.local_devices()
    step = parallel.data_parallel(
        make_train_step(counted, AdvantageConfig(), optimizer), devices, impl
    )
    state = init_state(bigram_params(), optimizer, jax.random.key(0))
    state = parallel.replicate(state, devices)
    with jax.log_compiles(False):
        state, _, _ = step(state, ragged_batch())
        after_first = len(traces)
        for _ in range(2):
            state, _, _ = step(state, ragged_batch())
    assert len(traces) == after_first
    assert int(state.step) == 3


@pytest.mark.parametrize("impl", ["pmap", "shard_map"])
def test_map_prompts_equals_one_device(impl):
    def double(tree, x, y):
        return {"sum": tree["a"] * x + y}

    tree, x = {"a": jnp.float32(2.0)}, jnp.arange(16.0)
    mapped = parallel.map_prompts(double, parallel.local_devices(), impl)
    np.testing.assert_array_equal(mapped(tree, x, x)["sum"], 3 * x)


def test_errors_name_both_numbers():
    with pytest.raises(ValueError, match="num_prompts = 12 must be divisible by 8 device"):
        parallel.check_divisible(12, 8, 1)
    with pytest.raises(ValueError, match="at most 8"):
        parallel.local_devices(9)
    with pytest.raises(ValueError, match="jit runs on one device"):
        parallel.data_parallel(lambda s, b: s, parallel.local_devices(), "jit")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", {"xla_backend_optimization_level": "1"}),
        ("--xla_backend_optimization_level=0", {}),  # what was exported wins
    ],
)
def test_options_that_this_xla_does_not_know_or_that_were_exported_are_left_out(
    monkeypatch, flags, expected
):
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(
        parallel, "QUICK_ON_CPU", {"xla_no_such_flag": 1, "xla_backend_optimization_level": "1"}
    )
    parallel._known_options.cache_clear()
    assert parallel._known_options() == expected
    parallel._known_options.cache_clear()


def test_a_function_is_compiled_once_per_shape_and_takes_the_memory_of_its_state():
    devices = parallel.local_devices(2)
    step = parallel.data_parallel(_add_up, devices)
    state = parallel.replicate(jnp.zeros(()), devices)
    for size in (4, 4, 6):
        old, state = state, step(state, {"x": np.ones(size, np.float32)})
        assert old.is_deleted()
    assert float(state) == 14.0
    assert len(step._programs) == 2


def _add_up(state, batch, axis_name):
    return state + jax.lax.psum(jnp.sum(batch["x"]), axis_name)
