import pytest

from sparring.core.errors import ConfigError
from sparring.data.games import GamePrompts
from sparring.games.catalogue import bradley_terry, rock_paper_scissors


def test_every_round_asks_one_prompt_for_each_game_and_none_is_held_out() -> None:
    prompts = GamePrompts({"rps": rock_paper_scissors(), "ladder": bradley_terry([0.0, 1.0])})
    first = prompts.for_round(0)
    assert [(prompt.text, prompt.meta["game"]) for prompt in first] == [("rps", "rps"), ("ladder", "ladder")]
    assert prompts.for_round(7) == prompts.for_round(0)
    assert len({prompt.id for prompt in prompts.for_round(0)}) == 2
    assert len(prompts.validation) == 0


def test_no_games_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"prompts\.games is empty"):
        GamePrompts({})
