import math

import pytest

from candidate_sets import candidate_set, configured, judged, rated
from sparring.core.errors import RoundError
from sparring.core.types import Judgement
from sparring.pairing.dno_margin import ScoredPairs

RATINGS, RATES = ScoredPairs(scale="rating"), ScoredPairs(scale="win_rate")
PAPER = configured("dno_margin_ratings")
UNIFORM = configured(
    "dno_margin_ratings", "filters.margin.student_positive=2.0", "filters.margin.student_vs_student=2.0"
)
RESTRICTIVE_2 = configured("dno_restrictive_ratings")
RESTRICTIVE_1 = configured("dno_restrictive_loose_ratings")
SPIN = configured("spin")

# Judge scores of five students and the teacher; pairs as (winner, loser), where 0 is the teacher; what else was
# proposed; and the pairs of DNO-Restrictive with threshold 5 and margin 2, and with margin 1 alone.
TABLE = [
    (
        [5, 3, 6, 2, 4, 5],
        {(0, 2), (0, 4)},
        {(3, 0)},
        {(1, 2), (1, 4), (1, 5), (3, 1), (3, 2), (3, 4), (3, 5)},
        {"tie": 1, "min_positive": 3, "margin": 1},
        2,
        3,
    ),
    (
        [6, 6, 5, 5, 4, 5],
        set(),
        {(1, 0), (2, 0)},
        {(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5), (3, 5), (4, 5)},
        {"tie": 4, "margin": 1},
        0,
        1,
    ),
    (
        [4, 4, 3, 2, 4, 6],
        {(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)},
        set(),
        set(),
        {"tie": 3, "min_positive": 7},
        5,
        5,
    ),
    ([4, 4, 4, 3, 2, 4], set(), set(), set(), {"tie": 6, "min_positive": 9}, 0, 2),
    ([5, 5, 5, 5, 5, 5], set(), set(), set(), {"tie": 15}, 0, 0),
    (
        [1, 2, 6, 6, 6, 6],
        {(0, 1), (0, 2)},
        set(),
        {(3, 1), (3, 2), (4, 1), (4, 2), (5, 1), (5, 2)},
        {"tie": 6, "min_positive": 1},
        2,
        2,
    ),
]


def paired(pairing, scores):
    """Pairs by kind in the table's numbering, and the funnel."""
    pairs, funnel = pairing(candidate_set(5, teacher=True), rated(scores))
    found = {"teacher>student": set(), "student>teacher": set(), "student>student": set()}
    for pair in pairs:
        found[pair.kind].add(((pair.chosen + 1) % 6, (pair.rejected + 1) % 6))
    assert funnel.kept == {kind: len(members) for kind, members in found.items() if members}
    assert funnel.proposed == 15
    return list(found.values()), funnel


def counts(pairing, scores):
    return list(map(len, paired(pairing, scores)[0]))


@pytest.mark.parametrize(("scores", "teacher", "over_teacher", "students", "dropped", "_two", "_one"), TABLE)
def test_the_published_rule_makes_the_published_kinds(scores, teacher, over_teacher, students, dropped, _two, _one):
    kinds, funnel = paired(PAPER, scores)
    assert kinds == [teacher, over_teacher, students]
    assert funnel.dropped == dropped


@pytest.mark.parametrize(("scores", "_a", "_b", "_c", "_dropped", "margin_two", "margin_one"), TABLE)
def test_restrictive_dno_is_a_configuration(scores, _a, _b, _c, _dropped, margin_two, margin_one):
    assert counts(RESTRICTIVE_2, scores) == [margin_two, 0, 0]
    assert counts(RESTRICTIVE_1, scores) == [margin_one, 0, 0]


@pytest.mark.parametrize(("row", "kinds"), [(0, [2, 0, 5]), (1, [0, 0, 2])])
def test_without_the_relaxed_margin_students_win_less(row, kinds):
    assert counts(UNIFORM, TABLE[row][0]) == kinds


@pytest.mark.parametrize("scores", [row[0] for row in TABLE])
def test_spin_makes_five_pairs_of_any_scores(scores):
    pairs, _ = SPIN(candidate_set(5, teacher=True), rated(scores))
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(5, student) for student in range(5)]


def test_one_number_sets_all_margins():
    same = [f"filters.margin.{kind}=${{.teacher_positive}}" for kind in ("student_positive", "student_vs_student")]
    assert configured("dno_margin_ratings", *same).filters["margin"] == UNIFORM.filters["margin"]


def test_a_defective_sample_may_only_lose():
    pairs, funnel = PAPER(candidate_set(3, defects={0: "loop"}), rated([6, 5, 3]))
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {(1, 2)}
    assert funnel.dropped == {"defect_may_only_lose": 2}
    pairs, _ = PAPER(candidate_set(3, defects={2: "loop"}), rated([6, 5, 3]))
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {(0, 1), (0, 2), (1, 2)}


def test_win_rates_a_tenth_apart_pass_a_margin_of_a_tenth():
    # Against (y0, y1, y2) y0 has (.5 + .65 + .5) / 3 = .55 and y1 has (.35 + .5 + .5) / 3 = .45; y2 is in between.
    win = [[0.5, 0.65, 0.5], [0.35, 0.5, 0.5], [0.5, 0.5, 0.5]]
    pairs, funnel = configured("dno_margin", "filters.min_positive.threshold=0.55")(candidate_set(3), judged(win))
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(0, 1)]
    assert funnel.dropped == {"min_positive": 1, "margin": 1}


def test_score_margin_and_win_are_those_of_the_pair():
    [pair] = RATINGS(candidate_set(2), rated([3, 5]))
    assert (pair.chosen, pair.rejected, pair.score, pair.margin) == (1, 0, 5.0, 2.0)
    assert pair.win == pytest.approx(1 / (1 + math.exp(-2)))


def test_equal_scores_leave_it_to_the_direct_comparison_and_then_to_the_order():
    # All three have win rate 1/2 on the circle 0 > 1 > 2 > 0: each pair goes to its direct winner.
    circle = judged([[0.5, 0.8, 0.2], [0.2, 0.5, 0.8], [0.8, 0.2, 0.5]])
    assert [(pair.chosen, pair.rejected) for pair in RATES(candidate_set(3), circle)] == [(0, 1), (2, 0), (1, 2)]
    undecided = judged([[0.5] * 3] * 3)
    assert [(pair.chosen, pair.rejected) for pair in RATES(candidate_set(3), undecided)] == [(0, 1), (0, 2), (1, 2)]


def test_scores_are_equal_up_to_rounding():
    # Three tenths added up are a hair more than 0.3; the direct comparison still decides.
    scores = (0.3, 0.1 + 0.1 + 0.1)
    assert scores[1] > scores[0]
    [pair] = RATINGS(candidate_set(2), Judgement(judged([[0.5, 0.6], [0.4, 0.5]]).win, scores))
    assert (pair.chosen, pair.rejected) == (0, 1)


def test_the_average_decides_against_the_direct_comparison():
    # y1 loses to y0 directly (.4) and has the better average: (.4 + .5 + 1) / 3 > (.5 + .6 + .1) / 3.
    win = [[0.5, 0.6, 0.1], [0.4, 0.5, 1.0], [0.9, 0.0, 0.5]]
    pair = next(pair for pair in RATES(candidate_set(3), judged(win)) if {pair.chosen, pair.rejected} == {0, 1})
    assert (pair.chosen, pair.win) == (1, pytest.approx(0.4))


def test_a_failed_judgement_makes_no_pairs():
    failed = Judgement(win=rated([6, 1]).win, scores=(6.0, 1.0), status="unreadable")
    assert RATINGS(candidate_set(2), failed) == []


def test_ratings_are_asked_for_by_name():
    with pytest.raises(RoundError, match=r"prompt p.*annotator.*pairing=dno_margin"):
        RATINGS(candidate_set(2), judged([[0.5, 0.9], [0.1, 0.5]]))
