"""A run's policy as the Hugging Face folder that it started from, or its adapters as PEFT's."""

from pathlib import Path

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.models import build_model
from rvpo_jax.models.hf import save_weights
from rvpo_jax.models.lora import merge, save_adapters
from rvpo_jax.run.parallel import Replicated, local_devices
from rvpo_jax.run.restore import read_params
from rvpo_jax.run.stored import stored_config


def export(workdir: Path, out: Path, *, adapters: bool = False) -> int:
    """Writes the parameters of the newest checkpoint, with the source's config and tokenizer.

    Args:
      workdir: folder of the run; nothing in it is changed.
      out: folder to write, new or empty; it appears when it is complete.
      adapters: write those of a run with ``model.lora_rank`` by themselves, in PEFT's format; else
        they are merged into the parameters.

    Returns:
      The step of the checkpoint.

    Raises:
      ValueError: if the run did not start from a Hugging Face folder, has no checkpoint yet, or no
        adapters where these are asked for.
    """
    config = stored_config(workdir)
    if config.model.path is None:
        raise Refusal(
            f"workdir {workdir} holds a run of model.preset {config.model.preset}, which has no "
            "Hugging Face folder.",
            "Runs with --model.path can be exported.",
        )
    if adapters and not config.model.lora_rank:
        raise Refusal(
            f"--adapters needs a run with model.lora_rank, got {workdir}, which trained all "
            "parameters.",
            "Leave it out.",
        )
    model = build_model(config.model, vocab_size=1)
    (params, frozen), step = read_params(model, Replicated(local_devices(1)), config, workdir)
    if adapters:
        save_adapters(params, config.model, out)
    else:
        merged = merge(params, frozen, config.model) if config.model.lora_rank else params
        save_weights(merged, config.model.path, out)
    return step
