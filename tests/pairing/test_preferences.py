"""What a pair ranker's logits are taken to say; the numbers are worked out by hand from the logits beside them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candidate_sets import candidate_set, judged
from sparring.annotators.recorded import Recorded
from sparring.core.errors import RoundError
from sparring.core.preference import win_rates
from sparring.core.types import Judgement
from sparring.pairing.best_vs_worst import BestVsWorst
from sparring.pairing.funnel import Pairing
from sparring.pairing.preferences import preferences

FIVE = [
    [0.0, 1.2, -0.4, 2.0, 0.6],
    [-0.8, 0.0, -1.5, 0.9, -0.3],
    [0.7, 1.1, 0.0, 1.8, 0.2],
    [-1.6, -1.2, -2.4, 0.0, -1.0],
    [-0.9, 0.5, -0.1, 1.3, 0.0],
]
INTRANSITIVE = [[0.0, 3.0, -1.0, 1.0], [-3.0, 0.0, 2.0, 1.0], [1.0, -2.0, 0.0, 1.0], [-1.0, -1.0, -1.0, 0.0]]
CIRCLE = [[0.0, 2.0, -2.0], [-2.0, 0.0, 2.0], [2.0, -2.0, 0.0]]
MODES = ["pairwise_sym", "pairwise_single_order", "aggregated_code"]


def from_file(directory: Path, logits: list[list[float]]) -> Judgement:
    """The judgement of a recorded file that holds all ordered logits."""
    texts = [f"response {index}" for index in range(len(logits))]
    rows = [
        {"prompt_id": "p", "response_a": a, "response_b": b, "logit": logits[i][j]}
        for i, a in enumerate(texts)
        for j, b in enumerate(texts)
        if i != j
    ]
    path = directory / "ranker.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    [judgement] = Recorded(str(path))([candidate_set(len(logits))])
    return judgement


def rates(judgement: Judgement, mode: str) -> np.ndarray:
    win = preferences(judgement, mode).win
    return win_rates(win, np.ones(len(win), dtype=bool), opponents="policy")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("pairwise_sym", [0.626850, 0.425039, 0.669661, 0.250132, 0.528318]),
        ("pairwise_single_order", [0.639258, 0.425792, 0.665286, 0.250314, 0.534473]),
        ("aggregated_code", [0.690111, 0.373296, 0.759900, 0.149897, 0.526796]),
    ],
)
def test_each_mode_makes_its_own_win_rates_of_the_same_recorded_logits(tmp_path, mode, expected):
    judgement = from_file(tmp_path, FIVE)
    np.testing.assert_allclose(rates(judgement, mode), expected, atol=1e-6)
    [pair], _ = Pairing(BestVsWorst(opponents="policy"), {}, mode)(candidate_set(5), judgement)
    assert (pair.chosen, pair.rejected) == (2, 3)
    # (1.8 + 2.4) / 2 = 2.1; 1.8 with response 2 shown first; 1.64 + 2.44 = 4.08 between the means over all.
    gap = {"pairwise_sym": 2.1, "pairwise_single_order": 1.8, "aggregated_code": 4.08}[mode]
    assert pair.win == pytest.approx(1 / (1 + np.exp(-gap)), abs=1e-6)


def test_means_over_all_can_reverse_a_comparison(tmp_path):
    judgement = from_file(tmp_path, INTRANSITIVE)
    np.testing.assert_allclose(rates(judgement, "pairwise_sym"), [0.613144, 0.539820, 0.520330, 0.326706], atol=1e-6)
    np.testing.assert_allclose(rates(judgement, "aggregated_code"), [0.771931, 0.5, 0.5, 0.228069], atol=1e-6)
    assert preferences(judgement, "pairwise_sym").win[0, 2] == pytest.approx(0.268941, abs=1e-6)
    assert preferences(judgement, "aggregated_code").win[0, 2] == pytest.approx(0.817574, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_on_a_circle_every_response_wins_half_the_time(tmp_path, mode):
    np.testing.assert_allclose(rates(from_file(tmp_path, CIRCLE), mode), 0.5)


def test_a_circle_survives_pairwise_modes_only(tmp_path):
    judgement = from_file(tmp_path, CIRCLE)
    assert preferences(judgement, "pairwise_sym").win[0, 1] == pytest.approx(1 / (1 + np.exp(-2)))
    np.testing.assert_array_equal(preferences(judgement, "aggregated_code").win, np.full((3, 3), 0.5))


@pytest.mark.parametrize(("win", "winner", "loser"), [(0.890903, 0.695452, 0.304548), (0.983374, 0.741687, 0.258313)])
def test_with_two_responses_a_win_rate_is_half_way_to_a_tie(win, winner, loser):
    judgement = judged([[0.5, win], [1 - win, 0.5]])
    np.testing.assert_allclose(rates(judgement, "pairwise_sym"), [winner, loser], atol=1e-6)


def test_without_logits_the_annotators_own_matrix_is_all_there_is():
    judgement = judged([[0.5, 0.7], [0.3, 0.5]])
    assert preferences(judgement, "pairwise_sym") is judgement
    for mode in MODES[1:]:
        with pytest.raises(RoundError, match=f"mode {mode} needs a pair ranker's logits"):
            preferences(judgement, mode)


def test_a_failed_judgement_stays_as_it_is():
    failed = Judgement(np.full((2, 2), 0.5), status="unreadable")
    assert all(preferences(failed, mode) is failed for mode in MODES)


def ranked(logits: list[list[float]]) -> Judgement:
    return Judgement(np.full((len(logits), len(logits)), 0.5), logits=np.array(logits, dtype=float))


@st.composite
def ordered_logits(draw) -> list[list[float]]:
    size = draw(st.integers(1, 6))
    row = st.lists(st.floats(-6, 6), min_size=size, max_size=size)
    logits = draw(st.lists(row, min_size=size, max_size=size))
    return [[0.0 if i == j else value for j, value in enumerate(row)] for i, row in enumerate(logits)]


LOGITS = ordered_logits()


@given(logits=LOGITS)
@settings(max_examples=60, deadline=None)
def test_win_rates_of_complementary_modes_add_up_to_half_the_responses(logits):
    for mode in ("pairwise_sym", "aggregated_code"):
        assert rates(ranked(logits), mode).sum() == pytest.approx(len(logits) / 2)


@given(logits=LOGITS)
@settings(max_examples=60, deadline=None)
def test_without_a_position_bias_the_order_does_not_matter(logits):
    antisymmetric = (np.array(logits) - np.array(logits).T).tolist()
    single, both = (preferences(ranked(antisymmetric), mode).win for mode in ("pairwise_single_order", "pairwise_sym"))
    np.testing.assert_allclose(single, both, atol=1e-12)


@given(logits=LOGITS)
@settings(max_examples=60, deadline=None)
def test_the_released_codes_matrix_has_no_circle(logits):
    win = preferences(ranked(logits), "aggregated_code").win
    strengths = np.log(win / (1 - win))
    np.testing.assert_allclose(strengths, strengths[:, :1] + strengths[:1, :], atol=1e-5)


@given(strengths=st.lists(st.floats(-3, 3), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_of_transitive_logits_the_released_code_doubles_every_gap(strengths):
    gaps = np.subtract.outer(strengths, strengths)
    win = preferences(ranked(gaps.tolist()), "aggregated_code").win
    np.testing.assert_allclose(win, 1 / (1 + np.exp(-2 * gaps)), atol=1e-9)


@given(one=st.floats(-6, 6), other=st.floats(-6, 6))
@settings(max_examples=60, deadline=None)
def test_of_two_responses_the_released_code_reads_the_sum_of_both_orders(one, other):
    judgement = ranked([[0.0, one], [other, 0.0]])
    gap = one - other  # S_0 - S_1 = (L_01 - L_10) / 2 - (L_10 - L_01) / 2
    assert preferences(judgement, "aggregated_code").win[0, 1] == pytest.approx(1 / (1 + np.exp(-gap)))
    assert preferences(judgement, "pairwise_sym").win[0, 1] == pytest.approx(1 / (1 + np.exp(-gap / 2)))
