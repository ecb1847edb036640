"""Devices: split and merge, errors, compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rvpo_jax.config import AdvantageConfig
from rvpo_jax.method.step import init_state, make_train_step
from rvpo_jax.run import parallel
from rvpo_jax.run.parallel import compiled, replicated
from tests.toys import LAYOUTS, bigram_logprobs, bigram_params, layout_of, ragged_batch


def test_merge_undoes_split():
    x = jnp.arange(48).reshape(16, 3)
    assert replicated.split(x, 8).shape == (8, 2, 3)
    np.testing.assert_array_equal(replicated.merge(replicated.split(x, 8)), x)


@pytest.mark.parametrize("shape", LAYOUTS)
def test_the_step_is_traced_once_over_three_steps(shape):
    traces = []

    def counted(params, batch):
        traces.append(1)
        return bigram_logprobs(params, batch)

    optimizer = optax.sgd(0.1)
    layout = layout_of(shape)
    step = layout.step(make_train_step(counted, AdvantageConfig(), optimizer))
    state = layout.place(init_state(bigram_params(), optimizer, jax.random.key(0)))
    with jax.log_compiles(False):
        state, _, _ = step(state, ragged_batch())
        after_first = len(traces)
        for _ in range(2):
            state, _, _ = step(state, ragged_batch())
    assert len(traces) == after_first
    assert int(state.step) == 3


@pytest.mark.parametrize("shape", LAYOUTS)
def test_map_prompts_equals_one_device(shape):
    def double(tree, x, y):
        return {"sum": tree["a"] * x + y}

    tree, x = {"a": jnp.float32(2.0)}, jnp.arange(16.0)
    layout = layout_of(shape)
    for mapped in (layout.map_prompts(double), layout.map_batch(double)):
        np.testing.assert_array_equal(mapped(layout.place(tree), (x, x))["sum"], 3 * x)


def test_errors_name_both_numbers():
    with pytest.raises(ValueError, match="num_prompts = 12 must be divisible by 8 device"):
        parallel.check_divisible(12, 8, 1)
    with pytest.raises(ValueError, match="at most 8"):
        parallel.local_devices(9)
    with pytest.raises(ValueError, match="jit runs on one device"):
        parallel.Replicated(parallel.local_devices(), "jit")


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
        compiled, "QUICK_ON_CPU", {"xla_no_such_flag": 1, "xla_backend_optimization_level": "1"}
    )
    compiled._known_options.cache_clear()
    assert compiled._known_options() == expected
    compiled._known_options.cache_clear()


def test_a_function_is_compiled_once_per_shape_and_takes_the_memory_of_its_state():
    layout = layout_of(None, 2)
    step = layout.step(_add_up)
    state = layout.place(jnp.zeros(()))
    for size in (4, 4, 6):
        old, state = state, step(state, {"x": np.ones(size, np.float32)})
        assert old.is_deleted()
    assert float(state) == 14.0
    assert len(step._programs) == 2


def _add_up(state, batch, axis_name):
    return state + jax.lax.psum(jnp.sum(batch["x"]), axis_name)
