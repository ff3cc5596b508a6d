"""Recorded pairs at rest: pairs tables of sparring itself, and preference data as TRL lays it out.

TRL's rows have `chosen` and `rejected`, as text or messages, and `prompt` unless both begin with the same turns.
Ratings are `score_chosen` and `score_rejected`, or `chosen_rating` and `rejected_rating`. JSON Lines or Parquet.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparring.core.errors import DataError
from sparring.core.files import atomic_path, read_json
from sparring.core.jsonl import read_jsonl
from sparring.core.types import Prompt
from sparring.data.prompt_formats import Layout, detect_layout, to_prompt
from sparring.data.rounds import read_rows, write_parquet

Row = Mapping[str, Any]

_MESSAGES = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
_RATINGS = (("score_chosen", "score_rejected"), ("chosen_rating", "rejected_rating"))


@dataclass(frozen=True, slots=True)
class Preference:
    """`ratings` are those of chosen and rejected, where both are given."""

    prompt: Prompt
    chosen: str
    rejected: str
    ratings: tuple[float, float] | None


def is_pairs_table(path: Path) -> bool:
    """Whether a file is a table of the schema PAIRS, with tokens in it."""
    if path.suffix != ".parquet":
        return False
    try:
        return {"prompt_ids", "chosen_ids", "rejected_ids"} <= set(pq.read_schema(path).names)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as a Parquet file ({error}).") from error


def own_pairs(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a pairs table; of a round's without those replayed from earlier rounds, which their rounds hold."""
    manifest = path.with_name("manifest.json")
    facts = read_json(manifest) if manifest.exists() else {"funnel": {}}
    replays = facts["funnel"].get("replayed", 0) > 0
    return (row for row in read_rows(path) if not replays or row["source_round"] == facts["round"])


def preferences(path: Path) -> Iterator[Preference]:
    """Rows of a file in TRL's format; one that is not names itself in a `DataError`."""
    return preferences_of(read_rows(path) if path.suffix == ".parquet" else read_jsonl(path), path)


def preferences_of(rows: Iterable[Row], path: Path) -> Iterator[Preference]:
    layout: Layout | None = None
    columns: list[str] = []
    for number, row in enumerate(rows, start=1):
        if layout is None:
            columns = list(row)
            if not {"chosen", "rejected"} <= row.keys():
                raise DataError(
                    f"{path} has columns {', '.join(sorted(columns))}, not chosen and rejected; give a pairs table of "
                    "sparring, or rows with prompt, chosen and rejected."
                )
            layout = detect_layout(columns, prompt_column=None, teacher_model="", source=str(path))
        yield _preference({**dict.fromkeys(columns), **row}, layout, f"row {number} of {path}")


def write_preferences(path: Path, pairs: Iterable[Preference], *, conversational: bool) -> int:
    """An explicit-prompt preference data set of TRL, as JSON Lines or Parquet by the name; returns how many rows.

    Scores are null where pairs are not rated. What is not conversational is text to TRL, which puts prompt and answer
    one after the other without a template.
    """
    rows = (_trl_row(pair, conversational) for pair in pairs)
    if path.suffix == ".parquet":
        text = _MESSAGES if conversational else pa.string()
        columns = dict.fromkeys(("prompt", "chosen", "rejected"), text) | dict.fromkeys(_RATINGS[0], pa.float64())
        return write_parquet(path, pa.schema(columns), rows)
    if path.suffix != ".jsonl":
        raise DataError(f"{path} ends in neither .jsonl nor .parquet; give a name that does.")
    written = 0
    with atomic_path(path) as temporary, temporary.open("w") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
            written += 1
    return written


def _trl_row(pair: Preference, conversational: bool) -> dict[str, Any]:
    messages = pair.prompt.messages
    row: dict[str, Any] = dict(zip(_RATINGS[0], pair.ratings or (None, None), strict=True))
    if conversational:
        row["prompt"] = [{"role": message.role, "content": message.content} for message in messages]
        for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            row[side] = [{"role": "assistant", "content": text}]
        return row
    if [message.role for message in messages] != ["user"]:
        raise DataError(
            f"Prompt {pair.prompt.id} is a conversation, whose turns plain text cannot tell apart; write "
            "conversational rows."
        )
    return row | {"prompt": messages[0].content, "chosen": pair.chosen, "rejected": pair.rejected}


def _preference(row: Row, layout: Layout, where: str) -> Preference:
    prompt = to_prompt(row, layout)
    if not prompt.messages:
        raise DataError(f"{where} has no prompt; give {layout.needs}.")
    implicit = len(prompt.messages) if "chosen" in layout.columns else None
    chosen, rejected = (_answer(row[side], implicit, f"{side} of {where}") for side in ("chosen", "rejected"))
    return Preference(prompt, chosen, rejected, _ratings(row, where))


def _answer(value: object, turns_before: int | None, where: str) -> str:
    """Text, or the last of the messages, which must be the assistant's one after the prompt."""
    if isinstance(value, str):
        return value
    last = value[-1] if isinstance(value, list) and value else None
    if isinstance(last, Mapping) and last.get("role") == "assistant" and isinstance(last.get("content"), str):
        if turns_before is None or len(value) == turns_before + 1:  # pyright: ignore[reportArgumentType]
            return last["content"]
        raise DataError(f"{where} has several turns after the prompt; give one answer of the assistant.")
    raise DataError(f"{where} is no answer; give text, or messages that end with the assistant's.")


def _ratings(row: Row, where: str) -> tuple[float, float] | None:
    for names in _RATINGS:
        values = [row.get(name) for name in names]
        if None in values:
            continue
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            raise DataError(f"{where} has {values[0]!r} and {values[1]!r} as {' and '.join(names)}; give numbers.")
        return float(values[0]), float(values[1])  # pyright: ignore[reportArgumentType]
    return None
