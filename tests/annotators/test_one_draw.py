from dataclasses import replace

import numpy as np

from sparring.annotators.one_draw import OneDraw
from sparring.annotators.payoff_table import PayoffTable
from sparring.core.preference import check_win_matrix
from sparring.core.types import Candidates, Prompt, Response

TABLE = PayoffTable(["a", "b", "c"], [[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]])


def candidates(texts: str, prompt: str = "0") -> Candidates:
    responses = tuple(Response(text, (ord(text),), "policy", "stop", -1.0) for text in texts)
    return Candidates(Prompt(prompt, ()), (), responses)


def test_every_comparison_of_two_texts_has_a_winner_and_equal_texts_tie() -> None:
    [judgement] = OneDraw(TABLE, seed=1)([candidates("abcab")])
    check_win_matrix(judgement.win)
    equal = np.array([[one == other for other in "abcab"] for one in "abcab"])
    assert (judgement.win[equal] == 0.5).all()
    assert np.isin(judgement.win[~equal], [0.0, 1.0]).all()


def test_draws_follow_the_probabilities() -> None:
    [judgement] = OneDraw(TABLE, seed=1)([candidates("a" * 100 + "b" * 100 + "c" * 100)])
    wins = judgement.win.reshape(3, 100, 3, 100).mean(axis=(1, 3))  # 10,000 draws each: standard error below 0.005
    np.testing.assert_allclose(wins, TABLE.table, atol=0.02)


def test_draws_do_not_depend_on_the_neighbours_or_on_how_the_samples_were_scored() -> None:
    annotator, one, other = OneDraw(TABLE, seed=1), candidates("abcabc"), candidates("cba", "1")
    together, apart = annotator([other, one])[1], annotator([one])[0]
    np.testing.assert_array_equal(together.win, apart.win)
    rescored = replace(one, responses=tuple(replace(response, logp=-2.0) for response in one.responses))
    np.testing.assert_array_equal(annotator([rescored])[0].win, apart.win)


def test_other_seeds_prompts_and_samples_are_drawn_anew() -> None:
    def draw(seed: int, texts: str, prompt: str) -> list[float]:
        return OneDraw(TABLE, seed)([candidates(texts, prompt)])[0].win[:8, :8].ravel().tolist()

    first = draw(1, "abcabcabc", "0")
    assert first != draw(2, "abcabcabc", "0")
    assert first != draw(1, "abcabcabc", "1")
    assert first != draw(1, "abcabcaba", "0")


def test_a_set_without_a_verdict_is_left_alone() -> None:
    [judgement] = OneDraw(TABLE, seed=1)([candidates("ax")])
    assert judgement.status == "unknown response"
    assert (judgement.win == 0.5).all()
