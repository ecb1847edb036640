"""What a run may spend on its judge: calls and money, over all its processes."""

from rvpo_jax.rewards.failures import RewardError
from rvpo_jax.rewards.judge.settings import Judge
from rvpo_jax.rewards.judge.store import Store


class BudgetSpent(RewardError):
    """The run may make no further call; what was answered is kept."""


class Budget:
    """What is left of a judge's budget.

    A call is paid before it is made, at the most that it can cost by estimate, and the rest is
    given back: of calls under way in many threads and processes none can pass the limit unseen. A
    process that is killed leaves its calls under way paid.

    Args:
      judge: limits and prices.
      store: the run's.
    """

    def __init__(self, judge: Judge, store: Store) -> None:
        self._judge, self._store = judge, store

    def pay(self, cost: float) -> None:
        """Takes one call out of the budget.

        Args:
          cost: at most, in the unit of the prices.

        Raises:
          BudgetSpent: when the budget does not hold it; nothing is taken then.
        """
        judge = self._judge
        with self._store.transaction() as rows:
            calls, spent = rows.execute("SELECT calls, cost FROM spent").fetchone()
            if judge.max_calls is not None and calls + 1 > judge.max_calls:
                raise _spent("max_calls", judge.max_calls, f"{calls} calls", spent)
            if judge.max_cost is not None and spent + cost > judge.max_cost:
                raise _spent("max_cost", judge.max_cost, f"{calls} calls", spent)
            rows.execute("UPDATE spent SET calls = calls + 1, cost = cost + ?", (cost,))

    def give_back(self, cost: float) -> None:
        """Corrects what a call was paid.

        Args:
          cost: paid too much; negative where it was too little.
        """
        if cost:
            with self._store.transaction() as rows:
                rows.execute("UPDATE spent SET cost = cost - ?", (cost,))

    def spent(self) -> tuple[int, float]:
        """Calls and cost of the run so far."""
        with self._store.transaction() as rows:
            return rows.execute("SELECT calls, cost FROM spent").fetchone()


def _spent(name: str, limit: float, calls: str, cost: float) -> BudgetSpent:
    return BudgetSpent(
        f"the judge's budget is spent: judge.{name} is {limit:g}, after {calls} that cost "
        f"{cost:.4g}.\n  Every verdict so far is kept: raise judge.{name} and start again, and "
        "they cost nothing."
    )
