import gzip
import json
import math
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparring.annotators.recorded import Recorded
from sparring.core.errors import ConfigError, DataError
from sparring.core.types import Candidates, Message, Prompt, Response


def candidates(*texts: str) -> Candidates:
    prompt = Prompt("id-1", (Message("user", "Why?"),))
    return Candidates(prompt, (), tuple(Response(text, (), "policy", "stop", 0.0) for text in texts))


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)


def scored(**scores: float) -> list[dict[str, Any]]:
    return [{"prompt_id": "id-1", "response": text, "score": score} for text, score in scores.items()]


def beats(a: str, b: str, win: float) -> dict[str, Any]:
    return {"prompt_id": "id-1", "response_a": a, "response_b": b, "win": win}


def test_scores_become_bradley_terry_wins_and_stay_beside_them(tmp_path: Path) -> None:
    recorded = Recorded(write(tmp_path / "a.jsonl", scored(a=3.0, b=1.0)), temperature=2.0)
    (judgement,) = recorded([candidates("b", "a ")])
    assert judgement.scores == (1.0, 3.0)
    assert judgement.win[1, 0] == pytest.approx(1 / (1 + math.exp(-1)))  # (3 - 1) / 2
    assert (judgement.status, judgement.calls) == ("ok", 0)


def test_both_recorded_orders_are_averaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [beats("a", "b", 0.9), beats("b", "a", 0.3)])
    (judgement,) = Recorded(path)([candidates("a", "b")])
    np.testing.assert_allclose(judgement.win, [[0.5, 0.8], [0.2, 0.5]])  # (0.9 + 1 - 0.3) / 2
    assert judgement.scores is None


def test_an_order_that_was_recorded_twice_does_not_outweigh_the_other(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [beats("a", "b", 1.0), beats("a", "b", 0.8), beats("b", "a", 0.9)])
    assert Recorded(path)([candidates("a", "b")])[0].win[0, 1] == pytest.approx(0.5)  # (0.9 + 0.1) / 2


def test_one_recorded_order_says_the_other_and_equal_texts_tie(tmp_path: Path) -> None:
    (judgement,) = Recorded(write(tmp_path / "a.jsonl", [beats("a", "b", 0.75)]))([candidates("b", "a", "b")])
    np.testing.assert_array_equal(judgement.win, [[0.5, 0.25, 0.5], [0.75, 0.5, 0.75], [0.5, 0.25, 0.5]])


@pytest.mark.parametrize("rows", [scored(a=1.0, b=2.0), [beats("a", "b", 0.5), beats("a", "c", 0.5)]])
def test_a_set_with_a_missing_entry_is_not_recorded_and_says_nothing(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    missing, whole = Recorded(write(tmp_path / "a.jsonl", rows))([candidates("a", "b", "c"), candidates("a", "b")])
    assert (missing.status, missing.scores) == ("not recorded", None)
    np.testing.assert_array_equal(missing.win, np.full((3, 3), 0.5))
    assert whole.status == "ok"


def test_a_prompt_may_be_named_by_its_text_and_another_prompts_answers_do_not_count(tmp_path: Path) -> None:
    by_text = [{"prompt": "Why?", "response": "a", "score": 1}, {"prompt": "Why not?", "response": "b", "score": 1}]
    recorded = Recorded(write(tmp_path / "a.jsonl.gz", by_text))
    assert [judgement.status for judgement in recorded([candidates("a", "a"), candidates("b")])] == [
        "ok",
        "not recorded",
    ]


def test_parquet_rows_are_read_like_lines(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(scored(a=1.0, b=2.0)), tmp_path / "a.parquet")
    assert Recorded(str(tmp_path / "a.parquet"))([candidates("a", "b")])[0].scores == (1.0, 2.0)


def test_the_round_of_a_finished_run_is_a_record(tmp_path: Path) -> None:
    rows = [{"prompt_id": "id-1", "index": i, "text": text} for i, text in enumerate(["a", "b", "c"])]
    pq.write_table(
        pa.Table.from_pylist([*rows, {"prompt_id": "id-2", "index": 0, "text": "d"}]), tmp_path / "candidates.parquet"
    )
    win = [[0.5, 0.6, 1.0], [0.4, 0.5, 0.7], [0.0, 0.3, 0.5]]
    judged = {"prompt_id": "id-1", "win": win, "scores": [4.0, 3.0, 1.0], "status": "ok"}
    refused = {"prompt_id": "id-2", "win": [[0.5]], "scores": None, "status": "no answer"}
    pq.write_table(pa.Table.from_pylist([judged, refused]), tmp_path / "judgements.parquet")
    (judgement,) = Recorded(str(tmp_path))([candidates("c", "a")])
    np.testing.assert_array_equal(judgement.win, [[0.5, 0.0], [1.0, 0.5]])
    assert judgement.scores == (1.0, 4.0)


def answered(a: str, b: str, logit: float) -> dict[str, Any]:
    return {"prompt_id": "id-1", "response_a": a, "response_b": b, "logit": logit}


def test_logits_of_both_orders_are_passed_on_and_averaged(tmp_path: Path) -> None:
    rows = [answered("a", "b", 2.0), answered("b", "a", 1.0), answered("a", "b", 4.0)]  # a first: 3 on average
    recorded = Recorded(write(tmp_path / "a.jsonl", rows))
    (judgement,) = recorded([candidates("b", "a", "b")])
    assert judgement.logits is not None
    np.testing.assert_array_equal(judgement.logits, [[0.0, 1.0, 0.0], [3.0, 0.0, 3.0], [0.0, 1.0, 0.0]])
    assert judgement.win[1, 0] == pytest.approx(1 / (1 + math.exp(-1)))  # (3 - 1) / 2
    assert recorded.gives_logits


def test_logits_of_one_order_are_not_enough(tmp_path: Path) -> None:
    rows = [answered("a", "b", 2.0), answered("b", "a", 1.0), answered("a", "c", 1.0), answered("c", "a", 1.0)]
    recorded = Recorded(write(tmp_path / "a.jsonl", [*rows, answered("b", "c", 1.0)]))
    missing, whole = recorded([candidates("a", "b", "c"), candidates("c", "a")])
    assert (missing.status, missing.logits) == ("not recorded", None)
    assert whole.status == "ok"


def test_wins_and_scores_are_no_logits(tmp_path: Path) -> None:
    for rows in ([beats("a", "b", 0.9)], scored(a=1.0, b=2.0)):
        recorded = Recorded(write(tmp_path / "a.jsonl", rows))
        assert not recorded.gives_logits
        assert recorded([candidates("a", "b")])[0].logits is None


def test_a_round_that_has_logits_passes_them_on(tmp_path: Path) -> None:
    rows = [{"prompt_id": "id-1", "index": i, "text": text} for i, text in enumerate("ab")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "candidates.parquet")
    judged = {"prompt_id": "id-1", "win": [[0.5, 0.9], [0.1, 0.5]], "scores": None, "status": "ok"}
    logits = [[0.0, 1.5], [-0.5, 0.0]]
    pq.write_table(pa.Table.from_pylist([judged | {"logits": logits}]), tmp_path / "judgements.parquet")
    recorded = Recorded(str(tmp_path))
    (judgement,) = recorded([candidates("b", "a")])
    assert judgement.logits is not None
    np.testing.assert_array_equal(judgement.logits, [[0.0, -0.5], [1.5, 0.0]])
    assert recorded.gives_logits


def memory(path: Path) -> tuple[int, int]:
    """Bytes that Python holds for the record at `path`, and the most it held while it read."""
    tracemalloc.start()
    try:
        recorded = Recorded(str(path))
        kept, peak = tracemalloc.get_traced_memory()
        assert recorded.prompts
        return kept, peak
    finally:
        tracemalloc.stop()


def write_file(path: Path, texts: Sequence[str]) -> None:
    rows = [{"prompt_id": f"p{n // 2}", "response": text, "score": 1.0} for n, text in enumerate(texts)]
    if path.suffix == ".jsonl":
        write(path, rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


def write_round(directory: Path, texts: Sequence[str]) -> None:
    directory.mkdir()
    said = [{"prompt_id": f"p{n // 2}", "index": n % 2, "text": text} for n, text in enumerate(texts)]
    judged = {"win": [[0.5, 0.5], [0.5, 0.5]], "scores": [1.0, 1.0], "status": "ok"}
    pq.write_table(pa.Table.from_pylist(said), directory / "candidates.parquet")
    rows = [{"prompt_id": f"p{n}", **judged} for n in range(len(texts) // 2)]
    pq.write_table(pa.Table.from_pylist(rows), directory / "judgements.parquet")


@pytest.mark.parametrize(
    ("name", "make"), [("a.jsonl", write_file), ("a.parquet", write_file), ("a-round", write_round)]
)
def test_texts_do_not_stay_in_memory(tmp_path: Path, name: str, make: Callable[[Path, Sequence[str]], None]) -> None:
    length, count = 2000, 2000
    make(tmp_path / name, [f"{number:0{length}}" for number in range(count)])
    kept, peak = memory(tmp_path / name)
    assert kept < length * count / 5
    assert peak < length * count


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"response": "a", "score": 1}, "Row 1 of .* has no text in 'prompt'"),
        ({"prompt": "Why?", "score": 1}, "has no text in 'response'"),
        ({"prompt": "Why?", "response": "a"}, "has None as 'score'; give a number"),
        ({"prompt": "Why?", "response": "a", "score": float("nan")}, "has nan as 'score'"),
        (beats("a", "b", 1.5), "'win' = 1.5; give a probability"),
        (answered("a", "b", float("inf")), "has inf as 'logit'; give a number"),
        ({"prompt": "Why?", "response_a": "a", "win": 1.0}, "has no text in 'response_b'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Recorded(write(tmp_path / "a.jsonl", [row]))


def test_files_without_judgements_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no judgements"):
        Recorded(write(tmp_path / "a.jsonl", []))
    with pytest.raises(DataError, match="does not exist"):
        Recorded(str(tmp_path / "b.jsonl"))
    for unreadable in (tmp_path, tmp_path / "b.parquet"):  # a folder that is no round; a file that is not there
        with pytest.raises(DataError, match="cannot be read as a Parquet file"):
            Recorded(str(unreadable))


def test_a_temperature_that_is_not_positive_is_refused_before_any_judgement(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        Recorded(write(tmp_path / "a.jsonl", scored(a=1.0)), temperature=0.0)
