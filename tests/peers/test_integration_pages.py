"""The examples of rvpo_jax/integrations/README.md for TRL, live, and for verl, SIMULATED.

Both need torch and TRL, the extra rvpo-jax[parity]; skipped without it. verl is not installed here:
a stub has the signatures of its registry and calls the estimator as its trainer does.
"""

import os
import sys
import types

import numpy as np
import pytest

from rvpo_jax import AdvantageConfig, compute_advantages
from tests.integration_pages import example
from tests.peers import make_trl_log
from tests.peers.make_trl_log import BATCH_SIZE, NUM_GENERATIONS, PROMPTS

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rvpo-jax[parity]'")
pytestmark = pytest.mark.filterwarnings("default")  # TRL's own
STEPS = 3


def trained_with_trl(folder):
    """A few steps of the page's trainer; rewards and used advantages of each."""
    from datasets import Dataset
    from trl import GRPOConfig

    names = {"__name__": "page"}
    exec(example("TRL"), names)
    used, tables = [], []

    class Watched(names["RVPOTrainer"]):
        def _generate_and_score_completions(self, inputs):
            output = super()._generate_and_score_completions(inputs)
            used.append(output["advantages"].numpy().copy())
            tables.append(self._table.numpy().copy())
            return output

    tokenizer = make_trl_log.make_tokenizer()
    trainer = Watched(
        model=make_trl_log.make_model(tokenizer, 0),
        reward_funcs=[make_trl_log.helpful_length, make_trl_log.no_digits],
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=STEPS,
            per_device_train_batch_size=BATCH_SIZE,
            num_generations=NUM_GENERATIONS,
            max_completion_length=12,
            learning_rate=2e-2,
            **make_trl_log.ON_A_CPU,
        ),
        train_dataset=Dataset.from_dict({"prompt": list(PROMPTS)}),
        processing_class=tokenizer,
    )
    before = [x.detach().clone() for x in trainer.model.parameters()]
    trainer.train()
    moved = max(
        float((x - y).detach().abs().max())
        for x, y in zip(before, trainer.model.parameters(), strict=True)
    )
    return tables, used, trainer, moved


def test_three_steps_of_trl_use_the_advantages_of_compute_advantages(tmp_path, monkeypatch):
    pytest.importorskip("trl", reason="needs TRL: pip install 'rvpo-jax[parity]'")
    if "HF_HUB_OFFLINE" not in os.environ:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tables, used, trainer, moved = trained_with_trl(tmp_path)
    assert len(tables) == len(used) == STEPS and moved > 0
    assert any(np.isnan(table).any() for table in tables)
    # k of the page's schedule, linear from 0.5 to 2 over 4 steps.
    for table, advantages, risk_coef in zip(tables, used, (0.5, 0.875, 1.25), strict=True):
        groups = table.astype(float).reshape(-1, NUM_GENERATIONS, 2)
        expected = np.asarray(compute_advantages(groups, risk_coef=risk_coef).advantages)
        np.testing.assert_allclose(advantages, expected.reshape(-1), atol=1e-6)
        other = compute_advantages(groups, config=AdvantageConfig(method="grpo")).advantages
        assert np.abs(advantages - np.asarray(other).reshape(-1)).max() > 1e-3
    # The log has ours, not TRL's, also of an evaluation that fills a part of it.
    np.testing.assert_allclose(trainer._logs["advantages"], used[-1], atol=1e-6)
    trainer.model.eval()
    trainer._logs["advantages"].clear()
    prompts = [{"prompt": text} for text in PROMPTS[:2] for _ in range(NUM_GENERATIONS)]
    trainer._generate_and_score_completions(prompts)
    np.testing.assert_allclose(trainer._logs["advantages"], used[-1], atol=1e-6)
    assert len(used[-1]) == 2 * NUM_GENERATIONS


def verl_stub(monkeypatch):
    """SIMULATED verl: the registry of its core_algos, with the entry that it ships."""
    registry = {"gdpo": lambda **_: None}

    def register_adv_est(name):
        def decorator(fn):
            if registry.setdefault(name, fn) != fn:
                raise ValueError(f"{name} has already been registered")
            return fn

        return decorator

    core_algos = types.ModuleType("verl.trainer.ppo.core_algos")
    core_algos.ADV_ESTIMATOR_REGISTRY = registry
    core_algos.register_adv_est = register_adv_est
    core_algos.get_adv_estimator_fn = registry.__getitem__
    ppo = types.ModuleType("verl.trainer.ppo")
    ppo.core_algos = core_algos
    for name in ("verl", "verl.trainer"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "verl.trainer.ppo", ppo)
    monkeypatch.setitem(sys.modules, "verl.trainer.ppo.core_algos", core_algos)
    return core_algos


def call_as_verl(core_algos, index, rewards, lengths, columns=16):
    """What verl's trainer passes to the estimator of its name ``gdpo``, by keyword."""
    mask = (torch.arange(columns)[None] < torch.tensor(lengths)[:, None]).to(torch.int64)
    tokens = torch.zeros(len(index), columns)  # the outcome on the last token
    tokens[torch.arange(len(index)), torch.tensor(lengths) - 1] = torch.tensor(
        np.nansum(rewards, axis=1), dtype=torch.float32
    )
    advantages, returns = core_algos.get_adv_estimator_fn("gdpo")(
        token_level_rewards=tokens,
        response_mask=mask,
        index=np.array(index, object),
        config={"gdpo_reward_keys": ["correctness", "format"]},
        non_tensor_batch={"correctness": rewards[:, 0], "format": rewards[:, 1]},
        batch={"prompts": torch.zeros(len(index), 4)},
    )
    assert advantages.dtype == torch.float32 and torch.equal(advantages, returns)
    return advantages.numpy(), mask.numpy()


def test_verl_simulated_gets_one_advantage_per_completion_whatever_its_length(monkeypatch):
    core_algos = verl_stub(monkeypatch)
    exec(example("verl"), {})
    rewards = np.random.default_rng(0).normal(size=(8, 2))
    lengths = [1, 16, 3, 9, 2, 2, 11, 5]
    # Scattered, as verl balances its batches.
    index = ["b", "a", "b", "a", "a", "b", "a", "b"]
    advantages, mask = call_as_verl(core_algos, index, rewards, lengths)
    of_a, of_b = [1, 3, 4, 6], [0, 2, 5, 7]
    expected = np.asarray(compute_advantages(rewards[[of_a, of_b]]).advantages)
    flat = np.empty(8)
    flat[of_a], flat[of_b] = expected
    np.testing.assert_allclose(advantages, flat[:, None] * mask, atol=1e-6)
    again, _ = call_as_verl(core_algos, index, rewards, lengths[::-1])
    np.testing.assert_allclose(again[:, 0], advantages[:, 0], atol=1e-6)


def test_verl_simulated_takes_nan_for_not_scored_and_refuses_ragged_groups(monkeypatch):
    core_algos = verl_stub(monkeypatch)
    exec(example("verl"), {})
    rewards = np.array([[1.0, 0.0], [0.0, np.nan], [2.0, 1.0], [0.0, 1.0]])
    advantages, _ = call_as_verl(core_algos, ["a"] * 4, rewards, [2] * 4)
    expected = np.asarray(compute_advantages(rewards[None]).advantages)[0]
    np.testing.assert_allclose(advantages[:, 0], expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"groups must be of one size, got \[1, 3\]"):
        call_as_verl(core_algos, ["a", "a", "a", "b"], rewards, [2] * 4)
