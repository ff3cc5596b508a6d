"""A budget pauses before it is exceeded, whichever processes spent it, and goes on with a higher limit."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparring.annotators.answer_book import SqliteBook
from sparring.annotators.purse import Budget, Prices
from sparring.core.answers import Answer
from sparring.core.errors import BudgetError, ConfigError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "answers.sqlite")


def spend(budget: Budget, key: str, most: float, paid: float) -> None:
    assert budget.reserve(most)
    budget.book.keep(key, Answer("", "m", 1, 1, paid))
    budget.settle(most)


def test_tokens_cost_what_the_table_says() -> None:
    assert Prices(prompt=2.0, completion=10.0).cost(500_000, 100_000) == 2.0


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(price: float) -> None:
    with pytest.raises(ConfigError, match=r"prices\.completion is .* million tokens"):
        Prices(prompt=1.0, completion=price)


def test_the_last_call_is_made_and_the_next_refused(path: str) -> None:
    budget = Budget(SqliteBook(path), max_calls=2)
    spend(budget, "1", 0.0, 0.0)
    spend(budget, "2", 0.0, 0.0)
    with pytest.raises(BudgetError, match=r"max_calls=2: 2 are paid for; raise it"):
        budget.reserve(0.0)


def test_what_is_under_way_counts_at_its_highest_and_is_waited_for(path: str) -> None:
    budget = Budget(SqliteBook(path), max_cost=1.0)
    assert budget.reserve(0.6)
    assert not budget.reserve(0.5)
    budget.book.keep("1", Answer("", "m", 1, 1, 0.2))
    budget.settle(0.6)
    assert budget.reserve(0.8)
    with pytest.raises(BudgetError, match=r"may cost 0\.9, .* budget\.max_cost=1: 0\.2 is paid; raise it"):
        budget.reserve(0.9)


def test_calls_under_way_count_too(path: str) -> None:
    budget = Budget(SqliteBook(path), max_calls=2)
    assert [budget.reserve(0.0) for _ in range(3)] == [True, True, False]
    budget.settle(0.0)
    assert budget.reserve(0.0)


def test_one_that_is_over_its_limit_hinders_no_other_thread(path: str) -> None:
    """Reservations that come at the same time share a transaction."""
    budget = Budget(SqliteBook(path), max_cost=1.0)
    with ThreadPoolExecutor(4) as pool, budget.book.transaction():
        asked = [pool.submit(budget.reserve, cost) for cost in (0.1, 5.0, 0.2, 5.0)]
        while len(budget.book._waiting) < 4:
            time.sleep(0.001)
    assert [one.exception() is None and one.result() for one in asked] == [True, False, True, False]
    assert isinstance(asked[1].exception(), BudgetError)


def test_ten_times_a_tenth_is_one(path: str) -> None:
    budget = Budget(SqliteBook(path), max_cost=1.0)
    for key in range(10):
        spend(budget, str(key), 0.1, 0.1)
    with pytest.raises(BudgetError):
        budget.reserve(0.1)


def test_a_raised_limit_goes_on_where_another_process_was_killed(path: str) -> None:
    def two_calls_and_one_under_way() -> None:
        budget = Budget(SqliteBook(path, payer="run".upper), max_calls=3)
        spend(budget, "1", 0.5, 0.5)
        spend(budget, "2", 0.5, 0.5)
        budget.reserve(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=two_calls_and_one_under_way)
    process.start()
    process.join()
    book = SqliteBook(path, payer="run".upper)
    with pytest.raises(BudgetError):
        Budget(book, max_calls=2).reserve(0.0)
    assert Budget(book, max_calls=3).reserve(0.0)  # the dead process's reservation is none


def test_runs_have_budgets_of_their_own(path: str) -> None:
    spend(Budget(SqliteBook(path, payer="a".upper), max_calls=1), "1", 0.0, 0.0)
    spend(Budget(SqliteBook(path, payer="b".upper), max_calls=1), "2", 0.0, 0.0)


def test_two_budgets_of_a_run_share_its_limit(path: str) -> None:
    spend(Budget(SqliteBook(path), max_calls=1), "1", 0.0, 0.0)
    with pytest.raises(BudgetError):
        Budget(SqliteBook(path), max_calls=1).reserve(0.0)


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_limit_that_is_none_is_refused(path: str, limit: float) -> None:
    with pytest.raises(ConfigError, match=r"budget\.max_cost is"):
        Budget(SqliteBook(path), max_cost=limit)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 100)), max_size=12), limit=st.integers(0, 200))
def test_no_order_of_calls_exceeds_the_limit(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[int, int]], limit: int
) -> None:
    """Each call reserves the most it may cost, and pays some per cent of that."""
    budget = Budget(SqliteBook(str(tmp_path_factory.mktemp("book") / "b.sqlite")), max_cost=float(limit))
    for number, (most, share) in enumerate(calls):
        try:
            spend(budget, str(number), float(most), most * share / 100)
        except BudgetError:
            assert budget.book.spent("").cost + most > limit
    assert budget.book.spent("").cost <= limit * (1 + 1e-9)
    budget.book.close()
