"""Prices and limits of what annotators may spend."""

import math
import sqlite3
import time
from collections.abc import Sequence
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
                raise ConfigError(f"prices.{name} is {price}; give the price of a million tokens, 0 or more.")

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


class Budget:
    """A `Purse` of all of a run's annotators, processes and resumes together: what was spent is read from the book.

    A call is only made if it fits even at the highest cost it may have, beside all calls under way at theirs. So a
    limit is never exceeded, and less than the highest cost of one call is left. What was found in the book costs
    nothing; what a service charges for a call that brought no answer is not known here. Null is no limit.
    """

    def __init__(self, book: SqliteBook, max_cost: float | None = None, max_calls: int | None = None) -> None:
        for name, limit in (("max_cost", max_cost), ("max_calls", max_calls)):
            if limit is not None and not (math.isfinite(limit) and limit >= 0):
                raise ConfigError(f"budget.{name} is {limit}; give a number of 0 or more, or null for no limit.")
        self.book, self.max_cost, self.max_calls = book, max_cost, max_calls

    @property
    def limited(self) -> bool:
        return self.max_cost is not None or self.max_calls is not None

    def counted_in(self, book: SqliteBook) -> "Budget":
        """The same limits on what stands in `book`."""
        return Budget(book, self.max_cost, self.max_calls)

    def reserve(self, cost: float) -> bool:
        if not self.limited:
            return True
        payer = self.book.payer

        def work(connection: sqlite3.Connection) -> bool | BudgetError:
            living = _living(connection, payer)
            spent = self.book.spent(payer)
            if not self._fits(spent, cost, []):
                return self._exceeded(spent, cost)
            if not self._fits(spent, cost, living):
                return False
            row = (payer, this_process(), cost, time.time() + self.book.lease_seconds)
            connection.execute("INSERT INTO reservations VALUES (NULL, ?, ?, ?, ?)", row)
            return True

        reserved = self.book.write(work)
        if isinstance(reserved, BudgetError):
            raise reserved
        return reserved

    def settle(self, reserved: float) -> None:
        """Without what was paid: the book has counted it when it kept the answer."""
        if not self.limited:
            return
        mine = "SELECT number FROM reservations WHERE payer = ? AND owner = ? AND cost = ? LIMIT 1"
        row = (self.book.payer, this_process(), reserved)
        self.book.write(
            lambda connection: connection.execute(f"DELETE FROM reservations WHERE number IN ({mine})", row)
        )

    def _fits(self, spent: Expense, cost: float, under_way: Sequence[float]) -> bool:
        calls, total = spent.calls + len(under_way) + 1, spent.cost + sum(under_way) + cost
        return (self.max_calls is None or calls <= self.max_calls) and (
            self.max_cost is None or total <= self.max_cost * (1 + ROUNDING)
        )

    def _exceeded(self, spent: Expense, cost: float) -> BudgetError:
        then = "raise it, and the same command goes on"
        if self.max_calls is not None and spent.calls + 1 > self.max_calls:
            return BudgetError(
                f"one more call would exceed budget.max_calls={self.max_calls}: {spent.calls} are paid for; {then}."
            )
        return BudgetError(
            f"one more call may cost {cost:.6g}, which would exceed budget.max_cost={self.max_cost:g}: "
            f"{spent.cost:.6g} is paid; {then}."
        )


def _living(connection: sqlite3.Connection, payer: str) -> list[float]:
    """What is reserved for calls under way; reservations of processes that have ended are deleted."""
    held = connection.execute(
        "SELECT number, owner, until, cost FROM reservations WHERE payer = ?", (payer,)
    ).fetchall()
    ended = [row[0] for row in held if row[1] != this_process() and lapsed(*row[1:3])]
    connection.executemany("DELETE FROM reservations WHERE number = ?", [(number,) for number in ended])
    return [cost for number, _, _, cost in held if number not in ended]
