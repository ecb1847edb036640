"""Models by name, behind one seam: ``build_model`` gives a run its ``Model``."""

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import ModelConfig
from rvpo_jax.models.model import Model, Placement

__all__ = ["Model", "Placement", "build_model"]


def build_model(config: ModelConfig, vocab_size: int, placement: Placement | None = None) -> Model:
    """The model of a config.

    Args:
      config: ``config.preset`` is a name of ours, or a function ``vocab_size -> Model``.
      vocab_size: size of the tokenizer's vocabulary.
      placement: where its arrays lie on a mesh; None: on one device. A preset function of the
        user's has its own ways.

    Returns:
      The model.

    Raises:
      ValueError: on an unknown name, a vocabulary that does not fit, or adapters that cannot be.
    """
    if callable(config.preset):
        if config.lora_rank:
            raise Refusal(
                f"model.lora_rank {config.lora_rank} is for models of ours, got a preset function.",
                "Give its Model adapters of its own.",
            )
        return config.preset(vocab_size)
    from rvpo_jax.models.from_config import transformer_model

    return transformer_model(config, vocab_size, placement)
