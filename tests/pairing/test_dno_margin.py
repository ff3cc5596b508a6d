import math
from functools import partial

import pytest
from candidate_sets import candidate_set, judged, rated

from sparring.core.errors import ConfigError, RoundError
from sparring.core.types import Judgement
from sparring.pairing.dno_margin import DnoMargin

Rating = partial(DnoMargin, scale="rating")
PAPER = Rating(min_positive=5.0, margin_teacher_pos=2.0, margin_student_pos=1.0, margin_student_vs_student=1.0)
UNIFORM = Rating(min_positive=5.0, margin_teacher_pos=2.0, margin_student_pos=2.0, margin_student_vs_student=2.0)
RESTRICTIVE_2 = Rating(
    min_positive=5.0, margin_teacher_pos=2.0, margin_student_pos=math.inf, margin_student_vs_student=math.inf
)
RESTRICTIVE_1 = Rating(
    min_positive=0.0, margin_teacher_pos=1.0, margin_student_pos=math.inf, margin_student_vs_student=math.inf
)
ALL = DnoMargin(
    scale="win_rate",
    min_positive=0.0,
    margin_teacher_pos=0.0,
    margin_student_pos=0.0,
    margin_student_vs_student=0.0,
)

# Judge scores of five students and the teacher; pairs as (winner, loser), where 0 is the teacher.
TABLE = [
    ([5, 3, 6, 2, 4, 5], {(0, 2), (0, 4)}, {(3, 0)}, {(1, 2), (1, 4), (1, 5), (3, 1), (3, 2), (3, 4), (3, 5)}, 2, 3),
    (
        [6, 6, 5, 5, 4, 5],
        set(),
        {(1, 0), (2, 0)},
        {(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5), (3, 5), (4, 5)},
        0,
        1,
    ),
    ([4, 4, 3, 2, 4, 6], {(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)}, set(), set(), 5, 5),
    ([4, 4, 4, 3, 2, 4], set(), set(), set(), 0, 2),
    ([5, 5, 5, 5, 5, 5], set(), set(), set(), 0, 0),
    ([1, 2, 6, 6, 6, 6], {(0, 1), (0, 2)}, set(), {(3, 1), (3, 2), (4, 1), (4, 2), (5, 1), (5, 2)}, 2, 2),
]


def by_kind(strategy, scores):
    """Pairs by kind, in the table's numbering."""
    pairs = strategy(candidate_set(5, teacher=True), rated(scores))
    found = {"teacher>student": set(), "student>teacher": set(), "student>student": set()}
    for pair in pairs:
        found[pair.kind].add(((pair.chosen + 1) % 6, (pair.rejected + 1) % 6))
    assert len(pairs) == sum(map(len, found.values()))
    return list(found.values())


@pytest.mark.parametrize(("scores", "teacher", "student_over_teacher", "students", "_two", "_one"), TABLE)
def test_the_published_rule_makes_the_published_kinds(scores, teacher, student_over_teacher, students, _two, _one):
    assert by_kind(PAPER, scores) == [teacher, student_over_teacher, students]


@pytest.mark.parametrize(("scores", "_a", "_b", "_c", "margin_two", "margin_one"), TABLE)
def test_restrictive_dno_is_a_configuration(scores, _a, _b, _c, margin_two, margin_one):
    assert list(map(len, by_kind(RESTRICTIVE_2, scores))) == [margin_two, 0, 0]
    assert list(map(len, by_kind(RESTRICTIVE_1, scores))) == [margin_one, 0, 0]


@pytest.mark.parametrize(("row", "counts"), [(0, [2, 0, 5]), (1, [0, 0, 2])])
def test_without_the_relaxed_margin_students_win_less(row, counts):
    assert list(map(len, by_kind(UNIFORM, TABLE[row][0]))) == counts


def test_a_student_may_have_to_beat_a_student_by_more_than_the_teacher():
    strict = Rating(min_positive=5.0, margin_teacher_pos=9.0, margin_student_pos=1.0, margin_student_vs_student=2.0)
    pairs = strict(candidate_set(2, teacher=True), rated([6, 5, 5]))
    assert [(pair.chosen, pair.rejected, pair.kind) for pair in pairs] == [(0, 2, "student>teacher")]


def test_win_and_margin_are_those_of_the_pair():
    [pair] = PAPER(candidate_set(2), rated([5, 3]))
    assert (pair.chosen, pair.rejected, pair.margin) == (0, 1, 2.0)
    assert pair.win == pytest.approx(1 / (1 + math.exp(-2)))


def test_a_defective_sample_may_only_lose():
    pairs = PAPER(candidate_set(3, defects={0: "loop"}), rated([6, 5, 3]))
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {(1, 2)}
    pairs = PAPER(candidate_set(3, defects={2: "loop"}), rated([6, 5, 3]))
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {(0, 1), (0, 2), (1, 2)}


def test_a_margin_of_a_tenth_holds_for_win_rates_that_differ_by_a_tenth():
    # Against (y1, y2, y3) y1 has (.5 + .65 + .5) / 3 = .55 and y2 has (.35 + .5 + .5) / 3 = .45.
    win = [[0.5, 0.65, 0.5], [0.35, 0.5, 0.5], [0.5, 0.5, 0.5]]
    strategy = DnoMargin(
        scale="win_rate",
        min_positive=0.55,
        margin_teacher_pos=0.1,
        margin_student_pos=0.1,
        margin_student_vs_student=0.1,
    )
    assert [(pair.chosen, pair.rejected) for pair in strategy(candidate_set(3), judged(win))] == [(0, 1)]


def test_zero_margins_make_every_unordered_pair_once_ties_included():
    # All three have win rate 1/2 on the circle 0 > 1 > 2 > 0: each pair goes to its direct winner.
    circle = judged([[0.5, 0.8, 0.2], [0.2, 0.5, 0.8], [0.8, 0.2, 0.5]])
    assert {(pair.chosen, pair.rejected) for pair in ALL(candidate_set(3), circle)} == {(0, 1), (1, 2), (2, 0)}
    undecided = judged([[0.5] * 3] * 3)
    assert [(pair.chosen, pair.rejected) for pair in ALL(candidate_set(3), undecided)] == [(0, 1), (0, 2), (1, 2)]


def test_the_average_decides_against_the_direct_comparison():
    # y1 loses to y0 directly (.4) and has the better average: (.4 + .5 + 1) / 3 > (.5 + .6 + .1) / 3.
    win = [[0.5, 0.6, 0.1], [0.4, 0.5, 1.0], [0.9, 0.0, 0.5]]
    pair = next(pair for pair in ALL(candidate_set(3), judged(win)) if {pair.chosen, pair.rejected} == {0, 1})
    assert (pair.chosen, pair.win) == (1, pytest.approx(0.4))


def test_a_failed_judgement_makes_no_pairs():
    failed = Judgement(win=rated([6, 1]).win, scores=(6.0, 1.0), status="unreadable")
    assert PAPER(candidate_set(2), failed) == []


def test_ratings_are_asked_for_by_name():
    with pytest.raises(RoundError, match=r"prompt p.*annotator.*pairing\.strategy\.scale"):
        PAPER(candidate_set(2), judged([[0.5, 0.9], [0.1, 0.5]]))


def test_a_negative_margin_is_refused():
    with pytest.raises(ConfigError, match="0 or more"):
        Rating(min_positive=5.0, margin_teacher_pos=2.0, margin_student_pos=-1.0, margin_student_vs_student=1.0)
