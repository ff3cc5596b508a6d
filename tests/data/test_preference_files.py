import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparring.core.errors import DataError
from sparring.core.files import write_json
from sparring.core.identity import prompt_id
from sparring.core.types import Message, Prompt
from sparring.data.preference_files import Preference, is_pairs_table, own_pairs, preferences, write_preferences
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


def asks(*messages: Message) -> Prompt:
    return Prompt(prompt_id(messages), messages)


PAIRS_TO_WRITE = [
    Preference(asks(Message("user", "Why?")), "Yes.", "", (8.0, 6.5)),
    Preference(asks(Message("user", "Wer war's?\u2028")), "Ich \U0001f600", '{"no": 1}', None),
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize("conversational", [True, False])
def test_what_is_written_is_read_again(tmp_path, name, conversational):
    write_preferences(tmp_path / name, PAIRS_TO_WRITE, conversational=conversational)
    read = [(pair.prompt.id, pair.chosen, pair.rejected, pair.ratings) for pair in preferences(tmp_path / name)]
    assert read == [(pair.prompt.id, pair.chosen, pair.rejected, pair.ratings) for pair in PAIRS_TO_WRITE]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_conversations_with_several_turns_are_written_whole(tmp_path, name):
    prompt = asks(Message("system", "S"), Message("user", "A"), Message("assistant", "B"), Message("user", "C"))
    pair = Preference(prompt, "Yes.", "No.", None)
    write_preferences(tmp_path / name, [pair], conversational=True)
    [read] = preferences(tmp_path / name)
    assert (read.prompt.messages, read.chosen, read.rejected) == (prompt.messages, "Yes.", "No.")
    with pytest.raises(DataError, match=r"is a conversation, .*; write conversational rows\.$"):
        write_preferences(tmp_path / f"plain-{name}", [pair], conversational=False)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize("conversational", [True, False])
def test_the_datasets_library_loads_the_columns_that_trl_wants(tmp_path, name, conversational):
    write_preferences(tmp_path / name, PAIRS_TO_WRITE, conversational=conversational)
    format = "json" if name.endswith("jsonl") else "parquet"
    cache = str(tmp_path / "cache")
    table = datasets.load_dataset(format, data_files=str(tmp_path / name), split="train", cache_dir=cache)
    assert set(table.column_names) == {"prompt", "chosen", "rejected", "score_chosen", "score_rejected"}
    first = table[0]
    if conversational:
        assert (first["prompt"], first["chosen"], first["rejected"]) == ([ASKED], [said("Yes.")], [said("")])
    else:
        assert (first["prompt"], first["chosen"], first["rejected"]) == ("Why?", "Yes.", "")
    assert table["score_chosen"][:] == [8.0, None]


def test_a_name_that_says_no_format_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a.csv ends in neither .jsonl nor .parquet"):
        write_preferences(tmp_path / "a.csv", PAIRS_TO_WRITE, conversational=True)
