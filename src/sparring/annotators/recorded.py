"""Judgements that were made before, from a file or from the round of a finished run; nothing is asked anew.

Two kinds of rows, JSON Lines or Parquet, both with `prompt_id` or `prompt` (the text):
`response` and `score`, on the recorder's own scale; or `response_a`, `response_b` and `win`, which is P(a beats b).
Only the numbers stay in memory, under digests of the texts.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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
Digest = bytes  # of 16 bytes
Said = tuple[Digest, ...]  # a prompt and its one response, which has a score, or its two, of which the first may win

BATCH = 1024  # rows of a Parquet file in memory at once
READ_BYTES = 1 << 20  # of a column, before it is decoded
FILE_COLUMNS = ("prompt_id", "prompt", "response", "score", "response_a", "response_b", "win")


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
        # Under the joined digests of prompt and response, or prompt, a and b; repeated rows are kept, to be averaged.
        self.values: dict[bytes, tuple[float, ...]] = {}
        self.prompts: set[Digest] = set()
        self.compared: set[Digest] = set()  # the prompts that have wins
        for said, value in _entries(Path(path).expanduser()):
            key = b"".join(said)
            self.values[key] = (*self.values.get(key, ()), value)
            self.prompts.add(said[0])
            if len(said) == 3:
                self.compared.add(said[0])
        if not self.values:
            raise DataError(f"{path} holds no judgements; give a file with scores or wins.")

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [self._judge(candidates) for candidates in batch]

    def _judge(self, candidates: Candidates) -> Judgement:
        texts = [_digest(response.text) for response in candidates.responses]
        named = (_digest(candidates.prompt.id), _digest(candidates.prompt.text))
        prompt = next((name for name in named if name in self.prompts), named[0])
        scores = self._scores(prompt, texts)
        if prompt in self.compared:
            win = self._win_matrix(prompt, texts)
        else:
            win = None if scores is None else bradley_terry(np.array(scores), self.temperature)
        if win is None:
            return Judgement(np.full((len(texts), len(texts)), 0.5), status="not recorded")
        return Judgement(win, scores)

    def _scores(self, prompt: Digest, texts: Sequence[Digest]) -> tuple[float, ...] | None:
        """Mean score of each text, or None where one has none."""
        if not all(prompt + text in self.values for text in texts):
            return None
        return tuple(fmean(self.values[prompt + text]) for text in texts)

    def _win_matrix(self, prompt: Digest, texts: Sequence[Digest]) -> Float[np.ndarray, "k k"] | None:
        win = np.full((len(texts), len(texts)), 0.5)
        for (i, a), (j, b) in combinations(enumerate(texts), 2):
            if a == b:
                continue
            orders = [fmean(self.values[prompt + a + b])] if prompt + a + b in self.values else []
            orders += [1 - fmean(self.values[prompt + b + a])] if prompt + b + a in self.values else []
            if not orders:
                return None
            win[i, j] = fmean(orders)
            win[j, i] = 1 - win[i, j]
        return win


def _digest(text: str) -> Digest:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).digest()[:16]


def _entries(path: Path) -> Iterator[tuple[Said, float]]:
    if path.is_dir():
        return _round_entries(path)
    rows = _parquet(path, FILE_COLUMNS) if path.suffix == ".parquet" else read_jsonl(path)
    return (_entry(row, f"Row {number} of {path}") for number, row in enumerate(rows, start=1))


def _entry(row: Row, where: str) -> tuple[Said, float]:
    prompt = _text(row, "prompt_id" if row.get("prompt_id") else "prompt", where)
    if row.get("win") is None:
        return (prompt, _text(row, "response", where)), _number(row.get("score"), "score", where)
    said = (prompt, _text(row, "response_a", where), _text(row, "response_b", where))
    return said, _probability(row["win"], "win", where)


def _round_entries(directory: Path) -> Iterator[tuple[Said, float]]:
    """A round's judgements, as scores and as wins; judgements whose status is not "ok" say nothing."""
    texts: dict[Digest, dict[int, Digest]] = defaultdict(dict)
    for row in _parquet(directory / "candidates.parquet", ("prompt_id", "index", "text")):
        texts[_digest(row["prompt_id"])][row["index"]] = _digest(row["text"])
    for row in _parquet(directory / "judgements.parquet", ("prompt_id", "win", "scores", "status")):
        if row["status"] != "ok":
            continue
        prompt, where = _digest(row["prompt_id"]), f"The judgement of prompt {row['prompt_id']} in {directory}"
        said = texts[prompt]
        for i, score in enumerate(row["scores"] or ()):
            yield (prompt, said[i]), _number(score, "scores", where)
        for i, j in combinations(range(len(row["win"])), 2):
            yield (prompt, said[i], said[j]), _probability(row["win"][i][j], "win", where)


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    try:
        # Arrow's defaults would hold the whole file, or a whole row group of it.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
            for batch in file.iter_batches(BATCH, columns=list(columns)):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as a Parquet file of judgements ({error}).") from error


def _text(row: Row, column: str, where: str) -> Digest:
    value = row.get(column)
    if not isinstance(value, str):
        raise DataError(
            f"{where} has no text in {column!r}; give prompt_id or prompt with response and score, or with response_a, "
            "response_b and win."
        )
    return _digest(value)


def _number(value: object, column: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DataError(f"{where} has {value!r} as {column!r}; give a number.")
    return float(value)


def _probability(value: object, column: str, where: str) -> float:
    number = _number(value, column, where)
    if not 0 <= number <= 1:
        raise DataError(f"{where} has {column!r} = {number:g}; give a probability, between 0 and 1.")
    return number
