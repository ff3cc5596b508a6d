import math

from hypothesis import given
from hypothesis import strategies as st

from sparring.policy.defects import find_defect, repeat_share


def test_a_sample_that_was_cut_off_has_no_end() -> None:
    assert find_defect([1, 2, 3], "length", ngram=8, max_repeat_share=0.2) == "no_end"


def test_the_share_of_repeats_by_hand() -> None:
    # Bigrams of 1 2 1 2 1: 12 21 12 21, two of the four stood before.
    assert repeat_share([1, 2, 1, 2, 1], 2) == 0.5


def test_repeats_are_a_defect_only_above_the_threshold() -> None:
    assert find_defect([1, 2, 1, 2, 1], "stop", ngram=2, max_repeat_share=0.5) is None
    assert find_defect([1, 2, 1, 2, 1], "stop", ngram=2, max_repeat_share=0.49) == "repeats"


def test_a_text_shorter_than_one_ngram_cannot_repeat() -> None:
    assert find_defect([1] * 7, "stop", ngram=8, max_repeat_share=0.0) is None


@given(st.lists(st.integers(0, 3), min_size=4, max_size=30), st.integers(1, 4))
def test_saying_everything_twice_repeats_about_half(ids: list[int], ngram: int) -> None:
    windows = 2 * len(ids) - ngram + 1
    assert repeat_share(ids + ids, ngram) >= (len(ids) - ngram + 1) / windows - 1e-12
    assert math.isclose(repeat_share(list(range(50)), ngram), 0.0)
