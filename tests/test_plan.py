"""``rvpo plan``: what is read from programs and counted, what is refused, one real plan."""

import json

import jax
import jax.numpy as jnp
import pytest

from rvpo_jax.cli import main
from rvpo_jax.config import Config, LossConfig, ModelConfig, RolloutConfig
from rvpo_jax.plan.chips import CHIPS, GIB, SLICES, parse_topology
from rvpo_jax.plan.planning import sensible_meshes, summary
from rvpo_jax.plan.programs import Collective, bytes_by_kind, collectives
from rvpo_jax.plan.work import matmul_flops

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
        ("v5e", "is no slice"),
    ],
)
def test_a_topology_that_is_none_is_refused(text, problem, capsys):
    assert main(["plan", "--topology", text]) == 2
    assert problem in capsys.readouterr().err


def test_a_plan_without_a_topology_says_what_one_looks_like(capsys):
    assert main(["plan"]) == 2
    assert "--topology must name a TPU slice, got none.\n  For example v5e:4x4." in (
        capsys.readouterr().err
    )


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
    assert list(sensible_meshes(config, parse_topology("v5e:4x4"))) == [
        "data=1,fsdp=16,tensor=1",
        "data=1,fsdp=8,tensor=2",
    ]
    assert list(sensible_meshes(config, parse_topology("v5e:16x16"))) == [
        "data=1,fsdp=128,tensor=2"
    ]


def test_bounds_by_hand():
    found = {
        "parameters": 1 * GIB, "frozen": 0, "optimizer": 2 * GIB, "gradients": 1 * GIB,
        "flops": 4 * 197e12 * 10,  # ten seconds of four chips
        "sampling_copy": 819e6, "cache": 0,
        "step": {"total": 9 * GIB, "seconds": 1, "collectives": {"all-reduce": 100e9}},
        "sampler": {"total": 13 * GIB, "seconds": 1},
    }  # fmt: skip
    config = Config(rollout=RolloutConfig(max_completion_tokens=1000))
    plan = summary(found, config, parse_topology("v5e:2x2"), "fsdp=4")
    assert plan["needed"] == 16 * GIB  # while sampling, beside the state of 3 GiB
    assert not plan["fits"]  # a chip has 15.75
    assert plan["links_s"] == pytest.approx(1.0)  # twice 100 GB at 200 GB/s
    assert plan["sampling_s"] == pytest.approx(1.0)  # 1000 times 819 MB at 819 GB/s
    assert plan["step_s"] == pytest.approx(11.0)
    assert plan["peak_share_bound"] == pytest.approx(10 / 11)


def test_a_real_plan_is_kept_and_what_cannot_be_is_refused(tmp_path, capsys):
    pytest.importorskip("libtpu", reason="the TPU compiler: make plan")
    command = (
        "plan --topology v5e:2x2 --json --model.preset tiny --rollout.num-prompts 8 "
        "--rollout.group-size 2 --rollout.max-prompt-tokens 64 --rollout.max-completion-tokens 32 "
        f"--cache {tmp_path}"
    ).split()
    assert main([*command, "--mesh", "fsdp=4"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)
    assert plan["fits"] and plan["step"]["arguments"] >= plan["parameters"] + plan["optimizer"]
    assert {"all-gather", "all-reduce"} <= set(plan["step"]["collectives"])  # weights, gradients
    # The second time nothing is compiled, so that the same seconds come back.
    assert main([*command, "--mesh", "fsdp=4"]) == 0
    assert json.loads(capsys.readouterr().out) == [plan]
    assert main([*command, "--mesh", "tensor=4"]) == 2
    assert "2 key/value heads of tiny" in capsys.readouterr().err
