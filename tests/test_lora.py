"""Adapters beside frozen parameters: the same model as merged ones, and the chain rule.

With ``W' = W + s A B`` and ``g`` the gradient of a loss by ``W'``, that by A is ``s g B^T`` and
that by B is ``s A^T g``.
"""

import dataclasses
import functools
import json
import os
import re
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console
from safetensors.numpy import load_file

from rvpo_jax import Batch, init_state, make_train_step
from rvpo_jax.cli import main
from rvpo_jax.config import LossConfig, ModelConfig
from rvpo_jax.method.frozen import join
from rvpo_jax.method.sampling import make_sampler, prompt_keys
from rvpo_jax.models import build_model
from rvpo_jax.models.lora import A, B, merge
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.train import train
from tests.test_pretrained import make_folder, run_config, write_rows
from tests.toys import LAYOUTS, layout_of

RANK, ALPHA = 3, 6.0
CONFIG = ModelConfig(lora_rank=RANK, lora_alpha=ALPHA, lora_targets=("q_proj", "down_proj"))
VOCAB, PROMPTS, GROUP, TOKENS = 40, 8, 2, 5
FULL = build_model(ModelConfig(), VOCAB)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("model"))


@functools.cache
def made(config=CONFIG, seed=0):
    """A model, its frozen parameters, and adapters of which no part is zero."""
    model = build_model(config, VOCAB)
    frozen = model.init(jax.random.key(seed))
    fresh = model.adapters(jax.random.key(seed + 1))
    adapters = jax.tree.map(
        lambda x: x + 0.1 * jnp.sign(jnp.cos(jnp.arange(x.size))).reshape(x.shape), fresh
    )
    return model, frozen, adapters


def batch(seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    shape = (PROMPTS, GROUP, TOKENS)
    mask = jnp.arange(TOKENS)[None, None] < jax.random.randint(
        keys[0], (*shape[:2], 1), 1, TOKENS + 1
    )
    rewards = jax.random.normal(keys[1], (*shape[:2], 2))
    return Batch(
        prompts=jax.random.randint(keys[2], (PROMPTS, 4), 0, VOCAB),
        prompt_mask=jnp.ones((PROMPTS, 4), bool),
        completions=jax.random.randint(keys[3], shape, 0, VOCAB),
        completion_mask=mask,
        old_logprobs=jnp.full(shape, -3.0),
        rewards=rewards,
        where=jnp.ones_like(rewards, bool),
    )


def logprobs_of(model, params, temperature=1.0, capacity=None):
    return jax.jit(lambda params: model.logprobs(params, batch(), temperature, capacity))(params)


def test_a_run_starts_as_the_model_it_starts_from():
    model, frozen, _ = made()
    adapters = model.adapters(jax.random.key(1))
    assert set(adapters["layers"]) == set(CONFIG.lora_targets)
    assert adapters["layers"]["q_proj"][A].shape == (3, 64, RANK)
    assert not jnp.any(adapters["layers"]["q_proj"][B])
    assert jnp.std(adapters["layers"]["q_proj"][A]) > 0
    inputs = (batch().prompts, batch().prompt_mask, batch().completions)
    got = jax.jit(model.logits)(join(adapters, frozen), *inputs)
    want = jax.jit(FULL.logits)(frozen, *inputs)
    np.testing.assert_array_equal(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [None, 16])
def test_adapters_compute_what_the_merged_parameters_do(capacity):
    model, frozen, adapters = made()
    merged = merge(adapters, frozen, CONFIG)
    moved = np.abs(merged["layers"]["q_proj"]["kernel"] - frozen["layers"]["q_proj"]["kernel"])
    pair = jax.tree.map(lambda x: np.asarray(x, np.float64), adapters["layers"]["q_proj"])
    np.testing.assert_allclose(moved, np.abs(ALPHA / RANK * pair[A] @ pair[B]), atol=1e-5)
    got = logprobs_of(model, join(adapters, frozen), 0.7, capacity)
    want = logprobs_of(FULL, merged, 0.7, capacity)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, want)


@pytest.mark.slow
@pytest.mark.parametrize("num_slots", [None, 4])
def test_adapters_sample_what_the_merged_parameters_do(num_slots):
    model, frozen, adapters = made()

    def sampled(model, params):
        sample = make_sampler(
            model, group_size=GROUP, max_tokens=12, eos_id=0, pad_id=1, num_slots=num_slots
        )
        keys = prompt_keys(jax.random.key(0), 0, PROMPTS)
        wanted = jnp.ones((PROMPTS, GROUP), bool)
        inputs = (batch().prompts, batch().prompt_mask, keys, wanted)
        return jax.jit(sample)(params, *inputs).completions

    got = sampled(model, join(adapters, frozen))
    np.testing.assert_array_equal(got, sampled(FULL, merge(adapters, frozen, CONFIG)))


def test_gradients_are_those_of_the_chain_rule():
    model, frozen, adapters = made()

    def loss(logprobs):
        return jnp.sum(jnp.where(batch().completion_mask, logprobs, 0.0))

    @jax.jit
    @jax.grad
    def of_adapters(adapters):
        return loss(model.logprobs(join(adapters, frozen), batch(), 1.0, None)[0])

    @jax.jit
    @jax.grad
    def of_all(params):
        return loss(FULL.logprobs(params, batch(), 1.0, None)[0])

    got, full = of_adapters(adapters), of_all(merge(adapters, frozen, CONFIG))
    for target, pair in adapters["layers"].items():
        kernel = np.asarray(full["layers"][target]["kernel"], np.float64)
        a, b = (np.asarray(pair[name], np.float64) for name in (A, B))
        factor = ALPHA / RANK
        of_a = factor * np.einsum("lio,lro->lir", kernel, b)
        of_b = factor * np.einsum("lir,lio->lro", a, kernel)
        np.testing.assert_allclose(got["layers"][target][A], of_a, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(got["layers"][target][B], of_b, rtol=1e-3, atol=1e-4)


def moved(layout):
    model, frozen, adapters = made()
    step = make_train_step(
        lambda params, batch: model.logprobs(params, batch, 1.0, None), "rvpo", optax.sgd(0.1)
    )
    state = init_state(adapters, optax.sgd(0.1), jax.random.key(0), frozen=frozen)
    return layout.step(step)(layout.place(jax.tree.map(jnp.copy, state)), batch())[0]


@pytest.fixture(scope="module")
def moved_on_one():
    return moved(layout_of(None, 1))


@pytest.mark.slow
@pytest.mark.parametrize("shape", LAYOUTS)
def test_a_step_moves_the_adapters_alone_on_one_device_as_on_eight(shape, moved_on_one):
    _, frozen, adapters = made()
    one, eight = moved_on_one, moved(layout_of(shape))
    jax.tree.map(np.testing.assert_array_equal, one.frozen, frozen)
    jax.tree.map(np.testing.assert_array_equal, eight.frozen, frozen)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        one.params,
        eight.params,
    )
    change = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), one.params, adapters)
    assert min(jax.tree.leaves(change)) > 1e-5


@pytest.mark.slow
def test_frozen_matrices_are_kept_as_they_are_multiplied():
    """bfloat16 products take bfloat16 matrices: keeping them so halves them and changes no bit."""
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    model, frozen, adapters = made(config)
    kinds = {
        "/".join(key.key for key in path): leaf.dtype
        for path, leaf in jax.tree_util.tree_flatten_with_path(frozen)[0]
    }
    assert kinds["embed/embedding"] == kinds["layers/q_proj/kernel"] == jnp.bfloat16
    assert kinds["norm/scale"] == kinds["layers/q_proj/bias"] == jnp.float32
    full = build_model(dataclasses.replace(config, lora_rank=0), VOCAB).init(jax.random.key(0))
    assert full["embed"]["embedding"].dtype == jnp.float32
    got, want = (logprobs_of(model, join(adapters, params)) for params in (frozen, full))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert adapters["layers"]["q_proj"][A].dtype == jnp.float32


@pytest.mark.slow
def test_only_what_is_trained_has_a_gradient_of_the_vocabulary():
    """The embedding is frozen: the backward pass does not multiply to get its gradient."""
    model, frozen, adapters = made(dataclasses.replace(CONFIG, lora_targets=("q_proj",)))

    def flops(function, params):
        compiled = jax.jit(jax.grad(function)).lower(params).compile()
        return compiled.cost_analysis()["flops"]

    def loss(params):
        return jnp.sum(model.logprobs(params, batch(), 1.0, None)[0])

    of_adapters = flops(lambda x: loss(join(x, frozen)), adapters)
    of_all = flops(lambda x: loss(join(adapters, x)), frozen)
    assert of_adapters < 0.8 * of_all


def lora_config(path, rows, steps, **changes):
    config = run_config(path, rows, steps)
    model = dataclasses.replace(config.model, lora_rank=RANK, lora_alpha=ALPHA)
    return dataclasses.replace(config, model=model, **changes)


@pytest.mark.slow
def test_a_run_trains_resumes_and_is_exported(folder, tmp_path, capsys):
    rows = write_rows(tmp_path / "rows.jsonl")
    whole = train(lora_config(folder, rows, 2), tmp_path / "whole", Console(quiet=True))
    for steps in (1, 2):
        again = train(lora_config(folder, rows, steps), tmp_path / "run", Console(quiet=True))
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    assert all(jnp.any(pair[B]) for pair in again.params["layers"].values())
    saved = (tmp_path / "run/checkpoints/2/state/_METADATA").read_text()
    assert "down_proj" in saved and A in saved
    assert "embed" not in saved and "'kernel'" not in saved

    model = build_model(ModelConfig(path=str(folder)), 300)
    merged, adapters = tmp_path / "merged", tmp_path / "adapters"
    for out, flags in ((merged, []), (adapters, ["--adapters"])):
        command = ["export", "--workdir", str(tmp_path / "run"), "--out", str(out), *flags]
        assert main(command) == 0
    want = merge(again.params, model.load(str(folder)), lora_config(folder, rows, 2).model)
    jax.tree.map(np.testing.assert_array_equal, model.load(str(merged)), want)

    described = json.loads((adapters / "adapter_config.json").read_text())
    assert (described["r"], described["lora_alpha"]) == (RANK, ALPHA)
    tensors = load_file(adapters / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_{}.weight"
    pair = again.params["layers"]["down_proj"]
    np.testing.assert_array_equal(tensors[name.format("A")], pair[A][1].T)
    np.testing.assert_array_equal(tensors[name.format("B")], pair[B][1].T)
    assert len(tensors) == 2 * sum(pair[A].shape[0] for pair in again.params["layers"].values())

    assert main(["sample", "--workdir", str(tmp_path / "run"), "--num", "1", "--prompt", "hi"]) == 0


@pytest.mark.slow
def test_adapters_are_not_put_on_another_start(folder, tmp_path):
    rows, lent = write_rows(tmp_path / "rows.jsonl"), tmp_path / "lent"
    shutil.copytree(folder, lent)
    train(lora_config(lent, rows, 1), tmp_path / "run", Console(quiet=True))
    weights = bytearray((lent / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (lent / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match="starts from have changed since the checkpoint"):
        train(lora_config(lent, rows, 2), tmp_path / "run", Console(quiet=True))


@pytest.mark.slow
def test_the_reference_policy_is_the_start_without_a_copy_of_it(folder, tmp_path):
    """The KL estimate is 0 while the policy is its reference, and not afterwards."""
    rows = write_rows(tmp_path / "rows.jsonl")
    config = lora_config(folder, rows, 2, loss=LossConfig(kl_coef=0.1))
    with open(os.devnull, "w") as nowhere:
        output = Console(record=True, width=1000, file=nowhere)
        state = train(config, tmp_path / "run", output)
    said = output.export_text()
    kl = [row["policy/kl_ref"] for row in read_metrics(tmp_path / "run")]
    assert kl[0] == pytest.approx(0.0, abs=1e-6)
    assert kl[1] > 1e-6
    sizes = dict(re.findall(r"[:,] ([a-z ]+) ([0-9.]+) MiB", said))
    assert sizes["reference policy"] == sizes["adapters"]
    assert "frozen parameters" in sizes
    num_adapters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert f", {num_adapters:,} of them in adapters;" in said


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"lora_rank": -1}, r"model\.lora_rank must be >= 0, got -1"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, r"model\.lora_alpha must be > 0, got 0"),
        ({"lora_rank": 2, "lora_targets": ("lm_head",)}, r"model\.lora_targets must be of q_proj"),
        ({"lora_rank": 2, "lora_targets": ()}, "got none"),
    ],
)
def test_bad_adapters_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        ModelConfig(**changes)


def test_a_model_of_ones_own_brings_its_own_adapters():
    config = ModelConfig(preset=lambda vocab_size: FULL, lora_rank=2)
    with pytest.raises(ValueError, match=r"model\.lora_rank 2 is for models of ours"):
        build_model(config, VOCAB)


def test_without_qwix_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    with pytest.raises(ValueError, match=r"pip install 'rvpo-jax\[lora\]'"):
        build_model(CONFIG, VOCAB)
