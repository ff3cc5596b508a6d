"""A run with a judge that is paid and out of order now and then: killed twice, it ends as if nothing had happened."""

from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

import pyarrow.parquet as pq

from scripted_judge import FAULTS, MODEL, Fault, ScriptedJudge
from sparring.core.seeding import derive_seed
from training_runs import Kill

KEY = "sk-not-to-be-seen-anywhere"
ENVIRONMENT = {"JUDGE_KEY": KEY}
ROUNDS = ("rounds/round-000", "rounds/round-001")
KILLS = (
    # An answer is in the book and not yet in the chunk that it is for.
    Kill("sparring.annotators.answer_book.SqliteBook.keep", f"{ROUNDS[0]}/chunks/candidates-00001.parquet", 1, True),
    # A question is claimed, its cost is reserved, and it is not sent.
    Kill("sparring.annotators.judge.client.Client._ask_once", f"{ROUNDS[1]}/chunks/candidates-00001.parquet", 1),
)
SMALLER = ("rollout.chunk_size=1", "prompts.train=8", "callbacks.win_rate=null")
PASSING = [fault for fault in FAULTS if fault != "hang"]  # how long to wait would depend on the machine


def half_fail_once(question: str, attempt: int) -> Fault | None:
    draw = derive_seed("fault", question)
    return PASSING[draw % len(PASSING)] if attempt == 0 and draw // len(PASSING) % 2 else None


def command(small: list[str], server: ScriptedJudge) -> list[str]:
    """One question at a time, so that no other is on its way, and lost, when a process dies."""
    judge = {"model": MODEL, "base_url": server.url, "api_key_env": "JUDGE_KEY", "concurrency": 1, "backoff": 0.01}
    given = [f"annotator.{name}={value}" for name, value in judge.items()]
    return [*small, "annotator=llm_judge", *given, "stop_after_epochs=1", *SMALLER]


def verdicts(run: Path) -> list[list[dict]]:
    """What the judge said of every prompt, apart from how often it had to be asked."""
    bill = {"calls", "prompt_tokens", "completion_tokens", "cost", "raw"}
    tables = [pq.read_table(run / name / "judgements.parquet") for name in ROUNDS]
    return [table.select([name for name in table.column_names if name not in bill]).to_pylist() for table in tables]


def test_kills_and_faults_change_no_verdict_and_no_answer_is_paid_twice(
    train: Callable, small: list[str], tmp_path: Path
) -> None:
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    for directory in (calm, stormy):
        directory.mkdir()
    with ScriptedJudge(key=KEY) as server:
        outcome = train(command(small, server), calm, environment=ENVIRONMENT)
        assert outcome.exit_code == 0, outcome.output
    with ScriptedJudge(key=KEY, fault=half_fail_once) as server:
        for kill in KILLS:
            outcome = train(command(small, server), stormy, kill, environment=ENVIRONMENT)
            assert outcome.exit_code == -SIGKILL, outcome.output
            assert KEY not in outcome.output
        outcome = train(command(small, server), stormy, environment=ENVIRONMENT)
        assert outcome.exit_code == 0, outcome.output
        assert server.faults.total() > 2
        assert max(server.answered.values()) == 1
    said = verdicts(stormy / "run")
    assert said == verdicts(calm / "run")
    assert {row["status"] for rows in said for row in rows} == {"ok"}
    exported = "run/export/model.safetensors"
    assert (stormy / exported).read_bytes() == (calm / exported).read_bytes()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
