"""The recipe ifeval.py under three rules: SmolLM2-135M-Instruct on IFEval's prompts."""

import dataclasses
import json
from pathlib import Path

from rvpo_jax import Config
from rvpo_jax.basics.files import write_text
from rvpo_jax.config import CheckpointConfig, EvalConfig, LossConfig, ModelConfig, RolloutConfig
from rvpo_jax.run.config_file import load_config

SEEDS = (0,)
SMOKE_SEEDS = (0,)
RECIPE = Path(__file__).parents[1] / "recipes" / "ifeval.py"
LOCAL = Path(".cache/ifeval/input_data.jsonl")  # the original file; else it is downloaded


def get_config() -> Config:
    """The recipe; a run that is stopped loses at most ten steps."""
    config = load_config(RECIPE)
    source = f"ifeval:{LOCAL}" if LOCAL.is_file() else "ifeval"
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, source=source),
        checkpoint=CheckpointConfig(every=10, keep=1),
    )


def smoke_config(folder: Path) -> Config:
    """Seconds, with a tiny random model and prompts of one kind; the numbers mean nothing."""
    config = get_config()
    row = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    rows = [json.dumps({"prompt": f"no commas {number}"} | row) for number in range(20)]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "prompts.jsonl", "\n".join(rows) + "\n")
    return dataclasses.replace(
        config,
        steps=1,
        model=ModelConfig(),
        data=dataclasses.replace(config.data, source=str(folder / "prompts.jsonl")),
        rollout=RolloutConfig(num_prompts=1, group_size=2, max_completion_tokens=8),
        loss=LossConfig(),
        eval=EvalConfig(num_prompts=2),
    )
