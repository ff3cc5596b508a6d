import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparring.core.errors import ConfigError, RoundError
from sparring.core.preference import bradley_terry, check_win_matrix, win_rates

# Three responses and a gold one, one coin flip per comparison: y1 beats y2, y3 beats all, gold beats y1 and y2.
SAMPLED = np.array([[0.5, 1, 0, 0], [0, 0.5, 0, 0], [1, 1, 0.5, 1], [1, 1, 0, 0.5]])
CYCLE = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]])


def test_all_others_counts_the_teacher_and_leaves_out_the_response_itself():
    is_policy = np.array([True, True, True, False])
    assert win_rates(SAMPLED, is_policy, opponents="all_others") == pytest.approx([1 / 3, 0, 1, 2 / 3])


def test_policy_counts_the_response_itself_and_never_the_teacher():
    is_policy = np.array([True, True, True, False])
    # y1: (1/2 + 1 + 0) / 3; the teacher does not meet itself: (1 + 1 + 0) / 3.
    assert win_rates(SAMPLED, is_policy, opponents="policy") == pytest.approx([1.5 / 3, 0.5 / 3, 2.5 / 3, 2 / 3])


def test_win_rates_of_samples_in_proportion_to_a_policy_are_its_expected_win_rates():
    # Policy (.5, .3, .2): r0 = .5 * .5 + .9 * .3 + .2 * .2 = .56, and so on.
    types = np.repeat([0, 1, 2], [5, 3, 2])
    rates = win_rates(CYCLE[np.ix_(types, types)], np.ones(10, dtype=bool), opponents="policy")
    assert rates[[0, 5, 8]] == pytest.approx([0.56, 0.34, 0.59])


@given(arrays(np.float64, st.integers(1, 6), elements=st.floats(-30, 30)), st.floats(0.1, 10))
def test_samples_win_half_of_the_time_on_average(scores, temperature):
    win = bradley_terry(scores, temperature)
    rates = win_rates(win, np.ones(len(scores), dtype=bool), opponents="policy")
    assert rates.mean() == pytest.approx(0.5)


@given(arrays(np.float64, st.integers(1, 6), elements=st.floats(-1e6, 1e6)), st.floats(1e-3, 1e3))
def test_bradley_terry_makes_a_valid_matrix_of_any_scores(scores, temperature):
    check_win_matrix(bradley_terry(scores, temperature))


def test_bradley_terry_is_the_logistic_of_the_scaled_difference():
    win = bradley_terry(np.array([2.0, 1.0]), 0.5)
    assert win[0, 1] == pytest.approx(1 / (1 + np.exp(-2.0)), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_bradley_terry_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ConfigError, match="positive"):
        bradley_terry(np.zeros(2), temperature)


@pytest.mark.parametrize("opponents", ["policy", "all_others"])
def test_nobody_to_play_against_is_an_error(opponents):
    with pytest.raises(RoundError, match="sample"):
        win_rates(np.full((1, 1), 0.5), np.array([False]), opponents=opponents)


@pytest.mark.parametrize(
    ("win", "problem"),
    [
        ([[0.5, 0.6], [0.5, 0.5]], "other than 1"),
        ([[0.4, 0.6], [0.4, 0.6]], "diagonal"),
        ([[0.5, 1.2], [-0.2, 0.5]], "no probabilities"),
        ([[0.5, float("nan")], [0.4, 0.5]], "no probabilities"),
        ([[0.5, 0.5]], "K x K"),
        ([0.5], "K x K"),
    ],
)
def test_a_matrix_that_is_no_win_matrix_is_refused_with_its_place(win, problem):
    with pytest.raises(RoundError, match=f"prompt 7.*{problem}"):
        check_win_matrix(np.array(win), "prompt 7")


def test_float32_rounding_is_no_offence():
    check_win_matrix(bradley_terry(np.linspace(-2, 2, 7, dtype=np.float32), 0.3).astype(np.float32))
