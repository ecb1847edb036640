"""``rvpo plan``: what is read from programs and counted, what is refused, one real plan."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from rvpo_jax.cli import main
from rvpo_jax.config import Config, LossConfig, ModelConfig, RolloutConfig
from rvpo_jax.plan import planning
from rvpo_jax.plan.chips import CHIPS, GIB, SLICES, parse_topology
from rvpo_jax.plan.dumps import buffers_of_report
from rvpo_jax.plan.meshes import sensible_meshes, sizes_of
from rvpo_jax.plan.planning import smallest, summary
from rvpo_jax.plan.programs import Collective, bytes_by_kind, collectives
from rvpo_jax.plan.report import sentences
from rvpo_jax.plan.traffic import traffic
from rvpo_jax.plan.work import matmul_flops
from tests.test_pretrained import write_tokenizer

# A loop of three rounds inside one of five, and a collective outside of both.
PROGRAM = """HloModule jit_f

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%inner_body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %ar = f32[4]{0} all-reduce(%x), channel_id=1, to_apply=%add
}

%inner_cond (p: (s32[], f32[4])) -> pred[] {
  %three = s32[] constant(3)
  ROOT %lt = pred[] compare(%i, %three), direction=LT
}

%outer_body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %w = (s32[], f32[4]) while(%t), condition=%inner_cond, body=%inner_body
}

%outer_cond (p: (s32[], f32[4])) -> pred[] {
  ROOT %lt = pred[] compare(%i, %j), direction=LT
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %g = (bf16[2]{0}, bf16[8,2]{1,0}) all-gather-start(%a), channel_id=2
  %w = (s32[], f32[4]) while(%t), condition=%outer_cond, body=%outer_body
}
"""


def test_an_open_loop_in_an_open_loop_counts_once_a_round():
    program = PROGRAM.replace("direction=LT", "direction=EQ")
    assert bytes_by_kind(collectives(program, open_ended=5))["all-reduce"] == 5 * 4 * 4


def test_collectives_count_as_often_as_their_loops_run():
    # The outer loop's end is not a number in the program: it is told to run five times.
    found = collectives(PROGRAM, open_ended=5)
    assert sorted(found, key=lambda one: one.kind) == [
        Collective("all-gather", "bf16", (8, 2), 1),
        Collective("all-reduce", "f32", (4,), 15),
    ]
    assert bytes_by_kind(found) == {"all-gather": 8 * 2 * 2, "all-reduce": 15 * 4 * 4}


# How the TPU's compiler writes a gather that goes round a ring while it is multiplied.
RING = """
%body (p: (bf16[6,8], u32[])) -> (bf16[6,8], u32[]) {
  %two = u32[]{:T(128)} constant(2)
  %p = (bf16[6,8], u32[]{:T(128)}) parameter(0)
  %i = u32[]{:T(128)} get-tuple-element(%p), index=1
  %on = (bf16[6,8]{1,0}, bf16[6,8]{1,0}, u32[], u32[]) collective-permute-start(%x), channel_id=3
  %done = bf16[6,8]{1,0} collective-permute-done(%on)
  %next = u32[]{:T(128)} add(%i, %two)
  ROOT %t = (bf16[6,8]{1,0}, u32[]{:T(128)}) tuple(%done, /*index=1*/%next)
}

%cond (p: (bf16[6,8], u32[])) -> pred[] {
  %eight = u32[]{:T(128)} constant(8)
  %i = u32[]{:T(128)} get-tuple-element(%p), index=1
  ROOT %lt = pred[] compare(%i, %eight), direction=LT
}

ENTRY %main (a: bf16[6,8]) -> bf16[6,8] {
  %w = (bf16[6,8], u32[]) while(%t), condition=%cond, body=%body
}
"""


def test_a_ring_of_permutes_counts_its_array_and_its_unrolled_rounds():
    # The counter goes 0, 2, 4, 6: four rounds.
    found = collectives(RING, open_ended=100)
    assert found == [Collective("collective-permute", "bf16", (6, 8), 4)]


def test_products_count_as_often_as_they_run():
    def loss(w, x):
        def layer(carry, one):
            return jnp.tanh(carry @ one), None

        return jnp.sum(jax.lax.scan(jax.checkpoint(layer), x, w)[0])

    w, x = jnp.ones((5, 4, 4)), jnp.ones((3, 4))
    one = 2 * 3 * 4 * 4  # one layer forward
    assert matmul_flops(jax.make_jaxpr(loss)(w, x)) == 5 * one
    # Forward, forward again, and for each layer two products backward.
    assert matmul_flops(jax.make_jaxpr(jax.grad(loss, (0, 1)))(w, x)) == 5 * 4 * one


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("v9:2x2", "must begin with one of v5e, v5p, v6e"),
        ("v5e:3x3", "is no slice of v5e"),
        ("v5p:4x4", "lie in 3 dimensions"),
        ("v5e:", "is no slice"),
    ],
)
def test_a_topology_that_is_none_is_refused(text, problem, capsys):
    assert main(["plan", "--topology", text]) == 2
    assert problem in capsys.readouterr().err


def test_a_mesh_without_a_slice_is_refused(capsys):
    assert main(["plan", "--mesh", "fsdp=4"]) == 2
    assert "--mesh is of one slice, got 'fsdp=4' without one.\n  Give --topology" in (
        capsys.readouterr().err
    )


@pytest.mark.plan
def test_functions_do_not_reach_the_compiler_and_that_is_said(tmp_path):
    pytest.importorskip("libtpu", reason="the TPU compiler: make plan")
    config = Config(loss=LossConfig(objective=lambda **sums: 0.0))
    with pytest.raises(ValueError, match=r"functions cannot go to, got one for loss.objective\."):
        planning.plan(config, parse_topology("v5e:2x2"), None, print, tmp_path)
    with pytest.raises(ValueError, match="functions cannot go to"):  # not "nothing is large enough"
        smallest(config, "v5e", print, tmp_path)


def test_every_slice_is_one():
    for kind, sizes in SLICES.items():
        for size in sizes:
            assert len(parse_topology(f"{kind}:{size}").dims) == CHIPS[kind].num_dims


def paper(**loss):
    return Config(
        model=ModelConfig(preset="qwen2.5-1.5b"),
        rollout=RolloutConfig(num_prompts=512, group_size=4),
        loss=LossConfig(**loss),
    )


def test_meshes_divide_the_minibatch_and_the_heads():
    # 128 prompts in a minibatch; 2 key/value heads, so that four tensor shards are none.
    config = paper(num_minibatches=4)
    assert list(sensible_meshes(config, parse_topology("v5e:4x4"), 2)) == [
        (16, 1, 1),
        (1, 16, 1),
        (8, 1, 2),
        (1, 8, 2),
    ]
    slices = [parse_topology("v5e:16x16"), parse_topology("v5e:1x1")]
    assert list(sensible_meshes(config, slices[0], 2)) == [(128, 1, 2), (1, 128, 2)]
    assert list(sensible_meshes(config, slices[1], 2)) == [(1, 1, 1)]


def test_sizes_by_hand():
    rollout = RolloutConfig(num_prompts=8, group_size=2, max_completion_tokens=32, num_slots=3)
    config = Config(model=ModelConfig(preset="tiny", dtype="bfloat16"), rollout=rollout)
    sizes = sizes_of(config)
    layers = 3 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 192 + 64 + 2 * 32 + 2 * 64)
    num = layers + 64 + 64 * 417  # the last norm, the embedding of the toy's tokenizer
    assert sizes.gradients == 4 * num
    assert sizes.state == pytest.approx(3 * 4 * num, abs=100)  # AdamW's count beside the moments
    narrow = 3 * (2 * 64 + 64 + 2 * 32) + 64  # norms and biases stay float32
    assert sizes.copy == 2 * num + 2 * narrow
    assert sizes.completion == 2 * 3 * 2 * 16 * 32 * 2  # keys, values; layers, heads, size, tokens
    # Two shards of prompts have eight completions each, of which three are written at once.
    assert sizes.num_sampled(2) == 3
    state = sizes.state / 2
    assert sizes.least((1, 2, 1)) == max(
        state + sizes.gradients / 2, state + sizes.copy + 3 * sizes.completion
    )


def planned(**changes):
    return {
        "parameters": 1 * GIB, "frozen": 0, "optimizer": 2 * GIB, "gradients": 1 * GIB,
        "flops": 4 * 197e12 * 10,  # ten seconds of four chips
        "model_flops": 4 * 197e12 * 6,
        "sampling_copy": 519e6, "cache": 400e6, "rounds": 1000, "prompt_tokens": 96,
        "step": {
            "total": 9 * GIB, "temporaries": 6 * GIB, "seconds": 1, "traffic": 2 * 819e9,
            "collectives": {"all-reduce": 100e9},
            "buffers": [{"bytes": 2 * GIB, "shapes": "f32[8]"}],
        },
        "sampler": {"total": 11 * GIB, "temporaries": 10 * GIB, "seconds": 1, "buffers": []},
    } | changes  # fmt: skip


def test_bounds_by_hand():
    rollout = RolloutConfig(num_prompts=8, group_size=8, max_completion_tokens=48)
    config, slice_ = Config(rollout=rollout), parse_topology("v5e:2x2")
    plan = summary(planned(), config, slice_, "fsdp=4")
    assert plan["needed"] == 14 * GIB  # while sampling, beside the state of 3 GiB
    assert plan["fits"]
    assert plan["links_s"] == pytest.approx(1.0)  # twice 100 GB at 200 GB/s
    assert plan["memory_s"] == pytest.approx(2.0)
    # 1000 times 519 MB; of 400 MB a half, and a quarter for prompts, twice as long, shared by 8.
    assert plan["sampling_s"] == pytest.approx(1.0)
    assert plan["step_s"] == pytest.approx(11.0)  # ten of products, and sampling
    assert plan["mfu_bound"] == pytest.approx(6 / 11)


def test_what_does_not_fit_names_its_buffers_and_what_helps():
    config, slice_ = Config(), parse_topology("v5e:2x2")
    sampler = planned()["sampler"] | {"total": 13 * GIB}
    plan = summary(planned(sampler=sampler), config, slice_, "fsdp=4")
    assert not plan["fits"]  # 3 + 13 of 15.75
    said = "\n".join(sentences(plan))
    assert "does not fit: 16.00 GiB needed of 15.75" in said
    assert "2.00 GiB: f32[8]" in said and "loss.microbatch_size" in said


def test_the_largest_buffers_are_those_of_the_main_memory():
    report = """Memory Space: default (color=0)
Total bytes: 38471723008 (35.83GiB)
  cumulative_size;       size;       offset; used_by_n_values; shapes_list
  ------------------------------------------------------------
    1.50MiB(  9%);    1.50MiB;   7864320000;                1; bf16[2,8]
   21.97GiB( 42%);    7.50GiB;            0;                5; 2xf32[4,4], 3xf32[4,3,1]
Memory Space: vmem (color=1)
   99.00GiB( 42%);   99.00GiB;            0;                5; f32[4]
"""
    assert buffers_of_report(report) == [
        {"bytes": 7.5 * GIB, "shapes": "2xf32[4,4], 3xf32[4,3,1]"},
        {"bytes": 1.5 * 2**20, "shapes": "bf16[2,8]"},
    ]


# What is written: in the loop a copy (16 bytes) and one of five rows of an update in place (8),
# both three times; outside a fusion of 32 bytes and an array in the core's own memory, free.
TRAFFIC = """
%update (p.0: f32[5,2], p.1: f32[1,2]) -> f32[5,2] {
  %p.0 = f32[5,2]{1,0} parameter(0)
  %p.1 = f32[1,2]{1,0} parameter(1)
  ROOT %dus = f32[5,2]{1,0} dynamic-update-slice(%p.0, %p.1, %c, %c)
}

%fused (p.2: f32[4]) -> bf16[16] {
  %inside = f32[1000]{0} broadcast(%p.2)
  ROOT %r = bf16[16]{0} convert(%inside)
}

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %copied = f32[4]{0:T(128)} copy(%x)
  %placed = f32[5,2]{1,0} fusion(%y, %z), kind=kLoop, calls=%update
  ROOT %t = (s32[], f32[4]) tuple(%i, %copied)
}

%cond (p: (s32[], f32[4])) -> pred[] {
  %three = s32[] constant(3)
  ROOT %lt = pred[]{:S(2)} compare(%i, %three), direction=LT
}

ENTRY %main (a: f32[8]) -> f32[4] {
  %a = f32[8]{0} parameter(0)
  %f = bf16[16]{0} fusion(%a), kind=kLoop, calls=%fused
  %near = f32[64]{0:T(128)S(1)} copy(%a)
  %started = (f32[64]{0}, f32[64]{0:S(1)}, u32[]) copy-start(%near)
  %w = (s32[], f32[4]) while(%t), condition=%cond, body=%body
}
"""


def test_traffic_by_hand():
    arguments = 8 * 4
    assert traffic(TRAFFIC) == arguments + 2 * (32 + 3 * (16 + 8))


def test_the_smallest_slice_is_the_first_that_fits(tmp_path, monkeypatch):
    # 1.5 billion parameters of 16 bytes are too many for one chip; more chips are too few until 16.
    tried, said = [], []

    def compiled(config, topology, mesh, cache):
        tried.append((str(topology), mesh))
        step = planned()["step"] | {"total": (30 if topology.num_chips < 16 else 9) * GIB}
        return planned(step=step)

    monkeypatch.setattr(planning, "compiled", compiled)
    monkeypatch.setattr(planning, "check", lambda config: None)
    config = paper(num_minibatches=4)
    found = smallest(config, "v5e", said.append, tmp_path)
    assert [one["topology"] for one in found] == ["v5e:4x4"] and found[0]["fits"]
    assert list(dict.fromkeys(slice_ for slice_, _ in tried)) == ["v5e:2x2", "v5e:2x4", "v5e:4x4"]
    assert any(line.startswith("v5e:1x1: too small by shape") for line in said)


def test_the_readme_has_the_tables_of_the_kept_rows(monkeypatch):
    launch = Path(__file__).parents[1] / "experiments" / "launch"
    monkeypatch.syspath_prepend(str(launch))
    import plan_table

    text = (launch / "README.md").read_text()
    assert plan_table.with_tables(text) == text
    for shape, model, _ in plan_table.rows():
        plan_table.config_of(shape, model)


@pytest.mark.plan
def test_a_real_plan_is_kept_and_what_cannot_be_is_refused(tmp_path, capsys):
    pytest.importorskip("libtpu", reason="the TPU compiler: make plan")
    command = (
        "plan --topology v5e:2x2 --json --model.preset tiny --rollout.num-prompts 8 "
        "--rollout.group-size 2 --rollout.max-prompt-tokens 64 --rollout.max-completion-tokens 32 "
        f"--cache {tmp_path}"
    ).split()
    assert main([*command, "--mesh", "fsdp=4"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)
    assert plan["fits"] and plan["step"]["total"] >= plan["parameters"] + plan["optimizer"]
    assert plan["step"]["buffers"][0]["bytes"] > 0 and plan["step"]["traffic"] > 0
    assert {"all-gather", "all-reduce"} <= set(plan["step"]["collectives"])  # weights, gradients
    # The second time nothing is compiled, so that the same seconds come back.
    assert main([*command, "--mesh", "fsdp=4"]) == 0
    assert json.loads(capsys.readouterr().out) == [plan]
    assert main([*command, "--mesh", "tensor=4"]) == 2
    assert "2 key/value heads of tiny" in capsys.readouterr().err


@pytest.mark.plan
def test_an_output_head_of_its_own_is_gathered_once_and_not_for_each_chunk(tmp_path, capsys):
    # Found by a plan of 7B: the table was gathered, and its gradient summed, for each of 38 chunks.
    pytest.importorskip("libtpu", reason="the TPU compiler: make plan")
    vocabulary, width = 152_064, 256
    described = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
        "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": 512,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": False,
        "use_sliding_window": False, "max_position_embeddings": 4096,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(described))
    write_tokenizer(tmp_path)
    command = (
        f"plan --topology v5e:2x2 --mesh fsdp=4 --json --model.path {tmp_path} "
        "--model.dtype bfloat16 --model.remat --rollout.num-prompts 16 "
        "--rollout.group-size 4 --rollout.max-prompt-tokens 128 --loss.microbatch-size 4 "
        f"--rollout.max-completion-tokens 512 --cache {tmp_path / 'plans'}"
    ).split()
    assert main(command) == 0
    (plan,) = json.loads(capsys.readouterr().out)
    moved = plan["step"]["collectives"]
    # Embedding and head, once each in the type of the products; sums in float32, once each.
    assert moved["all-gather"] < 2.5 * 2 * vocabulary * width
    assert moved["all-reduce"] < 2.5 * 4 * vocabulary * width
