"""A mesh: what its compiled step moves between devices, where arrays lie, and whole runs on it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from rvpo_jax.config import (
    CheckpointConfig,
    Config,
    EvalConfig,
    LogConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ParallelConfig,
    RolloutConfig,
)
from rvpo_jax.method.step import init_state, make_train_step
from rvpo_jax.models import build_model
from rvpo_jax.models.presets import PRESETS
from rvpo_jax.models.splash import splash_attention
from rvpo_jax.plan.programs import collectives
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.run.parallel import Sharded, local_devices, make_layout, sharded
from rvpo_jax.run.parallel.choose import choose_mesh, mesh_shape
from rvpo_jax.train import train
from rvpo_jax.types import Batch

# Sizes that tell: 88 = 8 x 11 divides no size of the model and no size of a device's share, so what
# it divides is the whole batch, flattened with tokens or not.
B, G, P, C, M = 88, 4, 33, 25, 3


def compiled_step(shape, *, constrained, microbatch_size=None):
    """The program of a step of Qwen2.5-1.5B with two layers, for a batch of B prompts."""
    layout = Sharded(local_devices(), shape)
    model = build_model(
        ModelConfig(preset="qwen2.5-1.5b", remat=True),
        PRESETS["qwen2.5-1.5b"]["vocab_size"],
        layout.placement if constrained else None,
    )

    def logprobs(params, batch):
        params = layout.constrain_params(params) if constrained else params
        return model.logprobs(params, batch, 1.0, None)

    optimizer = optax.adamw(1e-4)
    loss = LossConfig(microbatch_size=layout.microbatch_size(microbatch_size))
    step = make_train_step(logprobs, "rvpo", optimizer, loss=loss)
    state = jax.eval_shape(
        lambda: init_state(model.init(jax.random.key(0)), optimizer, jax.random.key(0))
    )
    return layout.step(step).program(layout.shapes(state), batch_shapes())


def batch_shapes():
    def of(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype)

    return Batch(
        prompts=of(B, P, dtype=jnp.int32),
        prompt_mask=of(B, P, dtype=bool),
        completions=of(B, G, C, dtype=jnp.int32),
        completion_mask=of(B, G, C, dtype=bool),
        old_logprobs=of(B, G, C),
        rewards=of(B, G, M),
        where=of(B, G, M, dtype=bool),
    )


def whole_batches(text):
    """Results of collectives that hold all prompts and more of each than its rewards."""
    return [
        one
        for one in collectives(text)
        if any(size % B == 0 for size in one.shape) and np.prod(one.shape) > B * G * M
    ]


@pytest.fixture
def two_layers(monkeypatch):
    monkeypatch.setitem(PRESETS, "qwen2.5-1.5b", PRESETS["qwen2.5-1.5b"] | {"num_layers": 2})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "microbatch_size"), [((1, 8, 1), None), ((2, 2, 2), None), ((1, 8, 1), 1)]
)
def test_the_step_gathers_weights_and_no_batch(two_layers, shape, microbatch_size):
    text = compiled_step(shape, constrained=True, microbatch_size=microbatch_size).as_text()
    gathered = [one.shape for one in collectives(text) if one.kind == "all-gather"]
    width = 1536
    assert any(width in shape for shape in gathered), "weights are split, so some are gathered"
    assert whole_batches(text) == []


@pytest.mark.slow
def test_without_the_constraints_the_batch_is_gathered(two_layers):
    assert whole_batches(compiled_step((1, 8, 1), constrained=False).as_text()) != []


def test_parameters_and_moments_are_split():
    layout = Sharded(local_devices(), (1, 4, 2))
    model = build_model(ModelConfig(preset="small"), 512, layout.placement)
    optimizer = optax.adamw(1e-3)
    params = layout.create(lambda: model.init(jax.random.key(0)))
    state = layout.create(lambda p: init_state(p, optimizer, jax.random.key(0)), params)

    def share(tree):
        leaves = jax.tree.leaves(tree)
        mine = sum(leaf.addressable_shards[0].data.size for leaf in leaves)
        return mine / sum(leaf.size for leaf in leaves)

    # Norms and biases alone are whole.
    assert 1 / 8 <= share(state.params) < 1.1 / 8
    assert 1 / 8 <= share(state.opt_state) < 1.1 / 8
    once = jax.jit(model.init)(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, state.params, once)


def test_sampling_has_its_own_copy_in_the_type_of_the_products():
    layout = Sharded(local_devices(), (2, 2, 2), "bfloat16")
    model = build_model(ModelConfig(preset="tiny"), 300, layout.placement)
    params = layout.create(lambda: model.init(jax.random.key(0)))
    copy = layout.for_sampling(params)
    q_proj = copy["layers"]["q_proj"]
    assert q_proj["kernel"].dtype == jnp.bfloat16
    assert q_proj["kernel"].addressable_shards[0].data.shape == (3, 64, 64 // 2)
    assert copy["norm"]["scale"].dtype == jnp.float32
    assert copy["embed"]["embedding"].addressable_shards[0].data.shape == (150, 64)
    assert not params["embed"]["embedding"].is_deleted()


def test_the_copy_for_sampling_is_compiled_once(monkeypatch):
    layout = Sharded(local_devices(), (1, 8, 1))
    params = layout.place({"dense": {"kernel": np.ones((1, 16, 16), np.float32)}})
    traces = []
    table = sharded.shardings
    monkeypatch.setattr(sharded, "shardings", lambda *args: traces.append(1) or table(*args))
    for _ in range(3):
        layout.for_sampling(params)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("fsdp", "must read data"),
        ("fsdp=2,fsdp=2", "must read data"),
        ("model=2", "must read data"),
        ("fsdp=3", "must have 8 device.s., got 'fsdp=3': 2 x 3 x 1 = 6"),
        ("data=2,fsdp=2,tensor=1", "2 x 2 x 1 = 4"),
        ("fsdp=0", "must have 8"),
    ],
)
def test_a_mesh_that_is_none_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        mesh_shape(text, 8)


def test_a_mesh_is_chosen_by_memory_prompts_and_heads():
    gib = 2**30
    assert choose_mesh(8, 64, 10 * gib, None, 2) == (8, 1, 1)  # nothing known: as pmap
    assert choose_mesh(8, 64, 60 * gib, 16 * gib, 2) == (1, 8, 1)  # 60 / 8 = 7.5 <= 8
    assert choose_mesh(8, 64, 600 * gib, 16 * gib, 2) == (1, 8, 1)  # does not fit: most that helps
    assert choose_mesh(8, 2, gib, 16 * gib, 4) == (2, 1, 4)  # two prompts for eight devices
    assert choose_mesh(8, 2, gib, 16 * gib, 2)[2] == 1  # two heads cannot be split in four


def mesh_config(**fields):
    return Config(
        steps=2,
        rollout=RolloutConfig(num_prompts=8, group_size=2, max_completion_tokens=24),
        checkpoint=CheckpointConfig(every=1),
        eval=EvalConfig(num_prompts=8),
        optim=OptimConfig(learning_rate=1e-3),
        log=LogConfig(audit=False),
        **fields,
    )


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"parallel": ParallelConfig(impl="mesh", mesh="tensor=4")}, "2 key/value heads of tiny"),
        (
            {
                "parallel": ParallelConfig(impl="mesh", mesh="fsdp=8"),
                "loss": LossConfig(microbatch_tokens=1024),
            },
            "microbatch_tokens packs the completions of one device",
        ),
        (
            {
                "parallel": ParallelConfig(impl="mesh", mesh="fsdp=8"),
                "loss": LossConfig(num_minibatches=2),
            },
            "must be divisible by 8 device",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(fields, problem):
    with pytest.raises(ValueError, match=problem):
        make_layout(mesh_config(**fields), build_model(ModelConfig(), 300))


def run_on(mesh, workdir, **fields):
    impl = "pmap" if mesh is None else "mesh"
    parallel = ParallelConfig(impl=impl, mesh=mesh, num_devices=2)
    config = mesh_config(parallel=parallel)
    train(dataclasses.replace(config, **fields), workdir, Console(quiet=True))
    return read_metrics(workdir)


@pytest.mark.slow
def test_a_run_is_the_same_on_a_mesh_and_goes_on_on_another(tmp_path):
    # One axis at a time: see ``toys.LAYOUTS``, whose steps are on eight devices.
    expected = run_on(None, tmp_path / "pmap")
    run_on("data=2", tmp_path / "mesh", steps=1)
    rows = run_on("fsdp=2", tmp_path / "mesh")
    assert [row["step"] for row in rows] == [0, 1]
    for name in ("policy/grad_norm", "reward/joint_pass_rate", "advantage/abs_mean"):
        for row, other in zip(rows, expected, strict=True):
            assert row[name] == pytest.approx(other[name], rel=1e-4)


def test_a_mesh_of_several_axes_on_a_cpu_is_warned_of(caplog):
    config = mesh_config(parallel=ParallelConfig(impl="mesh", mesh="data=2,fsdp=2,tensor=2"))
    make_layout(config, build_model(ModelConfig(), 300))
    assert "use one axis" in caplog.text


@pytest.mark.parametrize("by_shard", [True, False], ids=["by shard", "as one array"])
def test_the_kernel_of_a_tpu_is_split_by_hand(by_shard):
    # Lowered for a TPU, without one: the compiler splits arrays, but no kernel.
    layout = Sharded(local_devices(), (2, 2, 2))
    kernel = functools.partial(splash_attention, group_size=2)
    kernel = layout.placement.by_shard(kernel) if by_shard else kernel
    q, k = (jax.ShapeDtypeStruct((8, 384, heads, 64), jnp.bfloat16) for heads in (4, 2))
    mask = jax.ShapeDtypeStruct((8, 128), bool)
    inputs = layout._by_prompts((q, k, k, mask))
    traced = jax.jit(kernel).trace(*inputs)
    if by_shard:
        assert "tpu_custom_call" in traced.lower(lowering_platforms=("tpu",)).as_text()
    else:
        with pytest.raises(NotImplementedError, match="cannot be automatically partitioned"):
            traced.lower(lowering_platforms=("tpu",))


def test_the_kernel_by_shard_is_the_kernel():
    layout = Sharded(local_devices(), (1, 4, 2))
    kernel = functools.partial(splash_attention, group_size=2, interpret=True)
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((4, 24, 4, 8), (4, 24, 2, 8), (4, 24, 2, 8))
    q, k, v = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))
    mask = jnp.arange(8)[None] >= jnp.array([0, 1, 2, 7])[:, None]
    split = jax.jit(layout.placement.by_shard(kernel))(q, k, v, mask)
    np.testing.assert_allclose(split, kernel(q, k, v, mask), atol=1e-6)
