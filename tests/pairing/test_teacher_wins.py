from candidate_sets import candidate_set, judged, rated
from sparring.core.types import Judgement, Pair
from sparring.pairing.teacher_wins import TeacherWins

SPIN = TeacherWins()


def test_the_teacher_beats_every_sample_even_where_the_judge_says_the_opposite():
    pairs = SPIN(candidate_set(2, teacher=True), rated([6, 5, 0]))
    assert pairs == [Pair(2, student, win=1.0, score=1.0, margin=1.0, kind="teacher>student") for student in (0, 1)]


def test_no_teacher_no_pairs():
    assert SPIN(candidate_set(3), rated([6, 5, 0])) == []


def test_a_prompt_whose_judgement_failed_is_left_out_as_everywhere():
    assert SPIN(candidate_set(1, teacher=True), Judgement(judged([[0.5] * 2] * 2).win, status="unreadable")) == []
