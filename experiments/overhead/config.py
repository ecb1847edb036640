"""Shapes of two published set-ups, and how often the tiny step is timed."""

import dataclasses

from rvpo_jax import Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """A step's batch; tokens are the limits, as if every completion were that long."""

    num_prompts: int  # B
    group_size: int  # G
    num_channels: int  # M
    prompt_tokens: int  # P
    completion_tokens: int  # C


SHAPES = {
    # RaR: 96 prompts (our reading of "effective batch 96"), groups of 16, up to 17 items; prompt
    # and completion share 3584 tokens there, here 512 and 1024.
    "rubrics": Shape(
        num_prompts=96, group_size=16, num_channels=17, prompt_tokens=512, completion_tokens=1024
    ),
    # GDPO's tool calling.
    "tool calling": Shape(
        num_prompts=512, group_size=4, num_channels=2, prompt_tokens=2048, completion_tokens=1024
    ),
}
SMOKE_SHAPES = ("rubrics",)
SIZES = ("qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b", "qwen2.5-14b")
SMOKE_SIZES = SIZES[:1]
# Dense bfloat16 FLOPs per second of one H100 SXM, by its data sheet.
PEAK = 989e12
PAPER_SHARE = 0.01  # "below 1 %"
# The default run, and a step of it small enough to compile in seconds.
TINY = Config()
SMOKE_TINY = dataclasses.replace(
    TINY,
    rollout=dataclasses.replace(TINY.rollout, num_prompts=4, group_size=2, max_completion_tokens=8),
)
# Each update takes ten seconds or more to compile: a smoke run times the step without one.
METHODS = ("rvpo", "gdpo")
SMOKE_METHODS = ()
REPEATS = 40
SMOKE_REPEATS = 2
