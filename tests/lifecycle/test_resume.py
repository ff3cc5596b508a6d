"""A run that is killed anywhere and started again ends as if nothing had happened."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from training_runs import Kill

FIRST, SECOND = "rounds/round-000", "rounds/round-001"
DECODE = "sparring.policy.sampler.decode"
STEP = "sparring.objectives.base.Objective.training_step"  # once per micro-batch, two of which are a step
EPOCH_END = "sparring.callbacks.checkpoint.RoundCheckpoint.on_train_epoch_end"

JUDGE = "sparring.annotators.panel.Panel._judge"
ANNOTATE = "sparring.rollout.preference.annotate_chunk"
MANIFEST = "sparring.data.rounds.RoundStore.finish"

# A run dies at the first, goes on and dies at the second, and so on. Calls count within one process.
MAKING_ROUNDS = {
    "sampling for the base policy's evaluation": Kill(DECODE, "evaluation/policy-000-chunks/candidates-00000.parquet"),
    "sampling the second chunk": Kill(DECODE, f"{FIRST}/chunks/judgements-00000.parquet", call=2),
    "second chunk sampled, not judged": Kill(ANNOTATE, f"{FIRST}/chunks/candidates-00001.parquet"),
    "judging the second chunk": Kill(JUDGE, f"{FIRST}/chunks/candidates-00001.parquet", call=2),
    "pairs written, no manifest": Kill(MANIFEST, f"{FIRST}/pairs.parquet"),
    "manifest written, chunks still there": Kill("shutil.rmtree", f"{FIRST}/manifest.json"),
    "sampling in round 1": Kill(DECODE, f"{SECOND}/chunks/judgements-00000.parquet", call=2),
    "sampled, not judged, in round 1": Kill(ANNOTATE, f"{SECOND}/chunks/candidates-00001.parquet"),
    "judging in round 1": Kill(JUDGE, f"{SECOND}/chunks/candidates-00002.parquet", call=2, after=True),
    "scoring replayed pairs": Kill("sparring.rollout.preference.rescore_pairs", SECOND, after=True),
    "pairing in round 1": Kill(MANIFEST, f"{SECOND}/pairs.parquet"),
}
TRAINING = {
    "within the first epoch": Kill(STEP, call=4),
    "within the second epoch": Kill(STEP, "checkpoints/last.ckpt", call=4),
    "round 0 trained, not saved": Kill(EPOCH_END, "checkpoints/last.ckpt"),
    "round 0 saved": Kill(EPOCH_END, "checkpoints/last.ckpt", after=True),
    "within round 1": Kill(STEP, f"{SECOND}/manifest.json", call=4),
    "round 1 trained, not saved": Kill(EPOCH_END, f"{SECOND}/manifest.json", call=2),
    "round 1 saved": Kill(EPOCH_END, f"{SECOND}/manifest.json", call=1, after=True),
}
MEASURING = {
    "sampling held-out prompts after round 0": Kill(DECODE, "evaluation/policy-001-chunks/candidates-00000.parquet"),
    "held-out prompts sampled, not measured": Kill(JUDGE, "evaluation/policy-001.parquet"),
    "judging held-out answers after round 1": Kill(JUDGE, "evaluation/policy-002-against-000/judgements-00000.parquet"),
    "exported, not renamed": Kill("sparring.policy.policy.Policy.save", after=True),
}


@pytest.mark.parametrize(
    ("kills", "every_n_steps"),
    [(MAKING_ROUNDS, "null"), (TRAINING, "null"), (TRAINING, "1"), (MEASURING, "null"), (MEASURING, "2")],
    ids=["making rounds", "training", "training, every step saved", "measuring", "measuring, steps saved"],
)
def test_a_killed_run_ends_like_one_that_was_not(train, small, whole, place, kills, every_n_steps):
    command = [*small, f"callbacks.checkpoint.every_n_steps={every_n_steps}"]
    for moment, kill in kills.items():
        outcome = train(command, place.root, kill)
        assert outcome.exit_code == -SIGKILL, f"{moment}: {outcome.output}"
    outcome = train(command, place.root)
    assert outcome.exit_code == 0, outcome.output
    assert_same_run(place.run, whole.run)
    # Nobody is asked twice, and at most the chunk that a kill cut off is sampled twice.
    assert sorted(place.lines("annotated")) == sorted(whole.lines("annotated"))
    sampled = Counter(place.lines("sampled"))
    assert sampled.keys() == set(whole.lines("sampled"))
    cut_off = sum(kill.function == DECODE for kill in kills.values())
    assert sampled.total() == len(sampled) + cut_off


def assert_same_run(run: Path, whole: Path) -> None:
    for name in ("candidates", "judgements", "pairs"):
        for index in (FIRST, SECOND):
            assert rows(run / index / f"{name}.parquet") == rows(whole / index / f"{name}.parquet"), f"{index} {name}"
    assert metrics(run) == metrics(whole)
    assert without_time(run / "summary.json") == without_time(whole / "summary.json")
    assert (run / "export/model.safetensors").read_bytes() == (whole / "export/model.safetensors").read_bytes()
    assert sorted(files(run)) == sorted(files(whole))


def rows(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def metrics(run: Path) -> list[list[str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [row for row in csv.reader(file) if not row[2].startswith("time/")]


def without_time(path: Path) -> dict[str, Any]:
    summary = json.loads(path.read_text())
    for entry in summary["rounds"]:
        del entry["seconds"]
    return summary


def files(run: Path) -> list[str]:
    return [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]


@pytest.fixture
def finished(whole, place):
    """A copy of the finished run, with which a test may do what it likes."""
    shutil.copytree(whole.run, place.run)
    return place


def snapshot(run: Path) -> dict[str, int]:
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in run.rglob("*")}


def test_a_finished_run_is_left_as_it_is(train, small, finished):
    before = snapshot(finished.run)
    outcome = train(small, finished.root)
    assert outcome.exit_code == 0
    assert "is finished" in outcome.output
    assert snapshot(finished.run) == before
    assert finished.lines("sampled") == finished.lines("annotated") == []


def test_starting_over_must_be_said_twice(train, small, whole, finished):
    before = snapshot(finished.run)
    refused = train([*small, "resume=never"], finished.root)
    assert refused.exit_code == 2
    assert "overwrite=true" in refused.output
    assert snapshot(finished.run) == before

    again = train([*small, "resume=never", "overwrite=true"], finished.root)
    assert again.exit_code == 0, again.output
    assert finished.lines("annotated") == whole.lines("annotated")
    assert_same_run(finished.run, whole.run)


def test_another_configuration_is_refused_by_the_key_that_differs(train, small, finished):
    before = snapshot(finished.run)
    outcome = train([*small, "objective.dno_eta=0.2"], finished.root)
    assert outcome.exit_code == 2
    assert "objective.dno_eta: 0.1 -> 0.2" in outcome.output
    assert snapshot(finished.run) == before


def test_a_directory_that_holds_something_else_is_refused(train, small, place):
    place.run.mkdir()
    (place.run / "thesis.tex").write_text("precious")
    outcome = train([*small, "resume=never", "overwrite=true"], place.root)
    assert outcome.exit_code == 2
    assert "holds no run" in outcome.output
    assert [path.name for path in place.run.iterdir()] == ["thesis.tex"]


@pytest.fixture
def interrupted(train, small, place):
    """A run that was killed in its second round's training."""
    assert train(small, place.root, TRAINING["within round 1"]).exit_code == -SIGKILL
    return place


def test_a_tampered_table_is_refused_by_name(train, small, interrupted):
    path = interrupted.run / SECOND / "pairs.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    outcome = train(small, interrupted.root)
    assert outcome.exit_code == 2
    assert str(path) in outcome.output
    assert outcome.output.strip().count("\n") == 0  # one sentence and no traceback


def test_a_checkpoint_of_other_data_is_refused(train, small, interrupted):
    manifest = interrupted.run / FIRST / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    outcome = train(small, interrupted.root)
    assert outcome.exit_code == 2
    assert str(manifest) in outcome.output


def test_a_checkpoint_holds_plain_values_and_only_trained_weights(whole):
    checkpoint = torch.load(whole.run / "checkpoints/last.ckpt", weights_only=True)
    state = checkpoint["RoundDataModule"]
    assert state["round"] == 1
    assert len(state["manifest"]) == 64
    assert all(name.startswith("policy.model.") for name in checkpoint["state_dict"])
