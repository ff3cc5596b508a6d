"""`sparring export`: pairs of a run, read as TRL reads preference data."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import torch

from recorded_runs import Prompts, make_run, rows
from sparring.cli.export import export, main
from sparring.core.types import Message, Prompt
from sparring.data.preference_files import preferences
from sparring.data.rounds import RoundStore
from sparring.policy.loading import load_policy

torch.set_num_threads(1)


class Conversations(Prompts):
    """The same, after a system message."""

    def __init__(self, ask: Any) -> None:
        super().__init__(ask)
        self.all = [
            Prompt(one.id, (Message("system", "Be brief."), *one.messages), one.teacher, one.meta) for one in self.all
        ]


@pytest.fixture(scope="module")
def stored(chat_model, ask, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("outputs") / "earlier"
    make_run(run, load_policy(str(chat_model)), Prompts(ask))
    return run


@pytest.fixture(scope="module")
def conversations(chat_model, ask, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("outputs") / "conversations"
    make_run(run, load_policy(str(chat_model)), Conversations(ask), rounds=1)
    return run


def own(run: Path, *rounds: int) -> list[dict[str, Any]]:
    """The pairs of rounds, without those replayed from others."""
    store = RoundStore(run / "rounds")
    return [row for index in rounds for row in rows(store, index, "pairs") if row["source_round"] == index]


def loaded(path: Path, cache: Path) -> datasets.Dataset:
    format = "json" if path.suffix == ".jsonl" else "parquet"
    return datasets.load_dataset(format, data_files=str(path), split="train", cache_dir=str(cache))


def is_conversational(row: dict[str, Any]) -> bool:
    """As TRL tells (trl/data_utils.py, `is_conversational`): by the first message of any column that it knows."""
    found = {
        isinstance(row[key], list) and isinstance(row[key][0], dict) and {"role", "content"} <= row[key][0].keys()
        for key in ("prompt", "chosen", "rejected")
    }
    assert len(found) == 1, "TRL takes any of the columns"
    return found.pop()


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
@pytest.mark.parametrize("conversational", ["true", "false"])
def test_trl_finds_its_columns_with_every_pair_of_the_run_once(stored, tmp_path, name, conversational):
    assert any(row["source_round"] != 1 for row in rows(RoundStore(stored / "rounds"), 1, "pairs"))  # replayed ones
    export(stored, [f"to={tmp_path / name}", f"conversational={conversational}"])
    table = loaded(tmp_path / name, tmp_path / "cache")
    assert set(table.column_names) == {"prompt", "chosen", "rejected", "score_chosen", "score_rejected"}
    expected = own(stored, 0, 1)
    assert len(table) == len(expected) > 0
    for row, pair in zip(table, expected, strict=True):
        assert is_conversational(row) is (conversational == "true")
        if conversational == "true":
            assert row["prompt"] == [{"role": "user", "content": pair["prompt"]}]
            assert row["chosen"] == [{"role": "assistant", "content": pair["chosen"]}]
            assert row["rejected"] == [{"role": "assistant", "content": pair["rejected"]}]
        else:
            assert (row["prompt"], row["chosen"], row["rejected"]) == (
                pair["prompt"],
                pair["chosen"],
                pair["rejected"],
            )
        assert (row["score_chosen"], row["score_rejected"]) == (pair["chosen_rating"], pair["rejected_rating"])


def test_what_was_exported_is_read_as_the_same_pairs(stored, tmp_path):
    export(stored, [f"to={tmp_path / 'pairs.jsonl'}"])
    read = [(pair.prompt.text, pair.chosen, pair.rejected) for pair in preferences(tmp_path / "pairs.jsonl")]
    assert read == [(row["prompt"], row["chosen"], row["rejected"]) for row in own(stored, 0, 1)]


def test_some_rounds_are_those_alone(stored, tmp_path, capsys):
    path = tmp_path / "pairs.parquet"
    export(stored, [f"to={path}", "rounds=1"])
    expected = own(stored, 1)
    assert [row["chosen"] for row in pq.read_table(path).to_pylist()] == [row["chosen"] for row in expected]
    said = f"{len(expected)} pairs of {stored}, round 1 written to {path}, as texts without a chat template"
    assert capsys.readouterr().out.splitlines() == [said]


def test_messages_keep_the_roles_that_a_text_would_lose(conversations, tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    export(conversations, [f"to={path}", "conversational=true"])
    for line in path.read_text().splitlines():
        assert [message["role"] for message in json.loads(line)["prompt"]] == ["system", "user"]
    capsys.readouterr()
    assert "is a conversation" in refusal(conversations, f"to={tmp_path / 'texts.jsonl'}", capsys=capsys)
    assert not (tmp_path / "texts.jsonl").exists()


def test_no_model_library_is_imported(stored, tmp_path):
    code = (
        "import sys; from sparring.cli.main import main;"
        "sys.argv[1:] = ['export', sys.argv[1], 'to=' + sys.argv[2]];"
        "main(); print({'torch', 'transformers', 'lightning', 'datasets'} & sys.modules.keys())"
    )
    arguments = [sys.executable, "-c", code, str(stored), str(tmp_path / "pairs.jsonl")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def refusal(run: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(run), *arguments])
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line.removeprefix("sparring: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no file is named; add to=FILE.jsonl or to=FILE.parquet."),
        (["to="], "no file is named"),
        (["to={tmp}/pairs.csv"], "pairs.csv, which ends in neither .jsonl nor .parquet; give a name that does."),
        (["to={tmp}"], "which ends in neither"),
        (["to={tmp}/a.jsonl", "to={tmp}/b.jsonl"], "to is given twice; give it once."),
        (["to={tmp}/a.jsonl", "round=1"], "sparring export has no key 'round'; did you mean 'rounds'?"),
        (["to={tmp}/a.jsonl", "conversational=yes"], "conversational is 'yes'; it must be true or false."),
        (["to={tmp}/a.jsonl", "rounds=0,2"], "has the finished rounds 0 to 1, and '2' is none of them"),
        (["to={tmp}/a.jsonl", "rounds="], "and '' is none of them"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_sentence(stored, tmp_path, capsys, arguments, sentence):
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert sentence in refusal(stored, *filled, capsys=capsys)
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_file_that_is_there_is_not_written_over(stored, tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_text("mine")
    assert f"{path} is there already; remove it, or give another name." in refusal(stored, f"to={path}", capsys=capsys)
    assert path.read_text() == "mine"


def test_runs_without_pairs_say_why(stored, tmp_path, capsys):
    to = f"to={tmp_path / 'pairs.jsonl'}"
    assert "holds no run (no config.yaml)" in refusal(tmp_path, to, capsys=capsys)
    run = Path(shutil.copytree(stored, tmp_path / "run"))
    manifest = run / "rounds" / "round-001" / "manifest.json"
    facts = json.loads(manifest.read_text())
    for gone, sentence in (
        ("candidates.parquet", "round 1 of {run} took its rows from elsewhere"),
        ("pairs.parquet", "round 1 of {run} has no pairs, as nothing was compared in it; give another run."),
    ):
        files = {name: file for name, file in facts["files"].items() if name != gone}
        manifest.write_text(json.dumps(facts | {"files": files}))
        assert sentence.replace("{run}", str(run)) in refusal(run, to, capsys=capsys)
    shutil.rmtree(run / "rounds")
    assert "has no finished round yet" in refusal(run, to, capsys=capsys)


@pytest.mark.parametrize(
    ("keep", "sentence"),
    [
        ("none", "rounds 0, 1 kept no pairs; see `sparring show"),
        ("singles", "round 0 of {run} has single responses, not pairs"),
    ],
)
def test_rounds_with_no_pair_to_prefer_say_so(stored, tmp_path, capsys, monkeypatch, keep, sentence):
    run = Path(shutil.copytree(stored, tmp_path / "run"))
    monkeypatch.setattr(RoundStore, "verify", lambda *_: None)  # the tables are changed here
    for index in (0, 1):
        path = run / "rounds" / f"round-{index:03d}" / "pairs.parquet"
        table = pq.read_table(path)
        changed = [row | {"rejected": None} for row in table.to_pylist()] if keep == "singles" else []
        pq.write_table(type(table).from_pylist(changed, table.schema), path)
    refused = refusal(run, f"to={tmp_path / 'pairs.jsonl'}", capsys=capsys)
    assert sentence.replace("{run}", str(run)) in refused
    assert not (tmp_path / "pairs.jsonl").exists()
