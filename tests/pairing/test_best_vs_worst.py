import numpy as np
import pytest

from candidate_sets import candidate_set, judged, rated
from sparring.core.types import Judgement
from sparring.pairing.best_vs_worst import BestVsWorst

SPPO = BestVsWorst(opponents="policy")


def test_the_best_meets_the_worst():
    [pair] = SPPO(candidate_set(4), rated([2, 5, 0, 3]))
    assert (pair.chosen, pair.rejected, pair.kind) == (1, 2, "student>student")


def test_the_score_is_the_win_rate_of_the_best_and_the_margin_its_lead():
    # y0: (.5 + .8) / 2 = .65, y1: (.2 + .5) / 2 = .35.
    [pair] = SPPO(candidate_set(2), judged([[0.5, 0.8], [0.2, 0.5]]))
    assert (pair.win, pair.score, pair.margin) == (0.8, pytest.approx(0.65), pytest.approx(0.3))


def test_the_first_of_equals_is_taken_at_both_ends():
    [pair] = SPPO(candidate_set(5), rated([1, 4, 0, 4, 0]))
    assert (pair.chosen, pair.rejected) == (1, 2)


@pytest.mark.parametrize("win", [np.full((3, 3), 0.5), [[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]]])
def test_no_pair_where_all_tie(win):
    assert SPPO(candidate_set(3), judged(win)) == []


def test_a_defective_best_leaves_its_place_to_the_next():
    [pair] = SPPO(candidate_set(3, defects={0: "loop"}), rated([6, 4, 1]))
    assert (pair.chosen, pair.rejected) == (1, 2)


def test_no_pair_where_the_best_sound_sample_is_also_the_worst():
    assert SPPO(candidate_set(2, defects={0: "loop"}), rated([6, 4])) == []
    assert SPPO(candidate_set(2, defects={0: "loop", 1: "loop"}), rated([6, 4])) == []


def test_the_teacher_competes_only_where_it_is_let():
    candidates, judgement = candidate_set(2, teacher=True), rated([3, 1, 6])
    [without] = SPPO(candidates, judgement)
    [with_teacher] = BestVsWorst(opponents="policy", teacher=True)(candidates, judgement)
    assert (without.chosen, without.rejected, without.kind) == (0, 1, "student>student")
    assert (with_teacher.chosen, with_teacher.rejected, with_teacher.kind) == (2, 1, "teacher>student")


def test_a_failed_judgement_makes_no_pairs():
    assert SPPO(candidate_set(2), Judgement(win=rated([6, 1]).win, status="timeout")) == []
