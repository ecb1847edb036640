"""A plan as people read it."""

from typing import Any

from rich.console import Console
from rich.table import Table

from rvpo_jax.plan.chips import GIB

LEVERS = (
    "What helps: a larger slice, more fsdp or tensor, a smaller loss.microbatch_size, model.remat, "
    "optim.moment_dtype bfloat16, model.lora_rank; for the sampler rollout.num_slots, "
    "rollout.num_parts."
)


def show(plan: dict[str, Any], console: Console) -> None:
    """Prints one plan.

    Args:
      plan: of ``planning.summary``.
      console: where to.
    """
    table = Table(title=f"{plan['topology']}, mesh {plan['mesh']}: GiB per chip")
    table.add_column("what")
    table.add_column("GiB", justify="right")
    for name, size in sizes(plan).items():
        table.add_row(name, f"{size / GIB:.2f}")
    console.print(table)
    for line in sentences(plan):
        console.print(line, markup=False, highlight=False)


def sizes(plan: dict[str, Any]) -> dict[str, float]:
    """Bytes of a chip by kind.

    Args:
      plan: of ``planning.summary``.

    Returns:
      By name. The temporaries of the step hold its gradients, those of the sampler its cache.
    """
    return {
        "parameters": plan["parameters"],
        "frozen parameters": plan["frozen"],
        "optimizer": plan["optimizer"],
        "step: temporaries": plan["step"]["temporaries"],
        "  of these, gradients": plan["gradients"],
        "sampler: copy of the parameters": plan["sampling_copy"],
        "sampler: temporaries": plan["sampler"]["temporaries"],
        "  of these, cache of completions": plan["cache"],
    }


def sentences(plan: dict[str, Any]) -> list[str]:
    """Whether it fits, and the bounds.

    Args:
      plan: of ``planning.summary``.

    Returns:
      Lines of text.
    """
    needed, memory = plan["needed"] / GIB, plan["memory"] / GIB
    if plan["fits"]:
        lines = [f"fits: {needed:.2f} GiB needed of {memory:.2f}, {memory - needed:.2f} to spare"]
    else:
        lines = [f"does not fit: {needed:.2f} GiB needed of {memory:.2f}"]
        lines += [line for name in ("step", "sampler") for line in _largest(plan, name)]
        lines.append(LEVERS)
    for name in ("step", "sampler"):
        moved = plan[name].get("collectives") or {}
        listed = ", ".join(f"{kind} {size / GIB:.2f} GiB" for kind, size in sorted(moved.items()))
        lines.append(f"collectives of the {name}, per chip: {listed or 'none'}")
    lines.append(
        f"at least {plan['step_s']:.1f} s a step: of the update the longest of products "
        f"{plan['products_s']:.1f} s ({plan['flops']:.3g} operations on all chips, recomputed ones "
        f"among them), memory {plan['memory_s']:.1f} s, links {plan['links_s']:.1f} s; "
        f"sampling full completions {plan['sampling_s']:.1f} s"
    )
    seconds = plan["step"]["seconds"] + plan["sampler"]["seconds"]
    lines.append(f"MFU at most {plan['mfu_bound']:.0%}; compiled in {seconds:.0f} s")
    return lines


def _largest(plan: dict[str, Any], name: str) -> list[str]:
    buffers = plan[name]["buffers"]
    if not buffers:
        return []
    listed = [f"  {row['bytes'] / GIB:.2f} GiB: {row['shapes']}" for row in buffers]
    return [f"the largest buffers of the {name}, each with the arrays that share it:", *listed]
