"""Known preferences, another game for every prompt: what policies are to learn when the answer can be computed."""

from collections.abc import Mapping, Sequence

from sparring.annotators.payoff_table import judge, require_logits, unknown
from sparring.core.errors import ConfigError
from sparring.core.types import Candidates, Judgement
from sparring.games.matrix import MatrixGame


class MatrixGames:
    """Looks up the game that a prompt names in `meta["game"]`, and there the responses by their stripped text.

    A set with another text is "unknown response", a prompt of another game "unknown game"; both are all ties. With
    `gives_logits` judgements carry the log-odds, as a pair ranker's do, so that every win-rate mode can be tried.
    """

    def __init__(self, games: Mapping[str, MatrixGame], gives_logits: bool = False) -> None:
        if not games:
            raise ConfigError("annotator.games is empty; give games by name, or use experiment=nash_lab.")
        self.games = games
        self.gives_logits = gives_logits
        if gives_logits:
            for name, game in games.items():
                require_logits(game, f"the game {name}")

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [self._judge(candidates) for candidates in batch]

    def _judge(self, candidates: Candidates) -> Judgement:
        game = self.games.get(candidates.prompt.meta.get("game", ""))
        return unknown(candidates, "unknown game") if game is None else judge(game, candidates, self.gives_logits)
