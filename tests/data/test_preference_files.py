import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparring.core.errors import DataError
from sparring.core.files import write_json
from sparring.core.identity import prompt_id
from sparring.core.types import Message
from sparring.data.preference_files import is_pairs_table, own_pairs, preferences
from sparring.data.schema import PAIRS

ASKED = {"role": "user", "content": "Why?"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": [ASKED], "chosen": [said("Yes.")], "rejected": [said("No.")]},
        {"prompt": "Why?", "chosen": [ASKED, said("Yes.")], "rejected": [ASKED, said("No.")]},
        {"chosen": [ASKED, said("Yes.")], "rejected": [ASKED, said("No.")]},
    ],
)
def test_every_layout_of_trl_is_the_same_pair(tmp_path, name, row):
    [pair] = preferences(write(tmp_path / name, row))
    assert pair.prompt.messages == (Message("user", "Why?"),)
    assert pair.prompt.id == prompt_id(pair.prompt.messages)
    assert (pair.chosen, pair.rejected, pair.ratings) == ("Yes.", "No.", None)


@pytest.mark.parametrize("names", [("score_chosen", "score_rejected"), ("chosen_rating", "rejected_rating")])
def test_ratings_go_by_either_pair_of_names(tmp_path, names):
    row = {"prompt": "Why?", "chosen": "Yes.", "rejected": "No."} | dict(zip(names, (8, 6.5), strict=True))
    [pair] = preferences(write(tmp_path / "a.jsonl", row))
    assert pair.ratings == (8.0, 6.5)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "Why?", "answer": "Yes."}, "has columns answer, prompt, not chosen and rejected"),
        ({"prompt": "", "chosen": "Yes.", "rejected": "No."}, "row 1 of .* has no prompt"),
        ({"prompt": "Why?", "chosen": "Yes.", "rejected": None}, "rejected of row 1 of .* is no answer"),
        ({"prompt": "Why?", "chosen": [ASKED], "rejected": "No."}, "chosen of row 1 .* is no answer"),
        (
            {"chosen": [ASKED, said("Yes."), ASKED, said("Why?")], "rejected": [ASKED, said("No.")]},
            "chosen of row 1 .* has several turns",
        ),
        (
            {"prompt": "Why?", "chosen": "Yes.", "rejected": "No.", "score_chosen": "8", "score_rejected": 1},
            "has '8' and 1 as score_chosen and score_rejected; give numbers",
        ),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path, row, sentence):
    with pytest.raises(DataError, match=sentence):
        list(preferences(write(tmp_path / "a.jsonl", row)))


def test_a_pairs_table_is_known_by_its_tokens(tmp_path):
    pq.write_table(PAIRS.empty_table(), tmp_path / "pairs.parquet")
    assert is_pairs_table(tmp_path / "pairs.parquet")
    assert not is_pairs_table(write(tmp_path / "b.parquet", {"prompt": "Why?", "chosen": "a", "rejected": "b"}))
    assert not is_pairs_table(tmp_path / "c.jsonl")
    (tmp_path / "d.parquet").write_text("no table")
    with pytest.raises(DataError, match=r"d.parquet cannot be read as a Parquet file"):
        is_pairs_table(tmp_path / "d.parquet")


def test_of_a_round_with_replayed_pairs_only_its_own_are_read(tmp_path):
    rows = [{"prompt_id": str(source), "source_round": source} for source in (0, 1, 1)]
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(rows, PAIRS), path)
    assert [row["source_round"] for row in own_pairs(path)] == [0, 1, 1]
    write_json(tmp_path / "manifest.json", {"round": 1, "funnel": {"replayed": 1}})
    assert [row["source_round"] for row in own_pairs(path)] == [1, 1]
    write_json(tmp_path / "manifest.json", {"round": 0, "funnel": {"replayed": 0}})  # a union of rounds
    assert len(list(own_pairs(path))) == 3
