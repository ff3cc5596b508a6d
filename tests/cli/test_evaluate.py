"""`sparring evaluate suite=taboo` as it is called, on policies with random weights."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from chat_server import chat_server
from evaluations import Outcome, evaluate
from sparring.policy.loading import load_policy
from taboo_runs import WORDING, make_taboo_run

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_taboo_run(tmp_path_factory.mktemp("runs") / "earlier", model, load_policy(str(model)))


@pytest.fixture(scope="session")
def finished(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """All policies of a run and the scripted player, to be looked at and not touched."""
    output = tmp_path_factory.mktemp("evaluated") / "arena"
    return evaluate("suite=taboo", f"policies=[a={run},scripted]", f"output={output}"), output


def test_all_rounds_of_a_run_meet_the_scripted_player_on_the_words_it_held_out(finished):
    outcome, output = finished
    assert outcome.status == 0, outcome.errors
    rows = pq.read_table(output / "episodes.parquet").to_pylist()
    labels = ["a base", "a round 0", "a round 1", "scripted"]
    assert Counter((row["attacker"], row["defender"]) for row in rows) == {(a, d): 3 for a in labels for d in labels}
    assert all(len(row["utterances"]) <= 4 for row in rows)  # the run's max_turns, which is 2
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["words"], summary["games"]) == (3, 48)
    assert [player["kind"] for player in summary["payoff"]["players"]] == ["round"] * 3 + ["other"]
    assert {(change["player"], change["start"]) for change in summary["changes"]} == {
        ("a round 0", "a base"),
        ("a round 1", "a base"),
    }
    assert (output / "payoff.png").read_bytes().startswith(b"\x89PNG")


def test_the_tables_say_what_the_summary_says(finished):
    outcome, output = finished
    summary = json.loads((output / "summary.json").read_text())
    for table in ("the row attacks the column, 3 words", "each role against an opponent who stays the same"):
        assert table in outcome.output
    for change in summary["changes"]:
        assert f"{change['difference']:+.3f}" in outcome.output
    assert "No role is worse" in outcome.output or all(sentence in outcome.output for sentence in summary["worse"])
    for game in summary["surprises"]:
        assert f"{game['attacker']} attacks {game['defender']} with {game['target']!r}" in outcome.output


def test_the_same_command_says_the_same_and_plays_nothing(finished, run, tmp_path, monkeypatch):
    outcome, output = finished
    copy = tmp_path / "arena"
    shutil.copytree(output, copy)
    monkeypatch.setattr("sparring.rollout.arena.play", None)
    again = evaluate("suite=taboo", f"policies=a={run},scripted", f"output={copy}")
    assert again.status == 0, again.errors
    assert again.output.replace(str(copy), str(output)) == outcome.output


def test_interrupted_games_go_on_to_the_same_end(finished, run, tmp_path):
    _, output = finished
    copy = tmp_path / "arena"
    shutil.copytree(output / "games", copy / "games")
    for path in sorted((copy / "games").rglob("*.parquet"))[::2]:
        path.unlink()
    evaluate("suite=taboo", f"policies=a={run},scripted", f"output={copy}")
    assert pq.read_table(copy / "episodes.parquet").equals(pq.read_table(output / "episodes.parquet"))


def test_policies_with_other_tokenizers_and_a_server_join_as_players(run, chat_model, tmp_path):
    with chat_server(lambda question: "Hm.") as server:
        outcome = evaluate(
            *("suite=taboo", f"policies=ours={run}@1,theirs={chat_model},endpoint", f"output={tmp_path / 'arena'}"),
            *("suite.limit=2", "suite.sampler.max_new_tokens=5", f"suite.wording._target_={WORDING}"),
            *("suite.endpoint.model=big", f"suite.endpoint.base_url={server.url}"),
        )
    assert outcome.status == 0, outcome.errors
    summary = json.loads((tmp_path / "arena" / "summary.json").read_text())
    assert [(p["label"], p["kind"], p["rounds"]) for p in summary["payoff"]["players"]] == [
        ("ours", "round", 2),
        ("theirs", "round", None),
        ("endpoint", "other", None),
    ]
    assert (summary["words"], summary["changes"]) == (2, [])
    rows = pq.read_table(tmp_path / "arena" / "episodes.parquet").to_pylist()
    said = {u["text"] for row in rows for u in row["utterances"][::2] if row["attacker"] == "endpoint"}
    assert said == {"Hm."}
    assert {body["model"] for body in server.asked} == {"big"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["suite=taboo"], "policies must be given once"),
        (["policies=x"], "one suite must be given; choose suite=NAME of "),
        (["suite=tabou", "policies=x"], "there is no suite=tabou; choose one of"),
        (["suite=taboo", "policies=scripted"], "no run is named to take held-out words from"),
        (["suite=taboo", "policies=scripted", "suite.words=[apple]"], "no run of Taboo is named to take the game from"),
        (["suite=taboo", "policies={run}", "seed=x"], "seed is 'x'; it must be a whole number of at least 0."),
        (["suite=taboo", "policies={run},scripted@2"], "scripted has no rounds; leave out @2."),
        (["suite=taboo", "policies={run}@7"], "has base and rounds 0 to 1, not 7"),
        (["suite=taboo", "policies={run},scripted", "suite.limit=4"], "suite.limit is 4, but there are 3 words"),
        (["suite=taboo", "policies={run},a=scripted", "suite.words=[zebrafish]"], "zebrafish"),
        (["suite=taboo", "policies={run},endpoint"], "add suite.endpoint.model=NAME"),
        (["suite=taboo", "policies={run}", "suite.gamse=2"], "suite has no key 'gamse'"),
        (["suite=taboo", "policies={run}", "suite.games_per_word=two"], "suite.games_per_word is 'two'; it must be a"),
        (["suite=taboo", "policies={run}", "suite.games_per_word=0"], "games_per_word is 0"),
        (["suite=taboo", "policies={run},no/such/model/here"], "cannot read the model 'no/such/model/here'"),
        (
            ["suite=taboo", "policies=scripted", "suite.words=[apple]", "+game@suite.game=taboo"],
            "nobody was trained among these players",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_sentence(run, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    filled = [argument.replace("{run}", str(run)) for argument in arguments]
    assert sentence in evaluate(*filled, f"output={tmp_path / 'arena'}").sentence


def test_results_of_one_suite_are_not_overwritten_by_another(finished, run, tmp_path):
    _, output = finished
    copy = tmp_path / "arena"
    shutil.copytree(output, copy)
    record = json.loads((copy / "evaluation.json").read_text())
    assert (record["suite"], record["config"]["seed"]) == ("taboo", 1)
    assert [(policy["label"], policy["place"]) for policy in record["policies"]][1] == ("scripted", "scripted")
    before = (copy / "summary.json").read_bytes()
    refused = evaluate("suite=preference", f"policies=a={run},scripted", f"output={copy}")
    assert refused.sentence == f"{copy} holds results of suite=taboo; give another output."
    assert (copy / "summary.json").read_bytes() == before
