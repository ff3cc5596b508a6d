"""Prompts that name games: the policy's answer is an action, and the solution can be computed."""

from collections.abc import Mapping, Sequence

from sparring.core.errors import ConfigError
from sparring.core.identity import prompt_id
from sparring.core.types import Message, Prompt
from sparring.games.matrix import MatrixGame


class GamePrompts:
    """One prompt per game, the same in every round. Nothing is held out: the policy is measured exactly instead."""

    def __init__(self, games: Mapping[str, MatrixGame]) -> None:
        if not games:
            raise ConfigError("prompts.games is empty; give games by name, or use experiment=nash_lab.")
        self._prompts = [_prompt(name) for name in games]

    @property
    def validation(self) -> Sequence[Prompt]:
        return []

    def for_round(self, index: int) -> Sequence[Prompt]:
        return self._prompts


def _prompt(game: str) -> Prompt:
    messages = (Message("user", game),)
    return Prompt(prompt_id(messages), messages, meta={"game": game})
