import numpy as np
import pytest

from sparring.core.types import Candidates, Judgement, Prompt, Response
from sparring.pairing.every_comparison import EveryComparison
from sparring.pairing.funnel import Pairing

CANDIDATES = Candidates(
    Prompt("0", ()), (), tuple(Response(text, (i,), "policy", "stop", 0.0) for i, text in enumerate("abc"))
)


def test_the_winner_of_each_direct_comparison_is_chosen_even_on_a_circle() -> None:
    win = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
    pairs = EveryComparison()(CANDIDATES, Judgement(win))
    assert [(pair.chosen, pair.rejected, pair.win, pair.margin) for pair in pairs] == [
        (0, 1, 1.0, 0.5),
        (2, 0, 1.0, 0.5),
        (1, 2, 1.0, 0.5),
    ]


def test_ties_and_failed_judgements_make_no_pairs() -> None:
    even = Judgement(np.full((3, 3), 0.5))
    assert EveryComparison()(CANDIDATES, even) == []
    assert EveryComparison()(CANDIDATES, Judgement(np.full((3, 3), 0.5), status="unread")) == []


def test_a_judge_who_prefers_what_is_shown_second_is_asked_once_and_no_loser_is_chosen() -> None:
    # 0 is shown before 1 and wins with sigmoid(-0.4) = 0.401313; the other order (1 wins with 0.450) is not asked.
    logits = np.array([[0.0, -0.4, -9.0], [-0.2, 0.0, -9.0], [9.0, 9.0, 0.0]])
    judgement = Judgement(np.full((3, 3), 0.5), logits=logits)
    pairs, _ = Pairing(EveryComparison(), {}, "pairwise_single_order")(CANDIDATES, judgement)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(1, 0), (2, 0), (2, 1)]
    assert (pairs[0].win, pairs[0].margin) == pytest.approx((0.598688, 0.098688), abs=1e-6)
