"""Judgements that were made before, from a file or from the round of a finished run; nothing is asked anew.

Three kinds of rows, JSON Lines or Parquet, all with `prompt_id` or `prompt` (the text):
`response` and `score`, on the recorder's own scale; `response_a`, `response_b` and `win`, which is P(a beats b); or
`response_a`, `response_b` and `logit`, a pair ranker's answer with a shown first.
Only the numbers stay in memory, under digests of the texts.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from sparring.core.errors import ConfigError, DataError
from sparring.core.jsonl import read_jsonl
from sparring.core.preference import bradley_terry, symmetrised
from sparring.core.types import Candidates, Judgement

Row = Mapping[str, Any]
Digest = bytes  # of 16 bytes
Said = tuple[Digest, ...]  # a prompt and its one response, which has a score, or its two, of which the first may win
Kind = Literal["score", "win", "logit"]

BATCH = 1024  # rows of a Parquet file in memory at once
READ_BYTES = 1 << 20  # of a column, before it is decoded
FILE_COLUMNS = ("prompt_id", "prompt", "response", "score", "response_a", "response_b", "win", "logit")


class Recorded:
    """Looks responses up by their stripped text; a set with an entry missing is "not recorded", all ties.

    Where pairs of a prompt are recorded they decide: P(a beats b) is the mean of what both orders say, or what the
    only recorded order says. Else scores do, by Bradley-Terry with `temperature` in units of the score. Logits of a
    prompt go before both: all ordered pairs of different texts must be there, and their matrix is passed on. `path`
    may also be the directory of a round, which has `candidates.parquet` and `judgements.parquet`.
    """

    def __init__(self, path: str, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ConfigError(f"annotator.temperature is {temperature}; give a positive number, in units of the score.")
        self.temperature = temperature
        # Under the joined digests of prompt and response, or prompt, a and b; repeated rows are kept, to be averaged.
        self.values: dict[Kind, dict[bytes, tuple[float, ...]]] = {"score": {}, "win": {}, "logit": {}}
        self.prompts: dict[Digest, set[Kind]] = defaultdict(set)
        for kind, said, value in _entries(Path(path).expanduser()):
            key = b"".join(said)
            self.values[kind][key] = (*self.values[kind].get(key, ()), value)
            self.prompts[said[0]].add(kind)
        if not self.prompts:
            raise DataError(f"{path} holds no judgements; give a file with scores, wins or logits.")

    @property
    def gives_logits(self) -> bool:
        return bool(self.values["logit"])

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [self._judge(candidates) for candidates in batch]

    def _judge(self, candidates: Candidates) -> Judgement:
        texts = [_digest(response.text) for response in candidates.responses]
        named = (_digest(candidates.prompt.id), _digest(candidates.prompt.text))
        prompt = next((name for name in named if name in self.prompts), named[0])
        kinds = self.prompts.get(prompt, ())
        scores, logits = self._scores(prompt, texts), self._logits(prompt, texts) if "logit" in kinds else None
        if "logit" in kinds:
            win = None if logits is None else symmetrised(logits)
        elif "win" in kinds:
            win = self._win_matrix(prompt, texts)
        else:
            win = None if scores is None else bradley_terry(np.array(scores), self.temperature)
        if win is None:
            return Judgement(np.full((len(texts), len(texts)), 0.5), status="not recorded")
        return Judgement(win, scores, logits=logits)

    def _value(self, kind: Kind, *said: Digest) -> float | None:
        values = self.values[kind].get(b"".join(said))
        return None if values is None else fmean(values)

    def _scores(self, prompt: Digest, texts: Sequence[Digest]) -> tuple[float, ...] | None:
        """Mean score of each text, or None where one has none."""
        scores = tuple(score for text in texts if (score := self._value("score", prompt, text)) is not None)
        return scores if len(scores) == len(texts) else None

    def _win_matrix(self, prompt: Digest, texts: Sequence[Digest]) -> Float[np.ndarray, "k k"] | None:
        win = np.full((len(texts), len(texts)), 0.5)
        for (i, a), (j, b) in combinations(enumerate(texts), 2):
            if a == b:
                continue
            forth, back = self._value("win", prompt, a, b), self._value("win", prompt, b, a)
            orders = [order for order in (forth, None if back is None else 1 - back) if order is not None]
            if not orders:
                return None
            win[i, j] = fmean(orders)
            win[j, i] = 1 - win[i, j]
        return win

    def _logits(self, prompt: Digest, texts: Sequence[Digest]) -> Float[np.ndarray, "k k"] | None:
        """What was answered to each ordered pair, 0 for a text and itself, or None where an answer is missing."""
        logits = np.zeros((len(texts), len(texts)))
        for (i, a), (j, b) in permutations(enumerate(texts), 2):
            if a == b:
                continue
            answer = self._value("logit", prompt, a, b)
            if answer is None:
                return None
            logits[i, j] = answer
        return logits


def _digest(text: str) -> Digest:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).digest()[:16]


def _entries(path: Path) -> Iterator[tuple[Kind, Said, float]]:
    if path.is_dir():
        return _round_entries(path)
    rows = _parquet(path, FILE_COLUMNS) if path.suffix == ".parquet" else read_jsonl(path)
    return (_entry(row, f"Row {number} of {path}") for number, row in enumerate(rows, start=1))


def _entry(row: Row, where: str) -> tuple[Kind, Said, float]:
    prompt = _text(row, "prompt_id" if row.get("prompt_id") else "prompt", where)
    kind: Kind = "logit" if row.get("logit") is not None else "win" if row.get("win") is not None else "score"
    if kind == "score":
        return kind, (prompt, _text(row, "response", where)), _number(row.get("score"), "score", where)
    said = (prompt, _text(row, "response_a", where), _text(row, "response_b", where))
    return kind, said, (_probability if kind == "win" else _number)(row[kind], kind, where)


def _round_entries(directory: Path) -> Iterator[tuple[Kind, Said, float]]:
    """A round's judgements, as scores and as logits or wins; judgements whose status is not "ok" say nothing."""
    texts: dict[Digest, dict[int, Digest]] = defaultdict(dict)
    for row in _parquet(directory / "candidates.parquet", ("prompt_id", "index", "text")):
        texts[_digest(row["prompt_id"])][row["index"]] = _digest(row["text"])
    for row in _parquet(directory / "judgements.parquet", ("prompt_id", "win", "scores", "status", "logits")):
        if row["status"] != "ok":
            continue
        prompt, where = _digest(row["prompt_id"]), f"The judgement of prompt {row['prompt_id']} in {directory}"
        said, size = texts[prompt], len(row["win"])
        for i, score in enumerate(row["scores"] or ()):
            yield "score", (prompt, said[i]), _number(score, "scores", where)
        if row.get("logits") is not None:
            for i, j in permutations(range(size), 2):
                yield "logit", (prompt, said[i], said[j]), _number(row["logits"][i][j], "logits", where)
            continue
        for i, j in combinations(range(size), 2):
            yield "win", (prompt, said[i], said[j]), _probability(row["win"][i][j], "win", where)


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
            "response_b and win or logit."
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
