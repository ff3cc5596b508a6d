"""Preferences that are known: a table of P(row beats column) over a few response texts.

The ground truth of experiments with a solvable game: intransitive tables (rock, paper, scissors) have no reward model.
`matrix_games.py` has a game per prompt.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sparring.core.errors import ConfigError, DataError
from sparring.core.types import Candidates, Judgement
from sparring.games.catalogue import numbers
from sparring.games.matrix import MatrixGame, checked_table


class PayoffTable:
    """Looks responses up by their stripped text; a set with any other text is "unknown response", all ties.

    `labels` are the texts in the order of the rows. The table comes inline or from a .csv, .json or .npy file. With
    `gives_logits` judgements carry the log-odds, as a pair ranker's do, so that every win-rate mode can be tried.
    """

    def __init__(
        self,
        labels: Sequence[str],
        matrix: Sequence[Sequence[float]] | None = None,
        path: str | None = None,
        gives_logits: bool = False,
    ) -> None:
        if (matrix is None) == (path is None):
            raise ConfigError("A payoff table needs either annotator.matrix or annotator.path, and not both.")
        where = "annotator.matrix" if path is None else path
        self.table = checked_table(numbers(matrix, where) if path is None else _read(Path(path)), labels, where)
        self.game = MatrixGame(tuple(labels), self.table)
        self.gives_logits = gives_logits
        if gives_logits:
            require_logits(self.game, where)

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [judge(self.game, candidates, self.gives_logits) for candidates in batch]


def judge(game: MatrixGame, candidates: Candidates, gives_logits: bool) -> Judgement:
    """The game's own entries for the candidates' texts."""
    row = {label.strip(): number for number, label in enumerate(game.labels)}
    texts = [response.text.strip() for response in candidates.responses]
    if not all(text in row for text in texts):
        return unknown(candidates, "unknown response")
    rows = [row[text] for text in texts]
    win = game.win[np.ix_(rows, rows)]
    return Judgement(win, logits=np.log(win / (1 - win)) if gives_logits else None)


def unknown(candidates: Candidates, status: str) -> Judgement:
    count = len(candidates.responses)
    return Judgement(np.full((count, count), 0.5), status=status)


def require_logits(game: MatrixGame, where: str) -> None:
    if not game.interior:
        raise ConfigError(
            f"{where} has entries of 0 or 1, which have no logit; soften them, or set gives_logits=false."
        )


def _read(path: Path) -> Float[np.ndarray, "..."]:
    try:
        if path.suffix == ".csv":
            return numbers([line.split(",") for line in path.read_text().splitlines() if line.strip()], str(path))
        if path.suffix == ".json":
            return numbers(json.loads(path.read_text()), str(path))
        if path.suffix == ".npy":
            return numbers(np.load(path), str(path))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read as a payoff table ({error}).") from error
    raise ConfigError(f"{path} is no payoff table by its name; give a .csv, .json or .npy file.")
