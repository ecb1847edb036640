"""What is known of each trainer's logs: one entry for each.

==========  ==========================================  ===================================
Format      Files                                       Group
==========  ==========================================  ===================================
rvpo        rollouts/*.parquet of a run of ours         group at a step
trl         completions/completions_00001.parquet ...   prompt at a step
verl        rollout_data_dir: 1.jsonl, 2.jsonl, ...     uid, else input at a step
tunix       trajectory_log*.csv                         prompt_id, else prompt at a step
nemo        train_data_step1.jsonl ...                  group size, else prompt at a step
verifiers   results.jsonl, traces.jsonl, and            group, else prompt at a step
            rollouts/step_1/ ... or traces/stream/
            of prime-rl
skyrl       dumped_evals/global_step_1_evals/ ...       prompt at a step
lm_eval     samples_*.jsonl of several models           document
columns     any other table, such as those of           named, else prompt at a step
            OpenRLHF, EasyDeL and W&B
==========  ==========================================  ===================================
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Literal

from .rows_of_trainers import (
    Expand,
    expand_lm_eval,
    expand_nemo,
    expand_skyrl,
    expand_trained,
    expand_verifiers,
)

# Role -> names of its column, the preferred one first.
PROMPTS = (
    *("prompt", "prompts", "question", "input", "query", "instruction", "input_prompt"),
    "problem",
)
COMPLETIONS = (
    *("completion", "completions", "response", "responses", "output", "outputs", "generation"),
    *("generations", "output_response", "generated_text", "conversation", "text"),
)
ADVANTAGES = ("advantage", "advantages")
STEPS = ("step", "global_step", "training_step", "train_step", "iteration", "gen_step", "_step")
TEXTS = {"prompt": ("prompt",), "completion": ("completion",), "advantage": ADVANTAGES}
# Columns that sum up others: such a total is a channel only where there is no other.
TOTALS = ("reward", "rewards", "score", "total", "total_reward", "reward_total", "total_score")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trainer:
    """How a trainer writes its logs."""

    roles: Mapping[str, tuple[str, ...]]
    """Role to names of its column, the preferred one first."""
    path: re.Pattern[str] | None = None
    """Path of its files in a folder; ``run`` is what comes before it, ``step`` the step."""
    search: Literal["first", "last", "named"] = "first"
    """Whether its paths come before the files of the folder itself, or after them, or are looked
    for only where the user names the trainer."""
    several_runs: bool = False
    """Whether the files of several runs make up one log."""
    columns: tuple[frozenset[str], ...] = ()
    """Sets of columns, each of which tells the trainer."""
    mark: re.Pattern[str] | None = None
    """A column that tells the trainer."""
    expand: Expand | None = None
    """From a row of the file to rows of completions; None: they are."""
    expand_trained: Expand | None = None
    """The same for files that lie where the trainer puts them; None: no other."""
    components: re.Pattern[str] | None = None
    """Columns of the channels; None: any column of numbers."""
    prefixes: tuple[str, ...] = ()
    """What comes before the name of a channel in that of its column."""
    totals: tuple[str, ...] = TOTALS
    """Columns that sum up others, the preferred one first."""
    own: re.Pattern[str] | None = None
    """Columns that are no channel unless the user says so."""
    alone: str = (
        "Name another column with --group, or give --group-size if the completions of a prompt "
        "follow each other."
    )
    """What to do where every prompt has one completion."""
    named_by_users: bool = False
    """Whether users name the channels, so that a name such as brevity_length may be one."""


def _path(tail: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<run>(?:.*/)?){tail}", re.DOTALL)


TRAINERS: dict[str, Trainer] = {
    "rvpo": Trainer(roles={"step": ("step",), "group": ("group",), **TEXTS}
                    | {"prompt_key": ("prompt_id",)}),  # fmt: skip
    "trl": Trainer(
        path=_path(r"completions_(?P<step>\d+)\.parquet"),
        roles={"step": ("step",), **TEXTS},
        named_by_users=True,
    ),
    "verl": Trainer(
        path=_path(r"(?P<step>\d+)\.jsonl(?:\.gz)?"),
        search="named",  # mere numbers
        columns=(frozenset({"input", "output", "score", "step"}),),
        roles={
            "step": ("step",),
            "group": ("uid",),
            "prompt": ("input",),
            "completion": ("output",),
            "advantage": ADVANTAGES,
        },
        totals=("score",),
        own=re.compile("input|output|gts|step|request_id|uid"),
    ),
    "tunix": Trainer(
        path=_path(r"trajectory_log[^/]*\.csv(?:\.gz)?"),
        mark=re.compile(r"rewards/.*", re.DOTALL),
        roles={
            "step": ("global_step",),
            "group": ("prompt_id",),
            "prompt": ("prompt", "prompts", "question"),
            "completion": ("completion", "completions"),
            "advantage": ADVANTAGES,
        },
        components=re.compile(r"rewards/(?!(?:sum|mean|min|max)\Z).*", re.DOTALL),
        prefixes=("rewards/", "reward/"),
        totals=("reward", "rewards/sum", "rewards/mean"),
    ),
    "nemo": Trainer(
        path=_path(r"train_data_step(?P<step>\d+)\.jsonl(?:\.gz)?"),
        columns=(frozenset({"content", "rewards"}),),
        expand=expand_nemo,
        roles={"step": ("step",), **TEXTS},
        components=re.compile(r"reward/.+|reward\d+", re.DOTALL),
        prefixes=("rewards/", "reward/"),
        totals=("rewards", "reward"),
    ),
    "verifiers": Trainer(
        # prime-rl; of both, folders.py takes the batch that was trained on.
        path=_path(
            r"(?:step_(?P<step>\d+)/(?:train/(?:effective|all)/traces|train_rollouts)|"
            r"traces/stream/\d+)\.jsonl(?:\.gz)?"
        ),
        columns=(
            frozenset({"example_id", "reward", "completion"}),
            frozenset({"task", "traces"}),
            frozenset({"task", "nodes"}),
        ),
        expand=expand_verifiers,
        expand_trained=expand_trained,
        roles={"step": ("step",), "group": ("group",), **TEXTS},
        own=re.compile(
            "metric/.*|weight/.*|is_completed|is_truncated|is_filtered|is_timeout|ok|has_error|error|answer|"
            "task|info|example_id|stop_condition",
            re.DOTALL,
        ),
    ),
    "skyrl": Trainer(
        path=_path(r"global_step_(?P<step>\d+)_evals/(?!aggregated_results)[^/]+\.jsonl"),
        columns=(frozenset({"input_prompt", "output_response", "score"}),),
        expand=expand_skyrl,
        roles={
            "step": ("step",),
            "prompt": ("input_prompt",),
            "completion": ("output_response",),
            "advantage": ADVANTAGES,
        },
        own=re.compile("stop_reason|env_class|env_extras|data_source"),
    ),
    "lm_eval": Trainer(
        path=_path(r"samples_[^/]+\.jsonl"),
        search="last",
        several_runs=True,  # one completion of each document per model
        columns=(frozenset({"doc_id", "doc", "filtered_resps"}),),
        expand=expand_lm_eval,
        roles={"group": ("doc_hash",), **TEXTS},
        components=re.compile(r"metrics\..+", re.DOTALL),
        totals=(),
        alone="The harness writes one completion of a document: name a folder that holds the "
        "samples of several models or checkpoints.",
    ),
    "columns": Trainer(
        path=re.compile(r"(?P<run>.*?)(?:_(?P<step>\d+)_[0-9a-f]{8,})?\.table\.json", re.DOTALL),
        search="last",
        roles={
            "step": STEPS,
            "prompt": PROMPTS,
            "completion": COMPLETIONS,
            "advantage": ADVANTAGES,
        },
    ),
}  # fmt: skip


def detect(columns: Collection[str]) -> str:
    """The format of a log whose file names give nothing away.

    Args:
      columns: Of its first rows.

    Returns:
      A format; columns where no trainer fits.

    >>> detect(["input", "output", "score", "step", "acc"])
    'verl'
    """
    names = set(columns)
    for format, trainer in TRAINERS.items():
        if any(marks <= names for marks in trainer.columns):
            return format
        if trainer.mark and any(map(trainer.mark.fullmatch, names)):
            return format
    return "columns"
