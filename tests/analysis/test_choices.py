import numpy as np
import pytest

from sparring.analysis.choices import measure_choices
from sparring.analysis.resampling import resampling

RIGHT = np.array([0, 1, 2, 3, 1, 0, 3, 2])  # of two questions, each asked by four


def one_hot(places: list[int | None]) -> np.ndarray:
    chosen = np.zeros((len(places), 4))
    for item, place in enumerate(places):
        if place is not None:
            chosen[item, place] = 1
    return chosen


def test_shares_are_those_counted_by_hand():
    chosen = one_hot([0, 0, 0, None, 1, 0, 3, 0])  # right: the first of one question, three of the other
    found = measure_choices(chosen, RIGHT, resampling(np.arange(8) // 4, seed=0), other=None)
    assert found.accuracy.value == pytest.approx(4 / 8)
    assert found.unreadable.value == pytest.approx(1 / 8)
    assert [share.value for share in found.chosen] == pytest.approx([5 / 8, 1 / 8, 0, 1 / 8])
    assert [share.value for share in found.right_at if share is not None] == pytest.approx([1, 1 / 2, 0, 1 / 2])
    assert found.lead is None
    # of two questions, resamples hold the first twice (1/4), the second twice (3/4), or both
    assert found.accuracy.ci95 == (0.25, 0.75)
    assert found.accuracy.count == 8


def test_a_lead_is_paired_so_that_what_both_get_right_does_not_blur_it():
    mine, theirs = one_hot([0, 1, 0, 0, 1, 0, 3, 0]), one_hot([0, 0, 0, 0, 1, 0, 0, 0])
    found = measure_choices(mine, RIGHT, resampling(np.arange(8) // 4, seed=0), other=theirs)
    assert found.lead is not None
    assert (found.lead.value, found.lead.ci95) == (0.25, (0.25, 0.25))  # one more in either question
    assert found.accuracy.ci95 != (found.accuracy.value, found.accuracy.value)


def test_of_several_responses_each_is_a_share_of_its_item():
    chosen = np.array([[0.5, 0.25, 0, 0], [0, 0, 0, 1.0]])
    found = measure_choices(chosen, np.array([0, 1]), resampling(np.array([0, 1]), seed=0), other=None)
    assert found.accuracy.value == pytest.approx(0.25)
    assert found.unreadable.value == pytest.approx(0.125)
    assert found.right_at[2:] == (None, None)  # nowhere the right answer
