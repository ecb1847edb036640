"""All named rules: the aggregators of this package, and what others published."""

from rvpo_jax.method import aggregators, levels
from rvpo_jax.method.published import (
    filters,
    gates,
    multipliers,
    running,
    scalar,
    tail,
    weighted,
)
from rvpo_jax.method.rules import Method

METHODS: dict[str, Method] = {
    **aggregators.METHODS,
    **levels.METHODS,
    **weighted.METHODS,
    **tail.METHODS,
    **scalar.METHODS,
    **gates.METHODS,
    **filters.METHODS,
    **multipliers.METHODS,
    **running.METHODS,
}
"""The named rules: function, label, color, what each reads and needs. The default comes first."""
