"""A plan as people read it."""

from typing import Any

from rich.console import Console
from rich.table import Table

from rvpo_jax.plan.chips import GIB

LEVERS = (
    "What helps: a larger slice, more fsdp or tensor, a smaller loss.microbatch_size, model.remat, "
    "optim.moment_dtype bfloat16, rollout.num_slots, model.lora_rank."
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
        table.add_row(name, "does not fit" if size is None else f"{size / GIB:.2f}")
    console.print(table)
    for line in sentences(plan):
        console.print(line, markup=False, highlight=False)


def sizes(plan: dict[str, Any]) -> dict[str, float | None]:
    """Bytes of a chip by kind; None where the compiler gave up.

    Args:
      plan: of ``planning.summary``.

    Returns:
      By name. The temporaries of the step hold its gradients, those of the sampler its cache.
    """
    step, sampler = plan["step"], plan["sampler"]
    return {
        "parameters": plan["parameters"],
        "frozen parameters": plan["frozen"],
        "optimizer": plan["optimizer"],
        "step: temporaries": step.get("temporaries"),
        "  of these, gradients": plan["gradients"],
        "sampler: copy of the parameters": plan["sampling_copy"],
        "sampler: temporaries": sampler.get("temporaries"),
        "  of these, cache of completions": plan["cache"],
    }


def sentences(plan: dict[str, Any]) -> list[str]:
    """Whether it fits, and the bounds.

    Args:
      plan: of ``planning.summary``.

    Returns:
      Lines of text.
    """
    lines = []
    if plan["fits"]:
        spare = (plan["memory"] - plan["needed"]) / GIB
        lines.append(f"fits: {plan['needed'] / GIB:.2f} GiB needed, {spare:.2f} GiB to spare")
    else:
        for name in ("step", "sampler"):
            if "error" in plan[name]:
                lines.append(f"the {name} does not fit: {plan[name]['error']}")
        over = (plan["needed"] - plan["memory"]) / GIB
        lines.append(
            "does not fit" + ("" if over == float("inf") else f": {over:.2f} GiB too much")
        )
        lines.append(LEVERS)
    moved = plan["step"].get("collectives") or {}
    listed = ", ".join(f"{kind} {size / GIB:.2f} GiB" for kind, size in sorted(moved.items()))
    lines.append(f"collectives of a step, per chip: {listed or 'not known'}")
    lines.append(
        f"at least {plan['step_s']:.1f} s a step: products {plan['products_s']:.1f} s "
        f"({plan['flops']:.3g} operations on all chips) or links {plan['links_s']:.1f} s, "
        f"sampling {plan['sampling_s']:.1f} s; of the peak at most {plan['peak_share_bound']:.0%}, "
        "recomputed layers counted as work"
    )
    seconds = plan["step"]["seconds"] + plan["sampler"]["seconds"]
    lines.append(f"compiled in {seconds:.0f} s")
    return lines
