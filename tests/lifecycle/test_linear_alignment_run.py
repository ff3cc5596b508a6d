"""A run that trains nothing and is killed anywhere ends as if nothing had happened."""

import csv
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pyarrow.parquet as pq
import pytest

from sparring.core.files import read_json
from training_runs import Kill

PLAIN, STEERED = "sparring.policy.sampler.decode", "sparring.policy.linear_alignment.decode"
JUDGE = "sparring.annotators.panel.Panel._judge"
CHUNKS = "evaluation/policy-001-chunks"
MEASURED = {
    "sampling what is measured against": Kill(PLAIN, "evaluation/policy-000-chunks/candidates-00000.parquet"),
    "sampled, chunks still there": Kill("shutil.rmtree", "evaluation/policy-000.parquet"),
    "steering the second chunk": Kill(STEERED, f"{CHUNKS}/candidates-00000.parquet"),
    "steered, not summed up": Kill("sparring.data.rounds.RoundStore.finish", f"{CHUNKS}/candidates-00001.parquet"),
    "summed up, not merged": Kill("sparring.callbacks.keep_answers.write_parquet", "rounds/round-000/training.json"),
    "merged, chunks still there": Kill("shutil.rmtree", "evaluation/policy-001.parquet"),
    "judging the second chunk": Kill(JUDGE, "evaluation/policy-001-against-000/judgements-00000.parquet"),
    "measured, not logged": Kill("sparring.callbacks.csv_log.CSVLog.log_metrics", "evaluation/round-000.json"),
}
WRITTEN = {name: kill for name, kill in MEASURED.items() if name.split()[0] in ("steering", "steered", "summed")}


@pytest.fixture
def command(small: list[str]) -> list[str]:
    arm = ["arm=linear_alignment", "rounds=1", "objective.sampler.principle=Be kind.", "prompts.validation=7"]
    return [*small, *arm]


def rows(path: Path) -> list[dict[str, Any]]:
    return [
        {key: str(value) for key, value in row.items()} for row in pq.read_table(path).to_pylist()
    ]  # NaN is not NaN


def metrics(run: Path) -> list[list[str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [row for row in csv.reader(file) if not row[2].startswith("time/")]


def summary(run: Path) -> dict[str, Any]:
    summed = read_json(run / "summary.json")
    for entry in summed["rounds"]:
        del entry["seconds"], entry["metrics"]["time/per_response"]
    return summed


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("kills", "more"), [(MEASURED, []), (WRITTEN, ["callbacks.win_rate=null"])], ids=["measured", "only written"]
)
def test_a_killed_run_ends_like_one_that_was_not(train, command, kills, more, tmp_path_factory):
    whole, killed = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    chunks = [] if not more else ["objective.chunk_size=4"]
    arguments = [*command, *more, *chunks]
    outcome = train(arguments, whole)
    assert outcome.exit_code == 0, outcome.output
    for moment, kill in kills.items():
        outcome = train(arguments, killed, kill)
        assert outcome.exit_code == -SIGKILL, f"{moment}: {outcome.output}"
    outcome = train(arguments, killed)
    assert outcome.exit_code == 0, outcome.output
    runs = whole / "run", killed / "run"
    assert files(runs[0]) == files(runs[1])
    assert summary(runs[0]) == summary(runs[1])
    assert metrics(runs[0]) == metrics(runs[1])
    tables = [name for name in files(runs[0]) if name.endswith(".parquet")]
    assert "evaluation/policy-001.parquet" in tables
    assert [rows(runs[0] / name) for name in tables] == [rows(runs[1] / name) for name in tables]
    if not more:  # nobody is asked twice
        annotated = [sorted((place / "annotated.txt").read_text().splitlines()) for place in (whole, killed)]
        assert annotated[0] == annotated[1]


def test_an_interrupted_run_is_finished_and_a_finished_one_is_left_as_it_is(train, command, tmp_path):
    assert train(command, tmp_path, MEASURED["judging the second chunk"]).exit_code == -SIGKILL
    assert read_json(tmp_path / "run/summary.json")["status"] == "running"
    other = train([*command, "objective.sampler.ratio=3.0"], tmp_path)
    assert other.exit_code == 2
    assert "objective.sampler.ratio: 2.0 -> 3.0" in other.output
    assert train(command, tmp_path).exit_code == 0
    assert read_json(tmp_path / "run/summary.json")["status"] == "finished"
    assert "is finished" in train(command, tmp_path).output


def test_chunks_of_other_weights_are_refused(train, command, model, tmp_path):
    assert train(command, tmp_path, MEASURED["steered, not summed up"]).exit_code == -SIGKILL
    chunk = tmp_path / "run" / CHUNKS / "candidates-00000.parquet"
    table = pq.read_table(chunk)
    facts = table.schema.metadata[b"facts"].replace(b'"policy": "', b'"policy": "0')
    pq.write_table(table.replace_schema_metadata({"facts": facts}), chunk)
    outcome = train(command, tmp_path)
    assert outcome.exit_code == 2
    assert "was sampled with policy 0" in outcome.output
