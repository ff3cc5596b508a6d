"""Runs that train nothing: what they leave, what reads it, and what is refused before any work."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sparring.callbacks.win_rate import WinRate
from sparring.cli.build_decoding import build_decoding
from sparring.cli.duties import decoding_duties
from sparring.cli.expenses import foreseen
from sparring.cli.parts import Parts
from sparring.cli.policies import parse_policy, snapshots
from sparring.cli.report import main as report
from sparring.cli.show import main as show
from sparring.cli.train import conf_directory
from sparring.core.errors import ConfigError
from sparring.core.files import read_json
from sparring.objectives.decoding import Decoding
from sparring.rollout.best_of import BestOfSampler

torch.set_num_threads(1)

PRINCIPLE = "objective.sampler.principle=The story is about the sea."
SAME = ["rounds=1", "callbacks.export=null", "callbacks/payoff_matrix=none"]


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(run / f"evaluation/{name}.parquet").to_pylist()


def texts(run: Path, policy: str) -> list[str]:
    return [row["text"] for row in rows(run, policy)]


def metrics(run: Path) -> dict[str, tuple[int, int, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        return {row["name"]: (int(row["step"]), int(row["round"]), float(row["value"])) for row in csv.DictReader(file)}


def printed(command: Callable[[list[str]], None], *arguments: object) -> str:
    output = StringIO()
    with redirect_stdout(output):
        command([str(argument) for argument in arguments])
    return output.getvalue()


@pytest.fixture(scope="module")
def study(command: Callable, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three baselines and a trained arm, one seed, two samples of each held-out prompt and a second annotator."""
    directory = tmp_path_factory.mktemp("study")
    own = [setting for setting in settings if not setting.startswith(("run_name=", "rounds="))]
    second = ["+annotator@callbacks.win_rate.second_annotator=fluency"]
    second += ["callbacks.win_rate.second_annotator.corpus.count=20"]
    measured = [*second, "callbacks.win_rate.samples_per_prompt=2", "prompts.validation=6"]
    for arm, more in {
        "dno_once": SAME[1:],
        "linear_alignment": [PRINCIPLE],
        "principle": [PRINCIPLE],
        "best_of": ["sampler@objective.sampler.sampler=principle", "objective.sampler.sampler.principle=Be kind."],
    }.items():
        outcome = command(directory, *own, *measured, f"arm={arm}", f"run_name={arm}", *more, run=arm)
        assert outcome.status == 0, outcome.errors
        assert "Traceback" not in outcome.errors
    return directory / "outputs"


BASELINES = ("linear_alignment", "principle", "best_of")
every_baseline = pytest.mark.parametrize("arm", BASELINES)


@every_baseline
def test_it_is_measured_against_the_very_samples_that_trained_arms_are_measured_against(study: Path, arm: str) -> None:
    assert rows(study / arm, "policy-000") == rows(study / "dno_once", "policy-000")
    assert len(rows(study / arm, "policy-001")) == 12
    assert texts(study / arm, "policy-001") != texts(study / arm, "policy-000")
    compared = [(row["prompt_id"], row["annotator"], row["against"]) for row in rows(study / arm, "round-000")]
    trained = [(row["prompt_id"], row["annotator"], row["against"]) for row in rows(study / "dno_once", "round-000")]
    assert compared == trained


@every_baseline
def test_the_summary_has_one_round_without_training_and_no_divergence(study: Path, arm: str) -> None:
    summary = read_json(study / arm / "summary.json")
    assert (summary["status"], summary["objective"]) == ("finished", "Decoding")
    [entry] = summary["rounds"]
    [trained] = read_json(study / "dno_once" / "summary.json")["rounds"]
    assert entry.keys() == trained.keys()
    assert (entry["steps"], entry["kl_vs_base"], entry["seconds"]["train"]) == (0, None, 0.0)
    won = {row["prompt_id"]: row["win"] for row in rows(study / arm, "round-000") if row["annotator"] == "first"}
    assert entry["win_rate_vs_base"] == pytest.approx(sum(won.values()) / len(won))
    lengths = [len(row["ids"]) for row in rows(study / arm, "policy-001")]
    assert entry["mean_length"] == pytest.approx(sum(lengths) / len(lengths))
    assert entry["seconds"]["sample"] > 0


def test_tokens_and_judge_calls_of_the_round_are_what_its_answers_took(study: Path) -> None:
    entries = {arm: read_json(study / arm / "summary.json")["rounds"][0] for arm in BASELINES}
    answered = {arm: sum(len(row["ids"]) for row in rows(study / arm, "policy-001")) for arm in BASELINES}
    assert entries["principle"]["tokens_sampled"] == answered["principle"]
    assert entries["linear_alignment"]["tokens_sampled"] == 2 * answered["linear_alignment"]  # in two contexts
    assert entries["best_of"]["tokens_sampled"] > 3 * answered["best_of"]  # of five draws, the short ones less liked
    assert [entries[arm]["judge_calls"] for arm in ("principle", "linear_alignment")] == [0, 0]
    pairs = 5 * 4 // 2
    assert entries["best_of"]["judge_calls"] == 6 * 2 * pairs
    assert {entry["evaluation_judge_calls"] for entry in entries.values()} == {2 * 6 * 4 * 3 // 2}


def test_metrics_stand_at_step_0_and_round_0_under_the_names_of_trained_runs(study: Path) -> None:
    logged, trained = metrics(study / "linear_alignment"), metrics(study / "dno_once")
    assert {(step, index) for step, index, _ in logged.values()} == {(0, 0)}
    own = {"eval/tokens_per_response", "time/per_response"}
    assert logged.keys() - trained.keys() == own
    measured = {name for name in trained if name.startswith("eval/")}
    assert measured - logged.keys() == {"eval/kl_vs_base", "eval/kl_vs_previous"}
    answers = rows(study / "linear_alignment", "policy-001")
    length = sum(len(row["ids"]) for row in answers) / len(answers)
    assert logged["eval/tokens_per_response"][2] == pytest.approx(2 * length)
    assert logged["eval/mean_length"][2] == pytest.approx(length)


def test_nothing_that_belongs_to_training_is_there(study: Path) -> None:
    made = {path.relative_to(study / "principle").parts[0] for path in (study / "principle").rglob("*")}
    assert made == {"config.yaml", "environment.json", "evaluation", "metrics.csv", "rounds", "summary.json"}


def test_a_report_compares_it_with_trained_arms_prompt_by_prompt(study: Path) -> None:
    said = printed(report, study, "baseline=principle")
    lines = {line.split()[0]: line for line in said.splitlines() if line.split()}
    assert lines.keys() >= {*BASELINES, "dno_once"}
    assert "An arm without steps trains nothing" in said
    assert "minus principle" in said
    alone = printed(report, study / "dno_once")
    assert "An arm without steps" not in alone


def test_show_prints_its_round(study: Path) -> None:
    said = printed(show, study / "linear_alignment")
    assert "linear_alignment: Decoding, finished" in said
    assert "prompts            6" in said


def test_show_prints_the_answers_to_a_held_out_prompt_and_refuses_one_that_is_not_there(study: Path) -> None:
    run = study / "linear_alignment"
    rows = pq.read_table(run / "evaluation" / "policy-001.parquet").to_pylist()
    asked = rows[2]["messages"][-1]["content"]  # of the second prompt: there are two answers to each
    said = " ".join(printed(show, run, "--prompt", 1).split())
    assert f"held-out prompt 1: {asked}" in said
    assert (said.count("base │"), said.count("measured │")) == (2, 2)
    with pytest.raises(SystemExit):
        show([str(run), "--prompt", "6"])


# ---------------------------------------------------------------- only answers


def test_without_a_win_rate_the_answers_are_the_same_and_nothing_else_is_made(small: Callable, study: Path) -> None:
    same = ["prompts.validation=6", "objective.sampler.num_generations=2", "arm=linear_alignment", PRINCIPLE]
    outcome = small(*same, "rounds=1", "callbacks.win_rate=null", "logger=wandb")
    assert outcome.status == 0, outcome.errors
    assert texts(outcome.run, "policy-001") == texts(study / "linear_alignment", "policy-001")
    assert sorted(path.name for path in (outcome.run / "evaluation").iterdir()) == [
        "policy-001.json",
        "policy-001.parquet",
    ]
    [entry] = read_json(outcome.run / "summary.json")["rounds"]
    assert "win_rate_vs_base" not in entry
    tables = list((outcome.run / "wandb").rglob("*.table.json"))
    assert [table.parent.name for table in tables] == ["candidates"]


# ---------------------------------------------------------------- what choosing takes


@pytest.fixture
def chosen(model: Path) -> dict[str, Any]:
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        cfg = compose(
            "train", ["run_name=x", "model=hf", f"model.path={model}", "arm=best_of", "prompts.validation=10"]
        )
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return plain


def test_who_chooses_is_who_measures(chosen: dict[str, Any], tmp_path: Path) -> None:
    experiment = build_decoding(chosen, tmp_path / "x", progress_bar=False)
    [win_rate] = [callback for callback in experiment.trainer.callbacks if isinstance(callback, WinRate)]
    assert isinstance(experiment.objective, Decoding)
    assert isinstance(experiment.objective.sampler, BestOfSampler)
    assert experiment.objective.sampler.annotator is win_rate.annotators["first"]
    draws, measured = decoding_duties(experiment.objective, win_rate, win_rate.prompts.validation)
    assert (draws.annotator, draws.samples) == (win_rate.annotators["first"], 5)
    assert (measured.annotator, measured.samples) == (win_rate.annotators["first"], 2)


def test_a_dry_run_counts_the_choices_and_no_round() -> None:
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        judged = ["annotator=llm_judge", "annotator.model=m", "annotator.api_key_env=null"]
        cfg = compose("train", ["run_name=x", "arm=best_of", "prompts.validation=10", *judged])
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    expenses = foreseen(plain, Parts(plain))
    assert {name: expense.calls for name, expense in expenses.items()} == {"best of n": 10, "win rates": 10}
    assert expenses["best of n"].completion_tokens > expenses["win rates"].completion_tokens
    assert expenses["best of n"].prompt_tokens > expenses["win rates"].prompt_tokens
    plain["callbacks"]["win_rate"] = None
    plain["objective"]["sampler"]["sampler"]["num_generations"] = 3
    assert {name: expense.calls for name, expense in foreseen(plain, Parts(plain)).items()} == {"best of n": 30}


# ---------------------------------------------------------------- what is refused

REFUSED = {
    "rounds=2": "rounds is 2, but this objective trains nothing",
    "callbacks/payoff_matrix=default": "callbacks.payoff_matrix is on, but this objective trains nothing, so there are",
    "+callbacks.export._target_=sparring.callbacks.export.Export": "callbacks.export is on, but this objective trains",
    "sampler=principle": "sampler is a PrincipledSampler, but it says how the policy decodes that objective.sampler is",
    "prompts.validation=0": "there are no held-out prompts to answer; raise prompts.validation.",
    "objective.sampler.principle=null": "objective.sampler.principle is null and the prompts have none of their own",
    "trainer=ddp trainer.accelerator=cpu": "answers in one process, not under DDPStrategy; use trainer=cpu",
    "objective.sampler.max_new_tokens=215": "exceeds the model's context of 256; shorten the principle",
    "objective.sampler.mode=all": "objective.sampler.mode is 'all'; it must be 'official' or 'demo' or 'none'",
    "objective.sampler.ratio=inf": "sampler.ratio is inf; it must be a finite number",
    "objective.chunk_size=0": "objective.chunk_size is 0",
    "game=taboo": "this objective answers prompts and plays no games",
    "+annotator@callbacks.win_rate.second_annotator=panel": "second_annotator is the run's own annotator",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_cannot_be_had_without_training_is_refused_before_any_work(small: Callable, arguments: str) -> None:
    outcome = small("arm=linear_alignment", "rounds=1", PRINCIPLE, *arguments.split())
    assert REFUSED[arguments] in outcome.sentence
    assert outcome.made == []


def test_who_has_chosen_is_no_second_annotator(small: Callable) -> None:
    outcome = small("arm=best_of", "rounds=1", "+annotator@callbacks.win_rate.second_annotator=panel")
    assert "second_annotator is the run's own annotator" in outcome.sentence


def test_best_of_n_is_told_where_its_principle_belongs(small: Callable) -> None:
    outcome = small("arm=best_of", "rounds=1", "sampler@objective.sampler.sampler=principle")
    assert "objective.sampler.sampler.principle is null" in outcome.sentence


def test_a_run_that_trains_nothing_has_no_policies_to_evaluate(study: Path) -> None:
    with pytest.raises(ConfigError, match="principle trained nothing, so it has no policies of its own"):
        snapshots(parse_policy(str(study / "principle")))


def test_what_is_chosen_is_not_trained_on(train: Callable, model: Path) -> None:
    outcome = train("run_name=x", "model=hf", f"model.path={model}", "sampler=best_of", run="x")
    assert "sampler is a BestOfSampler, which chooses what it answers" in outcome.sentence
    assert "arm=best_of" in outcome.sentence


def test_an_interrupted_run_stops_with_a_word_on_how_to_go_on(model: Path, tmp_path: Path) -> None:
    """Lightning looks for signals where it trains and tests, but not where it predicts."""
    command = [sys.executable, "-m", "sparring.cli.main", "train", "arm=linear_alignment", "run_name=x", "threads=1"]
    command += ["model=hf", f"model.path={model}", PRINCIPLE, "prompts.validation=2000", "callbacks.win_rate=null"]
    run = tmp_path / "outputs/x"
    with subprocess.Popen(
        [*command, "objective.chunk_size=8", "sampler.max_new_tokens=4"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        while process.poll() is None and not (run / "evaluation/policy-001-chunks").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors == "sparring: stopped; the same command continues the run.\n"
    assert read_json(run / "summary.json")["status"] == "stopped"


# ---------------------------------------------------------------- training under a principle

TOLD = ["sampler=principle", "sampler.principle=The story is about the sea.", *SAME]


def test_a_policy_that_is_told_in_training_is_measured_untold(small: Callable, train: Callable, settings: list) -> None:
    own = [setting for setting in settings if not setting.startswith("run_name=")]
    untold = train(*own, *SAME, "run_name=untold", run="untold")
    told = small(*TOLD)
    assert (told.status, untold.status) == (0, 0), told.errors
    assert rows(told.run, "policy-000") == rows(untold.run, "policy-000")
    sampled = [
        pq.read_table(run / "rounds/round-000/candidates.parquet", columns=["text"]) for run in (told.run, untold.run)
    ]
    assert sampled[0] != sampled[1]


def test_a_principle_that_leaves_no_room_in_a_training_prompt_is_refused_first(small: Callable) -> None:
    outcome = small(*TOLD, "sampler.max_new_tokens=215", "callbacks.win_rate=null")
    assert "with its principle" in outcome.sentence
    assert outcome.made == []
