"""Which pairs each training step sees, with which learning rate and which optimiser."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparring.core.files import read_json, sha256, write_json
from sparring.core.schedule import learning_rate_factor
from training_runs import Kill

PEAK = 1e-3  # as in conftest
BATCH_SIZE = 8


@dataclass(frozen=True)
class Logged:
    run: Path
    epochs_per_round: int
    fresh: bool
    batches: list[dict[str, Any]]

    def pairs(self, index: int) -> list[str]:
        rows = pq.read_table(self.run / f"rounds/round-{index:03d}/pairs.parquet").to_pylist()
        return [str([row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]]) for row in rows]

    def steps(self, index: int) -> int:
        full, rest = divmod(len(self.pairs(index)), BATCH_SIZE)
        return full + (rest >= 2)  # two micro-batches need a pair each

    @property
    def optimiser_steps(self) -> list[dict[str, Any]]:
        """The last micro-batch of each step, two of which make one."""
        return self.batches[1::2]


@pytest.fixture(scope="module", params=[(3, 1, True), (2, 2, False)], ids=["one epoch a round", "two epochs a round"])
def logged(request, train, small, tmp_path_factory) -> Logged:
    rounds, epochs, fresh = request.param
    root = tmp_path_factory.mktemp("logged")
    outcome = train(
        [
            *small,
            *(f"rounds={rounds}", f"stop_after_epochs={epochs}", "schedule_total_epochs=3", "callbacks.win_rate=null"),
            *(f"callbacks.round_optimizer.fresh={fresh}", "callbacks.round_optimizer.warmup_ratio=0.25"),
            *("+callbacks.log._target_=batch_log.BatchLog", f"+callbacks.log.path={root / 'batches.jsonl'}"),
        ],
        root,
    )
    assert outcome.exit_code == 0, outcome.output
    batches = [json.loads(line) for line in (root / "batches.jsonl").read_text().splitlines()]
    return Logged(root / "run", epochs, fresh, batches)


def test_an_epoch_trains_on_the_pairs_of_its_round_once_each(logged):
    epochs = sorted({line["epoch"] for line in logged.batches})
    assert len(epochs) == (3 if logged.epochs_per_round == 1 else 4)
    for epoch in epochs:
        seen = Counter(str(pair) for line in logged.batches if line["epoch"] == epoch for pair in line["pairs"])
        expected = Counter(logged.pairs(epoch // logged.epochs_per_round))
        assert not seen - expected
        assert (expected - seen).total() <= 1


def test_the_rounds_train_on_different_pairs(logged):
    assert set(logged.pairs(0)) - set(logged.pairs(1))
    assert set(logged.pairs(0)) & set(logged.pairs(1))  # replay


def test_no_epoch_repeats_the_batches_of_another(logged):
    first, second = ([line["pairs"] for line in logged.batches if line["epoch"] == epoch] for epoch in (0, 1))
    assert first != second


def test_the_learning_rate_is_the_schedule_of_the_round_lowered_by_round(logged):
    expected = [
        PEAK
        * 0.7**index
        * learning_rate_factor(
            step, steps_per_epoch=logged.steps(index), schedule_total_epochs=3, warmup_ratio=0.25, shape="cosine"
        )
        for index in range(3 if logged.epochs_per_round == 1 else 2)
        for step in range(logged.epochs_per_round * logged.steps(index))
    ]
    assert [line["lr"] for line in logged.optimiser_steps] == pytest.approx(expected, rel=1e-9)
    assert [line["global_step"] for line in logged.optimiser_steps] == list(range(1, len(expected) + 1))


def test_the_optimiser_is_new_each_round_when_asked_and_kept_otherwise(logged):
    counted = [line["optimizer_steps"] for line in logged.optimiser_steps]
    if logged.fresh:
        assert counted == [step + 1 for index in range(3) for step in range(logged.steps(index))]
    else:
        assert counted == list(range(1, len(counted) + 1))


def test_an_altered_reference_stops_the_run_before_its_first_step(train, small, place):
    killed = train(small, place.root, Kill("sparring.objectives.base.Objective.training_step"))
    assert killed.exit_code < 0
    directory = place.run / "rounds/round-000"
    path = directory / "pairs.parquet"
    table = pq.read_table(path)
    column = table.schema.get_field_index("rejected_ref_logp")
    altered = pa.array([value + 1.0 for value in table["rejected_ref_logp"].to_pylist()])
    pq.write_table(table.set_column(column, "rejected_ref_logp", altered), path)
    manifest = read_json(directory / "manifest.json")
    manifest["files"]["pairs.parquet"]["sha256"] = sha256(path)
    write_json(directory / "manifest.json", manifest)

    outcome = train(small, place.root)
    assert outcome.exit_code == 2
    assert "round 0 stores reference log-probability" in outcome.output
    assert not (place.run / "checkpoints/last.ckpt").exists()
