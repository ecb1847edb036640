"""Exported adapters in PEFT, the original implementation of LoRA in torch.

Needs the extra rvpo-jax[parity]; skipped without it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax.config import ModelConfig
from rvpo_jax.method.frozen import join
from rvpo_jax.models import build_model
from rvpo_jax.models.hf import save_weights
from rvpo_jax.models.lora import merge, save_adapters
from tests.test_hf import CONFIG, write_folder

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rvpo-jax[parity]'")
transformers = pytest.importorskip("transformers", reason="pip install 'rvpo-jax[parity]'")
peft = pytest.importorskip("peft", reason="pip install 'rvpo-jax[parity]'")


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ModelConfig().lora_targets])
def test_adapters_compute_the_same_in_peft_and_merged_in_transformers(tmp_path, targets):
    base, adapters, merged = (tmp_path / name for name in ("base", "adapters", "merged"))
    write_folder(base, CONFIG | {"architectures": ["Qwen3ForCausalLM"]})
    config = ModelConfig(path=str(base), lora_rank=4, lora_alpha=6.0, lora_targets=targets)
    model = build_model(config, 40)
    frozen = model.load(str(base))
    trained = jax.tree.map(
        lambda x: 0.3 * jax.random.normal(jax.random.key(x.size), x.shape),
        model.adapters(jax.random.key(0)),
    )
    save_adapters(trained, config, adapters)
    save_weights(merge(trained, frozen, config), base, merged)

    tokens = np.random.default_rng(0).integers(2, 40, (2, 1, 9)).astype(np.int32)
    prompt = tokens[:, 0, :4]
    logits = model.logits(join(trained, frozen), prompt, prompt > 0, tokens[:, :, 4:])
    ids = torch.tensor(tokens[:, 0], dtype=torch.long)
    started = transformers.AutoModelForCausalLM.from_pretrained(base)
    before = started(ids).logits.detach().numpy()[:, 3:-1]
    with_adapters = peft.PeftModel.from_pretrained(started, adapters).eval()
    apart = transformers.AutoModelForCausalLM.from_pretrained(merged).eval()
    for theirs in (with_adapters, apart):
        got = theirs(ids).logits.detach().numpy()[:, 3:-1]
        np.testing.assert_allclose(got, logits[:, 0], atol=1e-5 * float(jnp.abs(logits).max()))
        assert np.abs(got - before).max() > 0.1
