"""Preferences that are known: a table of P(row beats column) over a few response texts.

The ground truth of experiments with a solvable game: intransitive tables (rock, paper, scissors) have no reward model.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sparring.core.errors import ConfigError, DataError
from sparring.core.preference import TOLERANCE
from sparring.core.types import Candidates, Judgement


class PayoffTable:
    """Looks responses up by their stripped text; a set with any other text is "unknown response", all ties.

    `labels` are the texts in the order of the rows. The table comes inline or from a .csv, .json or .npy file.
    """

    def __init__(
        self,
        labels: Sequence[str],
        matrix: Sequence[Sequence[float]] | None = None,
        path: str | None = None,
    ) -> None:
        if (matrix is None) == (path is None):
            raise ConfigError("A payoff table needs either annotator.matrix or annotator.path, and not both.")
        where = "annotator.matrix" if path is None else path
        self.table = _checked(_numbers(matrix, where) if path is None else _read(Path(path)), labels, where)
        self.row = {label.strip(): row for row, label in enumerate(labels)}

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [self._judge([response.text.strip() for response in candidates.responses]) for candidates in batch]

    def _judge(self, texts: list[str]) -> Judgement:
        if not all(text in self.row for text in texts):
            return Judgement(np.full((len(texts), len(texts)), 0.5), status="unknown response")
        rows = [self.row[text] for text in texts]
        return Judgement(self.table[np.ix_(rows, rows)])


def _read(path: Path) -> Float[np.ndarray, "..."]:
    try:
        if path.suffix == ".csv":
            return _numbers([line.split(",") for line in path.read_text().splitlines() if line.strip()], str(path))
        if path.suffix == ".json":
            return _numbers(json.loads(path.read_text()), str(path))
        if path.suffix == ".npy":
            return _numbers(np.load(path), str(path))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read as a payoff table ({error}).") from error
    raise ConfigError(f"{path} is no payoff table by its name; give a .csv, .json or .npy file.")


def _numbers(values: object, where: str) -> Float[np.ndarray, "..."]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is not a table of numbers ({error}); give rows of equal length.") from error


def _checked(table: Float[np.ndarray, "..."], labels: Sequence[str], where: str) -> Float[np.ndarray, "k k"]:
    """`table` with `table + table.T == 1` to the last bit."""
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise DataError(f"{where} has shape {table.shape}; a payoff table is square.")
    if len(labels) != len(table):
        raise ConfigError(f"{where} has {len(table)} rows and {len(labels)} labels; give one label per row.")
    if len({label.strip() for label in labels}) != len(labels):
        raise ConfigError(f"The labels of {where} are not unique when stripped; name every row once.")
    if not ((table >= 0) & (table <= 1)).all():  # false for NaN too
        raise DataError(f"{where} has entries outside [0, 1]; entries are probabilities that the row wins.")
    gaps = np.abs(table + table.T - 1)
    if gaps.max(initial=0) > TOLERANCE:
        i, j = np.unravel_index(gaps.argmax(), gaps.shape)
        raise DataError(
            f"{where} is not complementary: row {i + 1} beats {j + 1} with {table[i, j]:g} and is beaten with "
            f"{table[j, i]:g}; the two must add up to 1, and a row ties with itself."
        )
    return (table + 1 - table.T) / 2
