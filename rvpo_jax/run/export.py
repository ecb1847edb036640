"""A run's policy as the Hugging Face folder that it started from."""

from pathlib import Path

import jax

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.models import build_model
from rvpo_jax.models.hf import save_weights
from rvpo_jax.run.restore import newest_params
from rvpo_jax.run.stored import stored_config


def export(workdir: Path, out: Path) -> int:
    """Writes the parameters of the newest checkpoint, with the source's config and tokenizer.

    Args:
      workdir: folder of the run; nothing in it is changed.
      out: folder to write, new or empty; it appears when it is complete.

    Returns:
      The step of the checkpoint.

    Raises:
      ValueError: if the run did not start from a Hugging Face folder, or has no checkpoint yet.
    """
    config = stored_config(workdir)
    if config.model.path is None:
        raise Refusal(
            f"workdir {workdir} holds a run of model.preset {config.model.preset}, which has no "
            "Hugging Face folder.",
            "Runs with --model.path can be exported.",
        )
    model = build_model(config.model, vocab_size=1)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params, step = newest_params(shapes, config, workdir)
    save_weights(params, config.model.path, out)
    return step
