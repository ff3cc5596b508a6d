"""Prices and limits of what annotators may spend."""

import math
import time
from dataclasses import dataclass

from sparring.annotators.answer_book import SqliteBook, lapsed
from sparring.core.answers import Expense
from sparring.core.errors import BudgetError, ConfigError
from sparring.core.processes import this_process

ROUNDING = 1e-9  # relative: ten times 0.1 is no more than 1


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a million tokens, in any one currency."""

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        for name in ("prompt", "completion"):
            price = getattr(self, name)
            if not (math.isfinite(price) and price >= 0):
                raise ConfigError(f"annotator.prices.{name} is {price}; give the price of a million tokens, 0 or more.")

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


class Budget:
    """A `Purse` of all of a run's annotators, processes and resumes together: what was spent is read from the book.

    A call is only made if it fits even at the highest cost it may have, beside all calls under way at theirs. So a
    limit is never exceeded, and a little may be left. What was found in the book costs nothing. Null is no limit.
    """

    def __init__(self, book: SqliteBook, max_cost: float | None = None, max_calls: int | None = None) -> None:
        for name, limit in (("max_cost", max_cost), ("max_calls", max_calls)):
            if limit is not None and not (math.isfinite(limit) and limit >= 0):
                raise ConfigError(f"budget.{name} is {limit}; give a number of 0 or more, or null for no limit.")
        self.book, self.max_cost, self.max_calls = book, max_cost, max_calls

    @property
    def limited(self) -> bool:
        return self.max_cost is not None or self.max_calls is not None

    def reserve(self, cost: float) -> None:
        if not self.limited:
            return
        payer = self.book.payer
        with self.book.transaction() as connection:
            held = connection.execute("SELECT number, owner, until, cost FROM reservations WHERE payer = ?", (payer,))
            living: list[float] = []
            for number, owner, until, amount in held.fetchall():
                if owner != this_process() and lapsed(owner, until):
                    connection.execute("DELETE FROM reservations WHERE number = ?", (number,))
                else:
                    living.append(amount)
            self._check(self.book.spent(payer), living, cost)
            connection.execute(
                "INSERT INTO reservations VALUES (NULL, ?, ?, ?, ?)",
                (payer, this_process(), cost, time.time() + self.book.lease_seconds),
            )

    def settle(self, reserved: float, paid: float) -> None:
        """The book has counted `paid` when it kept the answer; here the reservation ends."""
        if not self.limited:
            return
        with self.book.transaction() as connection:
            mine = "SELECT number FROM reservations WHERE payer = ? AND owner = ? AND cost = ? LIMIT 1"
            connection.execute(
                f"DELETE FROM reservations WHERE number IN ({mine})", (self.book.payer, this_process(), reserved)
            )

    def _check(self, spent: Expense, living: list[float], cost: float) -> None:
        under_way, then = len(living), "raise it, and the same command goes on"
        if self.max_calls is not None and spent.calls + under_way + 1 > self.max_calls:
            raise BudgetError(
                f"one more call would exceed budget.max_calls={self.max_calls}: {spent.calls} are paid for and "
                f"{under_way} under way; {then}."
            )
        total = spent.cost + sum(living) + cost
        if self.max_cost is not None and total > self.max_cost * (1 + ROUNDING):
            raise BudgetError(
                f"one more call may cost {cost:.6g}, which would exceed budget.max_cost={self.max_cost:g}: "
                f"{spent.cost:.6g} is paid and up to {sum(living):.6g} under way; {then}."
            )
