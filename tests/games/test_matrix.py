import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.core.errors import ConfigError, DataError
from sparring.games.catalogue import bradley_terry, random_skew, rock_paper_scissors
from sparring.games.matrix import MatrixGame, average_bound, self_play, total_variation

CYCLE = MatrixGame(("a", "b", "c"), np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]]))
START = np.array([0.5, 0.3, 0.2])


def running_average(policies: np.ndarray) -> np.ndarray:
    """Row t is the uniform mixture of the policies 0 to t."""
    return policies.cumsum(axis=0) / np.arange(1, len(policies) + 1)[:, None]


# Lists, not games: type checks inside a strategy would use the random module, which hypothesis watches.
TABLES = st.integers(1, 7).flatmap(
    lambda n: st.lists(
        st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]), min_size=n, max_size=n), min_size=n, max_size=n
    )
)
WEIGHTS = st.lists(st.floats(1e-3, 1), min_size=7, max_size=7)


def game_of(rows: list[list[float]]) -> MatrixGame:
    lower = np.tril(np.array(rows), -1)
    win = lower + np.triu(1 - lower.T, 1) + np.eye(len(rows)) / 2
    return MatrixGame(tuple(map(str, range(len(rows)))), win)


def mixture_of(weights: list[float], game: MatrixGame) -> np.ndarray:
    used = np.array(weights[: len(game.labels)])
    return used / used.sum()


def test_the_equilibrium_of_the_reference_cycle_is_two_three_and_four_ninths() -> None:
    np.testing.assert_allclose(CYCLE.nash(), np.array([2, 3, 4]) / 9, atol=1e-12)
    np.testing.assert_allclose(CYCLE.win_rates(START), [0.56, 0.34, 0.59], atol=1e-15)
    assert CYCLE.exploitability(START) == pytest.approx(2 * 0.59 - 1)


@given(TABLES)
@settings(deadline=None)
def test_no_response_beats_the_equilibrium(rows: list[list[float]]) -> None:
    game = game_of(rows)
    mixture = game.nash()
    assert (mixture >= 0).all()
    assert mixture.sum() == pytest.approx(1.0)
    assert game.exploitability(mixture) <= 1e-9


@given(TABLES, WEIGHTS)
@settings(deadline=None)
def test_exploitability_is_what_the_best_response_wins_beyond_the_worst(
    rows: list[list[float]], weights: list[float]
) -> None:
    game = game_of(rows)
    mixture = mixture_of(weights, game)
    gap = game.exploitability(mixture)
    assert 0 <= gap <= 1
    assert mixture @ game.win @ mixture == pytest.approx(0.5)
    assert gap == pytest.approx((game.win @ mixture).max() - (mixture @ game.win).min(), abs=1e-12)


@pytest.mark.parametrize("n", [3, 5, 9])
def test_rock_paper_scissors_is_played_uniformly(n: int) -> None:
    np.testing.assert_allclose(rock_paper_scissors(n, 0.3).nash(), np.full(n, 1 / n), atol=1e-12)


def test_the_same_game_has_the_same_equilibrium_every_time() -> None:
    tie = MatrixGame(("a", "b"), np.full((2, 2), 0.5))  # every mixture is one
    np.testing.assert_array_equal(tie.nash(), tie.nash())
    assert sorted(tie.nash()) == [0, 1]  # a vertex


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (1.0, [0.52806867, 0.25427102, 0.21766030]),
        (2.0, [0.55213341, 0.21335642, 0.23451017]),
        (10.0, [0.62250011, 0.04138499, 0.33611490]),
    ],
)
def test_exact_updates_are_those_of_the_specification(step: float, expected: list[float]) -> None:
    np.testing.assert_allclose(CYCLE.update(START, step=step), expected, atol=1e-8)


@pytest.mark.parametrize(
    ("step", "expected"), [(1.0, [0.59290806, 0.13738527, 0.26970667]), (2.0, [0.62235761, 0.05569220, 0.32195019])]
)
def test_hard_labels_lead_elsewhere(step: float, expected: list[float]) -> None:
    np.testing.assert_allclose(CYCLE.hard_label_update(START, step=step), expected, atol=1e-7)


def test_where_preferences_are_bradley_terry_hard_labels_move_by_the_scores_themselves() -> None:
    game, scores = bradley_terry([0.0, 0.7, -0.4]), np.array([0.0, 0.7, -0.4])
    tilted = START * np.exp(2.0 * scores)
    np.testing.assert_allclose(game.hard_label_update(START, step=2.0), tilted / tilted.sum(), atol=1e-7)


def test_hard_labels_of_a_certain_winner_have_no_finite_update() -> None:
    with pytest.raises(ConfigError, match="certain winner"):
        rock_paper_scissors(3, 0.5).hard_label_update(START, step=1.0)


@given(TABLES, WEIGHTS, st.floats(0.01, 20))
@settings(deadline=None)
def test_an_exact_update_beats_its_predecessor_by_at_least_the_divergence(
    rows: list[list[float]], weights: list[float], step: float
) -> None:
    game = game_of(rows)
    policy = mixture_of(weights, game)
    new = game.update(policy, step=step)
    divergence = float((new * np.log(np.where(new > 0, new, 1.0) / policy)).sum())
    assert new @ game.win @ policy >= 0.5 + divergence / step - 1e-9


@pytest.mark.parametrize(
    ("rounds", "average", "last"),
    [
        (100, 0.219842, 0.146496),
        (1_000, 0.045013, 0.290805),
        (10_000, 0.022985, 0.127011),
    ],
)
def test_the_average_of_exact_self_play_approaches_nash_and_the_last_policy_does_not(
    rounds: int, average: float, last: float
) -> None:
    step = rounds**-0.5
    policies = self_play(CYCLE, START, rounds=rounds, step=step)
    averages = running_average(policies[:-1])  # the specification averages the policies that played
    assert CYCLE.exploitability(averages[-1]) == pytest.approx(average, abs=1e-6)
    assert CYCLE.exploitability(policies[-1]) == pytest.approx(last, abs=1e-6)
    assert average <= average_bound(START, step=step, rounds=rounds)


@given(TABLES, WEIGHTS, st.integers(1, 40), st.floats(0.05, 2))
@settings(deadline=None, max_examples=50)
def test_the_average_of_exact_self_play_keeps_what_theory_promises(
    rows: list[list[float]], weights: list[float], rounds: int, step: float
) -> None:
    game = game_of(rows)
    start = mixture_of(weights, game)
    average = running_average(self_play(game, start, rounds=rounds - 1, step=step))[-1]
    assert game.exploitability(average) <= average_bound(start, step=step, rounds=rounds) + 1e-9


def test_the_promise_falls_with_the_root_of_the_rounds() -> None:
    bounds = [average_bound(START, step=2.0 * n**-0.5, rounds=n) for n in (100, 400)]
    assert bounds[0] / bounds[1] == pytest.approx(2.0)


def test_an_anchor_makes_the_last_policy_converge_to_where_both_forces_balance() -> None:
    anchor, step = 0.05, 0.5
    last = self_play(CYCLE, START, rounds=2000, step=step, anchor=anchor)[-1]
    np.testing.assert_allclose(CYCLE.update(last, step=step, anchor=anchor, initial=START), last, atol=1e-10)
    forces = step * CYCLE.win_rates(last) - anchor * np.log(last / START)
    assert np.ptp(forces) < 1e-9
    assert CYCLE.exploitability(last) < CYCLE.exploitability(START)


def test_an_anchor_of_one_step_mixes_geometrically() -> None:
    new = CYCLE.update(START, step=0.0, anchor=0.25, initial=np.array([0.2, 0.3, 0.5]))
    weights = START**0.75 * np.array([0.2, 0.3, 0.5]) ** 0.25
    np.testing.assert_allclose(new, weights / weights.sum(), atol=1e-15)
    with pytest.raises(ConfigError, match="initial policy"):
        CYCLE.update(START, step=1.0, anchor=0.1)


def test_a_response_that_is_never_given_stays_so() -> None:
    assert CYCLE.update(np.array([0.0, 0.5, 0.5]), step=1.0)[0] == 0.0


def test_total_variation_is_the_mass_that_moves() -> None:
    assert total_variation(np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3])) == pytest.approx(0.1)


def test_only_odds_short_of_certainty_are_interior() -> None:
    assert CYCLE.interior
    assert random_skew(4, seed=0).interior
    assert not rock_paper_scissors(3, 0.5).interior


@pytest.mark.parametrize(
    ("win", "sentence"),
    [
        (np.full((2, 3), 0.5), "a payoff table is square"),
        (np.zeros((0, 0)), "a payoff table is square"),
        (np.array([[0.5, 0.4], [0.4, 0.5]]), "is not complementary: row 1 beats 2 with 0.4"),
        (np.array([[0.5, 1.4], [-0.4, 0.5]]), r"outside \[0, 1\]"),
        (np.array([[0.5, np.nan], [0.5, 0.5]]), r"outside \[0, 1\]"),
    ],
)
def test_what_is_no_game_is_refused(win: np.ndarray, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        MatrixGame(("a", "b"), win)


def test_labels_that_name_two_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="not unique"):
        MatrixGame(("a", " a"), np.full((2, 2), 0.5))
