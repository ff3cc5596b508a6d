import numpy as np
import pytest

from sparring.analysis.win_rate import cross_win_rate, measure_win_rate
from sparring.core.errors import DataError


def test_a_tie_is_half_a_win():
    measured = measure_win_rate([np.array([[0.9, 0.5], [0.5 + 1e-9, 0.1]])], seed=0)
    assert (measured.win_rate, measured.mean_probability) == (pytest.approx(0.5), pytest.approx(0.5))
    assert measure_win_rate([np.array([0.9, 0.5])], seed=0).win_rate == 0.75


def test_wins_are_counted_and_probabilities_averaged():
    measured = measure_win_rate(np.array([[0.6, 0.6, 0.1], [0.7, 0.8, 0.9]]), seed=0)
    assert measured.win_rate == pytest.approx(5 / 6)
    assert measured.mean_probability == pytest.approx(3.7 / 6)
    assert measured.prompts == 2


def test_every_prompt_weighs_the_same_whatever_its_number_of_comparisons():
    measured = measure_win_rate([np.array([1.0]), np.zeros((3, 3))], seed=0)
    assert (measured.win_rate, measured.mean_probability) == (0.5, 0.5)


def test_the_block_of_current_against_opponent_is_cut_out():
    win = np.arange(25.0).reshape(5, 5)
    assert cross_win_rate(win, 2).tolist() == [[2, 3, 4], [7, 8, 9]]


@pytest.mark.parametrize("n_current", [0, 3])
def test_a_side_without_responses_is_refused(n_current):
    with pytest.raises(DataError, match="both sides"):
        cross_win_rate(np.full((3, 3), 0.5), n_current)


def test_one_prompt_and_all_wins_have_an_interval_without_width():
    assert measure_win_rate([np.array([0.9, 0.1, 0.1])], seed=0).ci95 == pytest.approx((1 / 3, 1 / 3))
    assert measure_win_rate(np.full((50, 4), 0.9), seed=0).ci95 == (1.0, 1.0)


def test_the_interval_agrees_with_the_normal_approximation_for_many_prompts():
    wins = (np.arange(1000) < 620).astype(float)[:, None]
    low, high = measure_win_rate(wins, seed=0).ci95
    half_width = 1.96 * np.sqrt(0.62 * 0.38 / 1000)
    assert (low, high) == pytest.approx((0.62 - half_width, 0.62 + half_width), abs=0.003)


def test_prompts_and_not_comparisons_are_the_unit():
    # Eight copies of one comparison per prompt carry no more than one.
    once = (np.random.default_rng(0).random((100, 1)) < 0.6).astype(float)
    assert measure_win_rate(np.repeat(once, 8, axis=1), seed=1).ci95 == measure_win_rate(once, seed=1).ci95


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    # Prompts differ (beta) and hold four comparisons each; the truth is the mean of the beta, 0.6.
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        chances = rng.beta(3, 2, size=(80, 1))
        low, high = measure_win_rate((rng.random((80, 4)) < chances).astype(float), seed=trial, resamples=500).ci95
        covered += low <= 0.6 <= high
    assert 0.90 <= covered / 300 <= 0.985


def test_the_interval_is_a_function_of_the_seed():
    wins = (np.random.default_rng(0).random((40, 3)) < 0.6).astype(float)
    assert measure_win_rate(wins, seed=3) == measure_win_rate(wins, seed=3)


@pytest.mark.parametrize("blocks", [[], [np.empty((0, 3))], [np.array([0.7]), np.array([])]])
def test_nothing_to_measure_is_an_error(blocks):
    with pytest.raises(DataError, match="at least one comparison"):
        measure_win_rate(blocks, seed=0)


@pytest.mark.parametrize("value", [float("nan"), 1.1, -0.1])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(DataError, match="probability"):
        measure_win_rate([np.array([0.5, value])], seed=0)
