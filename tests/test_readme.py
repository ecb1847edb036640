"""What the README shows is what the code does."""

import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


def test_the_first_example_prints_what_the_readme_says(capsys):
    first, *_ = blocks("python")
    exec(compile(first, "README.md", "exec"), {})
    assert capsys.readouterr().out == blocks("text")[0]


def test_the_other_examples_run():
    judge, reward, rule, loss = blocks("python")[1:]
    names = {}
    exec(compile(judge, "README.md", "exec"), names)
    [asked] = names["get_config"]().data.rewards
    assert [channel.name for channel in asked.channels][:2] == ["rubric_1", "rubric_2"]
    exec(compile(reward, "README.md", "exec"), names)
    assert names["politeness"](["please go", "go"], [{}, {}]) == [True, False]
    exec(compile(rule, "README.md", "exec"), names)
    from rvpo_jax import compute_advantages

    rewards = np.random.default_rng(0).normal(size=(2, 4, 3))
    out = compute_advantages(rewards, config=names["config"])
    np.testing.assert_array_equal(out.aggregate, np.sort(out.scores, -1)[..., 1])
    exec(compile(loss, "README.md", "exec"), names)
    # One token, log ratio 0.5, advantage 2, weight 1: the loss is -1.
    value = names["loss"].objective(
        np.full((1, 1, 1), 0.5), np.full((1, 1), 2.0), np.ones((1, 1, 1))
    )
    assert float(value) == -1.0
