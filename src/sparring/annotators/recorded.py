"""Judgements that were made before, from a file or from the round of a finished run; nothing is asked anew.

Two kinds of rows, JSON Lines or Parquet, both with `prompt_id` or `prompt` (the text):
`response` and `score`, on the recorder's own scale; or `response_a`, `response_b` and `win`, which is P(a beats b).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from sparring.core.errors import ConfigError, DataError
from sparring.core.jsonl import read_jsonl
from sparring.core.preference import bradley_terry
from sparring.core.types import Candidates, Judgement

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Record:
    """All that was recorded of the responses to one prompt; repeated rows are kept, to be averaged."""

    scores: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wins: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))


class Recorded:
    """Looks responses up by their stripped text; a set with an entry missing is "not recorded", all ties.

    Where pairs of a prompt are recorded they decide: P(a beats b) is the mean of what both orders say, or what the
    only recorded order says. Else scores do, by Bradley-Terry with `temperature` in units of the score. `path` may
    also be the directory of a round, which has `candidates.parquet` and `judgements.parquet`.
    """

    def __init__(self, path: str, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ConfigError(f"annotator.temperature is {temperature}; give a positive number, in units of the score.")
        self.temperature = temperature
        self.records: dict[str, _Record] = defaultdict(_Record)
        for number, row in enumerate(_rows(Path(path).expanduser()), start=1):
            where = f"Row {number} of {path}"
            record = self.records[_text(row, "prompt_id" if row.get("prompt_id") else "prompt", where)]
            if row.get("win") is None:
                record.scores[_text(row, "response", where)].append(_number(row, "score", where))
            else:
                ordered = _text(row, "response_a", where), _text(row, "response_b", where)
                record.wins[ordered].append(_probability(row, "win", where))
        if not self.records:
            raise DataError(f"{path} holds no judgements; give a file with scores or wins.")

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [self._judge(candidates) for candidates in batch]

    def _judge(self, candidates: Candidates) -> Judgement:
        texts = [response.text.strip() for response in candidates.responses]
        named = (self.records.get(name) for name in (candidates.prompt.id, candidates.prompt.text.strip()))
        record = next((record for record in named if record is not None), _Record())
        scores = _scores(record, texts)
        if record.wins:
            win = _win_matrix(record, texts)
        else:
            win = None if scores is None else bradley_terry(np.array(scores), self.temperature)
        if win is None:
            return Judgement(np.full((len(texts), len(texts)), 0.5), status="not recorded")
        return Judgement(win, scores)


def _scores(record: _Record, texts: Sequence[str]) -> tuple[float, ...] | None:
    """Mean score of each text, or None where one has none."""
    if not all(text in record.scores for text in texts):
        return None
    return tuple(fmean(record.scores[text]) for text in texts)


def _win_matrix(record: _Record, texts: Sequence[str]) -> Float[np.ndarray, "k k"] | None:
    win = np.full((len(texts), len(texts)), 0.5)
    for (i, a), (j, b) in combinations(enumerate(texts), 2):
        if a == b:
            continue
        orders = [fmean(record.wins[a, b])] if (a, b) in record.wins else []
        orders += [1 - fmean(record.wins[b, a])] if (b, a) in record.wins else []
        if not orders:
            return None
        win[i, j] = fmean(orders)
        win[j, i] = 1 - win[i, j]
    return win


def _rows(path: Path) -> Iterable[Row]:
    if path.is_dir():
        return _round_rows(path)
    return _parquet(path) if path.suffix == ".parquet" else read_jsonl(path)


def _round_rows(directory: Path) -> Iterator[Row]:
    """A round's judgements as rows of both kinds; judgements whose status is not "ok" say nothing."""
    texts: dict[str, dict[int, str]] = defaultdict(dict)
    for row in _parquet(directory / "candidates.parquet", ["prompt_id", "index", "text"]):
        texts[row["prompt_id"]][row["index"]] = row["text"]
    for row in _parquet(directory / "judgements.parquet", ["prompt_id", "win", "scores", "status"]):
        if row["status"] != "ok":
            continue
        name, said = row["prompt_id"], texts[row["prompt_id"]]
        for i, score in enumerate(row["scores"] or ()):
            yield {"prompt_id": name, "response": said[i], "score": score}
        for i, j in combinations(range(len(row["win"])), 2):
            yield {"prompt_id": name, "response_a": said[i], "response_b": said[j], "win": row["win"][i][j]}


def _parquet(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    try:
        return pq.read_table(path, columns=columns).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as a Parquet file of judgements ({error}).") from error


def _text(row: Row, column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise DataError(
            f"{where} has no text in {column!r}; give prompt_id or prompt with response and score, or with response_a, "
            "response_b and win."
        )
    return value.strip()


def _number(row: Row, column: str, where: str) -> float:
    value = row.get(column)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DataError(f"{where} has {value!r} as {column!r}; give a number.")
    return float(value)


def _probability(row: Row, column: str, where: str) -> float:
    value = _number(row, column, where)
    if not 0 <= value <= 1:
        raise DataError(f"{where} has {column!r} = {value:g}; give a probability, between 0 and 1.")
    return value
