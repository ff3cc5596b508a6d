import pytest

from candidate_sets import candidate_set, judged
from sparring.core.types import Judgement
from sparring.pairing.every_response import EveryResponse

# Three samples and a teacher: against the samples y0 wins (.5 + .8 + .5) / 3 = .6, y1 (.2 + .5 + .2) / 3 = .3,
# y2 (.5 + .8 + .5) / 3 = .6, and the teacher (.9 + .9 + .9) / 3 = .9.
WIN = [[0.5, 0.8, 0.5, 0.1], [0.2, 0.5, 0.2, 0.1], [0.5, 0.8, 0.5, 0.1], [0.9, 0.9, 0.9, 0.5]]


def test_every_sample_stands_alone_with_its_win_rate_equal_texts_and_defects_too():
    candidates = candidate_set(3, teacher=True, defects={0: "loop"})
    pairs = EveryResponse()(candidates, judged(WIN))
    assert [(pair.chosen, pair.rejected, pair.kind) for pair in pairs] == [(i, None, "student") for i in range(3)]
    assert [pair.score for pair in pairs] == pytest.approx([0.6, 0.3, 0.6])
    assert [pair.win for pair in pairs] == [pair.score for pair in pairs]
    assert {pair.margin for pair in pairs} == {0.0}


def test_the_teacher_joins_when_asked_but_is_no_opponent():
    pairs = EveryResponse(teacher=True)(candidate_set(3, teacher=True), judged(WIN))
    assert [pair.kind for pair in pairs] == ["student", "student", "student", "teacher"]
    assert [pair.score for pair in pairs] == pytest.approx([0.6, 0.3, 0.6, 0.9])


def test_a_failed_judgement_leaves_no_response():
    assert EveryResponse()(candidate_set(4), Judgement(judged(WIN).win, status="unreadable")) == []
