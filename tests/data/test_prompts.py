import gzip
import json
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.core.errors import ConfigError, DataError
from sparring.core.protocols import PromptSource
from sparring.data.prompts import HubPrompts, JsonlPrompts, ParquetPrompts, TablePrompts

SHARED = next((p / "shared" for p in Path(__file__).resolve().parents if (p / "shared/data").is_dir()), None)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def questions(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"prompt": f"Question {number}"} for number in range(start, start + count)]


def jsonl(path: str | list[str], cache: Path, validation: int | str = 0, **overrides: Any) -> JsonlPrompts:
    return JsonlPrompts(path, validation, cache_dir=str(cache), **{"rounds": 1, "seed": 0, "split": "same"} | overrides)


def texts(prompts: Sequence[Any]) -> list[str]:
    return [prompt.text for prompt in prompts]


def test_a_row_reaches_the_critics_whole(tmp_path: Path) -> None:
    rows = [{"prompt": "A story", "words": ["dog", "sun"], "sentences": 4, "teacher": "Once."}, {"prompt": "Another"}]
    source: PromptSource = jsonl(write(tmp_path / "a.jsonl", rows), tmp_path)
    first, second = sorted(source.for_round(0), key=lambda prompt: prompt.text)
    assert (first.teacher, dict(first.meta)) == ("Once.", {"words": ["dog", "sun"], "sentences": 4})
    assert (second.teacher, dict(second.meta)) == (None, {})


def test_rows_of_one_file_may_mix_text_and_messages(tmp_path: Path) -> None:
    rows = [{"prompt": "Text"}, {"prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]}]
    assert sorted(texts(jsonl(write(tmp_path / "a.jsonl", rows), tmp_path).for_round(0))) == ["S\n\nU", "Text"]


def test_globs_lists_and_gzip_give_the_rows_of_all_files(tmp_path: Path) -> None:
    one, two = (
        write(tmp_path / "part-1.jsonl", questions(2)),
        write(tmp_path / "part-2.jsonl.gz", questions(2, start=2)),
    )
    expected = {row["prompt"] for row in questions(4)}
    assert set(texts(jsonl(str(tmp_path / "part-*"), tmp_path / "cache").for_round(0))) == expected
    assert set(texts(jsonl([one, two], tmp_path / "cache").for_round(0))) == expected


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    write(tmp_path / "a1.jsonl", questions(1))
    path = write(tmp_path / "a[1].jsonl", questions(1, start=7))
    assert texts(jsonl(path, tmp_path / "cache").for_round(0)) == ["Question 7"]


def test_parquet_and_jsonl_of_the_same_rows_are_the_same_prompts(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(questions(9)), tmp_path / "a.parquet")
    common: dict[str, Any] = {"rounds": 2, "seed": 3, "cache_dir": str(tmp_path / "cache")}
    parquet = ParquetPrompts(str(tmp_path / "a.parquet"), 2, **common)
    lines = JsonlPrompts(write(tmp_path / "a.jsonl", questions(9)), 2, **common)
    assert list(parquet.for_round(1)) == list(lines.for_round(1))
    assert list(parquet.validation) == list(lines.validation)


def test_a_folder_in_hub_layout_gives_its_splits(tmp_path: Path) -> None:
    (tmp_path / "hub/data").mkdir(parents=True)
    for split, rows in (("train", questions(3)), ("test", questions(2, start=2))):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"hub/data/{split}-00000-of-00001.parquet")
    common: dict[str, Any] = {"rounds": 1, "seed": 0, "cache_dir": str(tmp_path / "cache")}
    prompts = HubPrompts(str(tmp_path / "hub"), "test", **common)
    assert texts(prompts.validation) == ["Question 2", "Question 3"]
    assert sorted(texts(prompts.for_round(0))) == ["Question 0", "Question 1"]  # 2 is held out by the other split
    with pytest.raises(DataError, match=r"Split 'dev' of .*hub cannot be loaded \(Unknown split"):
        HubPrompts(str(tmp_path / "hub"), "dev", **common)
    with pytest.raises(DataError, match=r"Split 'train' of .*nowhere cannot be loaded"):
        HubPrompts(str(tmp_path / "nowhere"), 0, **common)


def test_a_changed_file_is_never_answered_from_the_cache_even_with_its_old_time_and_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "old"}])
    before = os.stat(path)
    assert texts(jsonl(path, tmp_path / "cache").for_round(0)) == ["old"]
    write(tmp_path / "a.jsonl", [{"prompt": "new"}])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    assert os.stat(path).st_size == before.st_size
    assert texts(jsonl(path, tmp_path / "cache").for_round(0)) == ["new"]


def test_rows_stay_on_disk_in_the_cache_directory_that_was_asked_for(tmp_path: Path) -> None:
    source = jsonl(write(tmp_path / "a.jsonl", questions(3)), tmp_path / "cache")
    (arrow,) = source.training.table.cache_files
    assert Path(arrow["filename"]).is_relative_to(tmp_path / "cache")


def test_loading_prints_nothing_and_leaves_the_library_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    datasets.enable_progress_bars()
    level = datasets.logging.get_verbosity()
    jsonl(write(tmp_path / "a.jsonl", questions(3)), tmp_path)
    (tmp_path / "b.jsonl").write_text("not json\n")
    with pytest.raises(DataError):
        jsonl(str(tmp_path / "b.jsonl"), tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == level


def test_a_view_is_indexed_and_sliced_like_a_list(tmp_path: Path) -> None:
    view = jsonl(write(tmp_path / "a.jsonl", questions(5)), tmp_path).for_round(0)
    everything = list(view)
    assert (view[-1], list(view[1:3])) == (everything[-1], everything[1:3])
    with pytest.raises(IndexError):
        view[5]


@settings(max_examples=40, deadline=None)
@given(
    asked=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    held_out=st.integers(0, 10),
    rounds=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_no_prompt_is_in_two_rounds_or_both_trained_on_and_held_out(
    asked: list[int], held_out: int, rounds: int, seed: int
) -> None:
    different = len(set(asked))
    if different < held_out + rounds:
        with pytest.raises(ConfigError):
            from_table(asked, held_out, rounds, seed)
        return
    source = from_table(asked, held_out, rounds, seed)
    parts = [texts(source.validation), *(texts(source.for_round(index)) for index in range(rounds))]
    every = [text for part in parts for text in part]
    assert len(every) == len(set(every))
    assert len(parts[0]) == held_out
    assert {len(part) for part in parts[1:]} == {(different - held_out) // rounds}


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_rows_does_not_matter_for_what_is_held_out(order: list[int]) -> None:
    assert set(texts(from_table(order, 4, 2, 1).validation)) == set(texts(from_table(range(12), 4, 2, 1).validation))


def from_table(asked: Sequence[int], held_out: int, rounds: int, seed: int) -> TablePrompts:
    return TablePrompts(
        datasets.Dataset.from_dict({"prompt": [f"Question {number}" for number in asked]}),
        held_out,
        source="memory",
        split="disjoint",
        rounds=rounds,
        seed=seed,
        limit=None,
        prompt_column=None,
        teacher_model="gpt-4",
    )


def test_another_seed_holds_out_other_prompts() -> None:
    assert texts(from_table(range(30), 5, 1, 0).validation) != texts(from_table(range(30), 5, 1, 1).validation)


def test_prompts_of_a_validation_file_are_not_trained_on(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [*questions(4), {"prompt": "Question 1"}])
    validation = write(tmp_path / "eval.jsonl", [{"instruction": "Question 1"}, {"instruction": "Question 9"}])
    source = jsonl(train, tmp_path / "cache", validation)
    assert texts(source.validation) == ["Question 1", "Question 9"]
    assert sorted(texts(source.for_round(0))) == ["Question 0", "Question 2", "Question 3"]
    with pytest.raises(DataError, match=r"Every prompt of .* is held out"):
        jsonl(train, tmp_path / "cache", train)


def test_limit_keeps_the_first_training_rows(tmp_path: Path) -> None:
    source = jsonl(write(tmp_path / "a.jsonl", questions(9)), tmp_path, limit=3)
    assert sorted(texts(source.for_round(0))) == ["Question 0", "Question 1", "Question 2"]


def test_how_many_rows_were_dropped_can_be_read_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    # Hydra, which other tests may have started in this process, disables the loggers that are there already.
    monkeypatch.setattr(logging.getLogger("sparring.data.prompts"), "disabled", False)
    jsonl(write(tmp_path / "a.jsonl", [*questions(4), *questions(2)]), tmp_path, 1)
    assert "6 rows, 4 different prompts, 3 to train on, 1 held out" in caplog.text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "holds no rows"),
        ("\n\n", "holds no rows"),
        ('{"prompt": "a"}\n{"prompt": \n', "line 2, is not JSON"),
        ('"a"\n', "line 1, is not a JSON object"),
        ('{"prompt": "a"}\n{"prompt": " "}\n', "Row 2 of .* has no prompt in prompt: it needs text, or"),
        ('{"prompt": "a"}\n{"other": "b"}\n', "Row 2 of .* has no prompt"),
        ('{"turns": ["a"]}\n', "has columns turns, none of them"),
    ],
)
def test_a_bad_file_is_one_sentence_with_file_and_place(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(DataError, match=sentence) as raised:
        jsonl(str(tmp_path / "bad.jsonl"), tmp_path)
    assert "bad.jsonl" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_of_several_files_the_bad_one_is_named(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", questions(1))
    (tmp_path / "bad.jsonl").write_text("{}}\n")
    with pytest.raises(DataError, match=r"bad\.jsonl, line 1, is not JSON"):
        jsonl([good, str(tmp_path / "bad.jsonl")], tmp_path / "cache")


def test_a_truncated_gzip_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in questions(100)).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz cannot be read after line"):
        jsonl(str(tmp_path / "a.jsonl.gz"), tmp_path)


def test_what_is_no_parquet_file_or_has_no_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for content, sentence in ((b"PAR", "is not a Parquet file"), (None, "holds no rows")):
        if content is None:
            pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)
        else:
            path.write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            ParquetPrompts(str(path), 0, rounds=1, seed=0, cache_dir=str(tmp_path / "cache"))


def test_files_with_other_columns_make_no_table(tmp_path: Path) -> None:
    for name in ("prompt", "question"):
        pq.write_table(pa.table({name: ["Q"]}), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match="cannot be read as one table"):
        ParquetPrompts(str(tmp_path / "*.parquet"), 0, rounds=1, seed=0, cache_dir=str(tmp_path / "cache"))


def test_paths_without_files_and_impossible_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", questions(4))
    for nothing in (tmp_path, tmp_path / "missing-*.jsonl"):
        with pytest.raises(DataError, match="No file is at"):
            jsonl(str(nothing), tmp_path)
    with pytest.raises(ConfigError, match=r"4 different prompts, so 4 cannot be held out; lower prompts\.validation"):
        jsonl(path, tmp_path / "cache", 4)
    with pytest.raises(ConfigError, match=r"4 prompts cannot be split into 5 disjoint rounds"):
        jsonl(path, tmp_path / "cache", split="disjoint", rounds=5)
    for wrong in ({"limit": 0}, {"rounds": 0}, {"validation": -1}):
        with pytest.raises(ConfigError, match=rf"prompts\.{next(iter(wrong))} is"):
            jsonl(path, tmp_path / "cache", **wrong)


@pytest.mark.skipif(SHARED is None, reason="reference data is not beside the repository")
@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("prompts/helpsteer_prompts.jsonl.gz", {"prompt_column": "question"}),
        ("prompts/self_instruct_seed_tasks.jsonl.gz", {}),
        ("prompts/ifeval_input_data.jsonl.gz", {}),
        ("prompts/arena_hard_v01_questions.jsonl.gz", {}),
        ("alpaca_eval/instructions_with_gpt4_reference.jsonl.gz", {}),
    ],
)
def test_prompt_files_in_circulation_are_read_whole(tmp_path: Path, file: str, options: dict[str, str]) -> None:
    assert SHARED is not None
    with gzip.open(SHARED / "data" / file, "rt") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    column = options.get("prompt_column") or ("prompt" if "prompt" in rows[0] else "instruction")
    source = jsonl(str(SHARED / "data" / file), tmp_path, **options)
    assert set(texts(source.for_round(0))) == {row[column] for row in rows}


@pytest.mark.skipif(SHARED is None, reason="reference data is not beside the repository")
def test_a_file_of_turns_is_not_supported_and_says_so(tmp_path: Path) -> None:
    assert SHARED is not None
    with pytest.raises(DataError, match="has columns category, question_id, reference, turns"):
        jsonl(str(SHARED / "data/prompts/mt_bench_questions.jsonl"), tmp_path)
