"""The embedded task: deterministic, split without overlap, solvable, and no secret by accident."""

import random
import re

import pytest

from rvpo_jax import rewards
from rvpo_jax.data.tokenizer import ByteTokenizer
from rvpo_jax.data.tool_task import PIECES, TOOLS, VALUES, ToolTask, demonstrate

EMBEDDED = [rewards.REWARDS[name] for name in rewards.EMBEDDED_REWARDS]


def test_the_same_index_is_the_same_prompt_and_another_seed_is_not():
    assert ToolTask("train", 50)[7] == ToolTask("train", 9)[7]
    assert ToolTask("train", 50)[7] != ToolTask("train", 50, seed=1)[7]


def test_the_splits_share_no_prompt():
    train = {row["prompt"] for row in map(ToolTask("train", 2000).__getitem__, range(2000))}
    held = {row["prompt"] for row in map(ToolTask("held_out", 1000).__getitem__, range(1000))}
    assert not train & held
    assert len(held) > 900


def test_every_reference_meets_all_channels():
    task = ToolTask("train", 500)
    examples = [task[index] for index in range(500)]
    out = rewards.score(EMBEDDED, [row["ground_truth"] for row in examples], examples)
    pass_at = [rewards.channel_of(fn).pass_at for fn in EMBEDDED]
    assert (out.rewards >= pass_at).all()


def test_a_thought_without_the_code_never_leaks_it_by_accident():
    task, rng = ToolTask("train", 1500), random.Random(0)
    examples = [task[index] for index in range(1500)]
    texts = [demonstrate(row, rng, leak=0.0) for row in examples]
    thoughts = [re.match(r"(.*?)</think>", text)[1] for text in texts]
    assert rewards.REWARDS["privacy"](thoughts, examples).all()


def test_answers_leak_as_often_as_asked():
    task, rng = ToolTask("train", 2000), random.Random(0)
    examples = [task[index] for index in range(2000)]
    thoughts = [demonstrate(row, rng, leak=0.4).split("</think>")[0] for row in examples]
    leaked = 1 - rewards.REWARDS["privacy"](thoughts, examples).mean()
    assert leaked == pytest.approx(0.4, abs=0.04)  # 3.6 standard errors


def test_values_and_tools_are_single_tokens_and_texts_come_back_whole():
    tokenizer = ByteTokenizer(PIECES)
    for word in {*TOOLS, *(value for values in VALUES.values() for value in values)}:
        assert len(tokenizer.encode(word)) == 1, word
    row = ToolTask("train", 1)[0]
    for text in (row["prompt"], row["ground_truth"]):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_is_refused(index):
    with pytest.raises(IndexError):
        ToolTask("train", 3)[index]
