"""The recipes of experiments/recipes: each is built, and run by its command with a tiny model."""

import json
import runpy

import pytest
from judge_server import judging
from test_architecture import ROOT

from rvpo_jax.cli import main
from rvpo_jax.config import AdvantageConfig
from rvpo_jax.lab.finished_runs import find_runs
from rvpo_jax.run.config_file import load_config
from rvpo_jax.run.json_lines import read_rows

FOLDER = ROOT / "experiments" / "recipes"
CALL = "<think> a </think>\n<tool_call>\n" + '{"name": "f", "parameters": {}}\n</tool_call>'
# The paper's figure that its runs fill.
FIGURES = {"tool_calling": "paper_tool_calling", "rubrics": "paper_rubrics"}
# Rows as the data sets have them, but short: what the tiny model reads, it reads byte by byte.
ROWS = {
    "tool_calling": {"prompt": "call f", "ground_truth": CALL},
    "ifeval": {
        "prompt": "no commas",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{}],
    },
    "rubrics": {"prompt": "say e", "rubric": [{"text": text} for text in "etaoin"]},
}
CHANNELS = {
    "tool_calling": ("toolrl_format", "toolrl_correctness"),
    "ifeval": ("instructions_share", "repetition"),
    "rubrics": ("rubric_1", "rubric_6"),
}
TINY = (
    "--model.path None --model.dtype float32 --model.no-remat --steps 1 --rollout.num-prompts 4 "
    "--rollout.group-size 2 --rollout.max-prompt-tokens 16 --rollout.max-completion-tokens 8 "
    "--rollout.num-slots None --eval.num-prompts 2 --parallel.num-devices 1 --log.no-audit"
).split()


def test_there_is_a_smoke_run_for_each_recipe():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(ROWS)


def test_the_numbers_of_the_papers_stand_in_the_recipes():
    tools, rubrics = (load_config(FOLDER / f"{name}.py") for name in ("tool_calling", "rubrics"))
    # GDPO, Table 6: 512 prompts in minibatches of 128, four rollouts each.
    assert tools.rollout.num_prompts // tools.loss.num_minibatches == 128
    assert (tools.rollout.group_size, tools.optim.learning_rate) == (4, 1e-6)
    assert tools.advantage.whiten == AdvantageConfig.preset("verl").whiten == "token"
    # RVPO: groups of 16, k from 0.5 to 2; RaR: 96 prompts' completions, 3,584 tokens.
    assert (rubrics.rollout.group_size, rubrics.risk.start, rubrics.risk.end) == (16, 0.5, 2.0)
    assert rubrics.rollout.max_prompt_tokens + rubrics.rollout.max_completion_tokens == 3584
    assert len(rubrics.data.rewards[0].channels) == 17


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_runs_by_its_command(tmp_path, monkeypatch, name):
    rows = tmp_path / "rows.jsonl"
    prompts = (f"{ROWS[name]['prompt']} {i}" for i in range(20))
    rows.write_text("".join(json.dumps(ROWS[name] | {"prompt": p}) + "\n" for p in prompts))
    workdir = tmp_path / "run"
    with judging() as server:
        monkeypatch.setenv("RVPO_JUDGE", server.endpoint)
        recipe = ["--config", str(FOLDER / f"{name}.py"), "--workdir", str(workdir)]
        assert main(["train", *recipe, "--data.source", str(rows), *TINY]) == 0
    [row] = read_rows(workdir / "metrics.jsonl")
    for channel in CHANNELS[name]:
        assert row[f"reward/{channel}/scored_frac"] == 1
    if name in FIGURES:
        build = runpy.run_path(str(FOLDER.parent / FIGURES[name] / "run.py"))["build"]
        runs, _ = find_runs([workdir])
        tables, panels = build(runs)
        assert [run.size for run in runs] == ["tiny"]
        assert all(table.rows[-1][:2] == ("tiny", runs[0].rule) for table in tables)
        if name == "tool_calling":
            ends = "{:.2f}, {:.2f}".format(*(row[f"reward/{c}/mean"] for c in CHANNELS[name][::-1]))
            assert tables[1].rows[-1][-1] == ends
            assert [len(panel.curves) for panel in panels] == [0, 0, 0, 0, 1, 1]
