import numpy as np
import pytest

from sparring.annotators.matrix_games import MatrixGames
from sparring.core.errors import ConfigError
from sparring.core.preference import win_rates
from sparring.core.types import Candidates, Prompt, Response
from sparring.games.catalogue import bradley_terry, rock_paper_scissors
from sparring.pairing.preferences import preferences

GAMES = {"rps": rock_paper_scissors(3, 0.3), "ladder": bradley_terry([0.0, 1.0])}


def candidates(game: str, *texts: str) -> Candidates:
    responses = tuple(Response(text, (), "policy", "stop", 0.0) for text in texts)
    return Candidates(Prompt("0", (), meta={"game": game}), (), responses)


def test_each_prompt_is_judged_by_the_game_that_it_names() -> None:
    rps, ladder = MatrixGames(GAMES)([candidates("rps", " paper", "rock"), candidates("ladder", "action1", "action0")])
    assert rps.win[0, 1] == pytest.approx(0.8)
    assert ladder.win[0, 1] == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert (rps.status, rps.logits) == ("ok", None)


def test_an_unknown_game_and_an_unknown_action_are_ties_that_make_no_pairs() -> None:
    game, action = MatrixGames(GAMES)([candidates("chess", "rock", "paper"), candidates("rps", "rock", "well")])
    assert (game.status, action.status) == ("unknown game", "unknown response")
    for judgement in (game, action):
        assert (judgement.win == 0.5).all()


def test_log_odds_say_the_same_as_probabilities_until_they_are_aggregated() -> None:
    annotator = MatrixGames(GAMES, gives_logits=True)
    [judgement] = annotator([candidates("rps", "rock", "paper", "scissors")])
    assert annotator.gives_logits
    np.testing.assert_allclose(preferences(judgement, "pairwise_sym").win, judgement.win, atol=1e-12)
    # Everyone's mean logit is 0 on a circle: the released code's preferences know no rock, paper, scissors.
    np.testing.assert_allclose(preferences(judgement, "aggregated_code").win, np.full((3, 3), 0.5), atol=1e-12)


def test_two_rocks_against_one_paper_change_a_win_rate_and_in_aggregated_preferences_an_order() -> None:
    [judgement] = MatrixGames(GAMES, gives_logits=True)([candidates("rps", "rock", "rock", "paper")])
    everyone = np.ones(3, dtype=bool)
    rates = win_rates(judgement.win, everyone, opponents="policy")
    np.testing.assert_allclose(rates, [0.4, 0.4, 0.7], atol=1e-12)


def test_certain_winners_have_no_logits() -> None:
    with pytest.raises(ConfigError, match="the game rps has entries of 0 or 1"):
        MatrixGames({"rps": rock_paper_scissors(3, 0.5)}, gives_logits=True)


def test_no_games_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"annotator\.games is empty"):
        MatrixGames({})
