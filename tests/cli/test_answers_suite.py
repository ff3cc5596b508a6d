"""`sparring evaluate suite=answers`: what it writes, read as the benchmarks' own tools read it."""

import glob
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from chat_server import chat_server
from evaluations import Outcome, evaluate
from sparring.core.jsonl import read_jsonl
from sparring.data.output_files import read_outputs

torch.set_num_threads(1)

TURNS = ["Name a fish.", "And a bird."]
QUESTIONS: dict[str, list[dict[str, Any]]] = {
    "alpaca_eval": [
        {"dataset": "koala", "instruction": f"Say {word}.", "output": "reference", "generator": "theirs"}
        for word in ("three", "one", "two")
    ],
    "mt_bench": [
        {"question_id": 82, "category": "stem", "turns": TURNS},
        {"question_id": 81, "category": "writing", "turns": ["Say one.", "Say it again."], "reference": ["1", "1"]},
    ],
    "arena_hard": [
        {"uid": name, "category": "arena-hard-v0.1", "cluster": "fish", "prompt": f"Say {name}."} for name in "abc"
    ],
}


@pytest.fixture
def questions(tmp_path: Path) -> dict[str, Path]:
    """The file of each benchmark, as it is published."""
    paths = {name: tmp_path / "asked" / f"{name}.jsonl" for name in QUESTIONS}
    paths["alpaca_eval"] = paths["alpaca_eval"].with_suffix(".json")
    (tmp_path / "asked").mkdir()
    for name, rows in QUESTIONS.items():
        lines = json.dumps(rows) if name == "alpaca_eval" else "".join(json.dumps(row) + "\n" for row in rows)
        paths[name].write_text(lines)
    return paths


def run(policies: str, format: str, questions: Path, output: Path, *more: str) -> Outcome:
    return evaluate(
        *("suite=answers", f"policies={policies}", f"suite.format={format}", f"suite.questions={questions}"),
        *(f"output={output}", "suite.sampler.max_new_tokens=5", "suite.chunk_size=2", *more),
    )


def fastchat_answers(directory: Path, number: str) -> dict[str, dict[Any, dict[str, Any]]]:
    """As `load_model_answers` of FastChat's llm_judge/common.py reads, and Arena-Hard's with `uid` as the number."""
    answers: dict[str, dict[Any, dict[str, Any]]] = {}
    for name in sorted(glob.glob(os.path.join(directory, "*.jsonl"))):
        rows = [json.loads(line) for line in Path(name).read_text().splitlines()]
        answers[os.path.basename(name)[:-6]] = {row[number]: row for row in rows}
    return answers


def test_alpaca_eval_reads_every_answer_in_the_order_of_the_questions(chat_model, questions, tmp_path):
    done = run(f"ours={chat_model}", "alpaca_eval", questions["alpaca_eval"], tmp_path / "out")
    assert done.status == 0, done.errors
    # alpaca_eval/utils.py reads .json with pandas, and takes the model's name where the generator is one alone.
    table = pd.read_json(tmp_path / "out" / "ours.json")
    assert table["instruction"].tolist() == ["Say three.", "Say one.", "Say two."]
    assert table["generator"].unique().tolist() == ["ours"]
    assert table["dataset"].unique().tolist() == ["koala"]
    kept = pq.read_table(sorted((tmp_path / "out" / "turn-1" / "answers" / "ours").glob("*.parquet"))).to_pylist()
    assert table["output"].tolist() == [row["text"] for row in kept]
    assert table["response_tokens"].tolist() == [row["tokens"] for row in kept]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["format"], summary["questions"]) == ("alpaca_eval", 3)
    [policy] = summary["policies"]
    assert policy["file"] == "ours.json"
    assert policy["turns"][0]["tokens"] == pytest.approx(table["response_tokens"].mean())
    assert f"written to {tmp_path / 'out'}: ours.json" in done.output


def test_mt_bench_asks_the_second_turn_below_the_models_own_first_answer(questions, tmp_path):
    with chat_server(lambda question: f"{len(question)} letters.") as server:
        server.counts = True
        done = run(
            "their model=endpoint",
            "mt_bench",
            questions["mt_bench"],
            tmp_path / "out",
            *("suite.endpoint.model=big", f"suite.endpoint.base_url={server.url}"),
            "suite.endpoint.prices={_target_: sparring.annotators.purse.Prices, prompt: 0.0, completion: 2e6}",
        )
        assert done.status == 0, done.errors
        asked = [[message["content"] for message in body["messages"]] for body in server.asked]
    assert sorted(asked[:2]) == [["Name a fish."], ["Say one."]]
    assert sorted(asked[2:]) == [
        ["Name a fish.", "12 letters.", "And a bird."],
        ["Say one.", "8 letters.", "Say it again."],
    ]
    answers = fastchat_answers(tmp_path / "out" / "model_answer", "question_id")["their model"]
    assert list(answers) == [82, 81]
    assert answers[82]["choices"] == [{"index": 0, "turns": ["12 letters.", "11 letters."]}]
    assert answers[81]["choices"][0]["turns"] == ["8 letters.", "13 letters."]
    assert {answers[number]["model_id"] for number in answers} == {"their model"}
    assert answers[82]["response_tokens"] == 4
    assert list(read_jsonl(tmp_path / "out" / "question.jsonl")) == QUESTIONS["mt_bench"]
    read = read_outputs(tmp_path / "out" / "model_answer" / "their model.jsonl")
    assert [output.text for output in read] == ["11 letters.", "13 letters."]
    [policy] = json.loads((tmp_path / "out" / "summary.json").read_text())["policies"]
    assert [turn["expense"]["calls"] for turn in policy["turns"]] == [2, 2]
    assert [turn["expense"]["cost"] for turn in policy["turns"]] == [8.0, 8.0]  # two tokens each, at two apiece
    assert "8.00" in done.output


def test_arena_hard_finds_every_answer_by_uid(chat_model, questions, tmp_path):
    policies = f"ours={chat_model},greedy={chat_model}+greedy"
    greedy = "+suite.decodings.greedy={_target_: sparring.policy.sampler.Sampler, num_generations: 1, top_k: 1, " + (
        "temperature: 1.0, top_p: 1.0, max_new_tokens: 5, token_budget: 1000}"
    )
    done = run(policies, "arena_hard", questions["arena_hard"], tmp_path / "out", greedy)
    assert done.status == 0, done.errors
    answers = fastchat_answers(tmp_path / "out" / "model_answer", "uid")
    assert list(answers) == ["greedy", "ours"]
    for name, found in answers.items():
        # gen_judgment.py reads the question's `prompt` and `category`, and of each answer its last message and model.
        for question in read_jsonl(tmp_path / "out" / "question.jsonl"):
            answer = found[question["uid"]]
            assert answer["messages"][0] == {"role": "user", "content": question["prompt"]}
            assert isinstance(answer["messages"][-1]["content"]["answer"], str)
            assert answer["model"] == name


def test_questions_of_arena_hards_first_release_are_the_same_prompts(chat_model, questions, tmp_path):
    old = tmp_path / "question.jsonl"
    rows = [
        {"question_id": row["uid"], "category": "arena", "cluster": "fish", "turns": [{"content": row["prompt"]}]}
        for row in QUESTIONS["arena_hard"]
    ]
    old.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, path in (("new", questions["arena_hard"]), ("old", old)):
        assert run(f"ours={chat_model}", "arena_hard", path, tmp_path / name).status == 0
    new, first = (fastchat_answers(tmp_path / name / "model_answer", "uid")["ours"] for name in ("new", "old"))
    assert {uid: row["messages"] for uid, row in new.items()} == {uid: row["messages"] for uid, row in first.items()}


def test_a_policy_that_is_steered_is_told_the_principle_of_the_question(chat_model, questions, tmp_path):
    told = tmp_path / "told.jsonl"
    rows = [row | {"principle": "Answer like a fish."} for row in QUESTIONS["mt_bench"]]
    told.write_text("".join(json.dumps(row) + "\n" for row in rows))
    policies = f"plain={chat_model},told={chat_model}+principle,la={chat_model}+linear_alignment"
    done = run(policies, "mt_bench", told, tmp_path / "out", "suite.sampler.top_k=1")
    assert done.status == 0, done.errors
    answers = fastchat_answers(tmp_path / "out" / "model_answer", "question_id")
    assert list(answers) == ["la", "plain", "told"]
    assert answers["told"][82]["choices"] != answers["plain"][82]["choices"]
    refused = run(f"told={chat_model}+principle", "mt_bench", questions["mt_bench"], tmp_path / "other")
    assert "has no principle in its column 'principle'" in refused.sentence


def test_recorded_outputs_are_brought_into_another_format(tmp_path):
    recorded = tmp_path / "recorded.json"
    rows = [{"instruction": f"Say {n}.", "output": f"{n}!", "generator": "owner/theirs"} for n in "cba"]
    recorded.write_text(json.dumps(rows))
    asked = tmp_path / "question.jsonl"
    asked.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS["arena_hard"]))
    done = run(f"theirs={recorded}", "arena_hard", asked, tmp_path / "out")
    assert done.status == 0, done.errors
    [answers] = fastchat_answers(tmp_path / "out" / "model_answer", "uid").values()
    assert {uid: row["messages"][-1]["content"]["answer"] for uid, row in answers.items()} == {
        uid: f"{uid}!" for uid in "abc"
    }
    assert "response_seconds" not in answers["a"]  # the time to read a file is not the model's
    assert "would give its name to a file" in run(f"{recorded}", "arena_hard", asked, tmp_path / "other").sentence


def test_recorded_answers_of_mt_bench_are_the_same_when_written_again(questions, tmp_path):
    with chat_server(lambda question: f"{len(question)} letters.") as server:
        endpoint = ("suite.endpoint.model=big", f"suite.endpoint.base_url={server.url}")
        assert run("a=endpoint", "mt_bench", questions["mt_bench"], tmp_path / "out", *endpoint).status == 0
    first = tmp_path / "out" / "model_answer" / "a.jsonl"
    done = run(f"b={first}", "mt_bench", questions["mt_bench"], tmp_path / "again")
    assert done.status == 0, done.errors
    rows = zip(read_jsonl(first), read_jsonl(tmp_path / "again" / "model_answer" / "b.jsonl"), strict=True)
    assert all(one["choices"] == other["choices"] for one, other in rows)


def test_what_was_answered_before_is_not_asked_again(questions, tmp_path):
    with chat_server(lambda question: f"{len(question)} letters.") as server:
        endpoint = ("suite.endpoint.model=big", f"suite.endpoint.base_url={server.url}")
        command = ("a=endpoint", "mt_bench", questions["mt_bench"], tmp_path / "out", *endpoint)
        first = run(*command)
        rows = list(read_jsonl(tmp_path / "out" / "model_answer" / "a.jsonl"))
        (tmp_path / "out" / "model_answer" / "a.jsonl").unlink()
        shutil.rmtree(tmp_path / "out" / "turn-2")
        again = run(*command)
        assert len(server.asked) == 2 + 2 + 2
        third = run(*command)
        assert len(server.asked) == 6
    assert first.status == again.status == third.status == 0
    kept = read_jsonl(tmp_path / "out" / "model_answer" / "a.jsonl")
    assert [row["choices"] for row in kept] == [row["choices"] for row in rows]
    other = run(f"a={tmp_path / 'out' / 'model_answer' / 'a.jsonl'}", *command[1:])
    assert "was answered with entrant" in other.sentence


@pytest.mark.parametrize(
    ("format", "rows", "sentence"),
    [
        ("alpaca_eval", [], "holds no questions"),
        ("alpaca_eval", [{"prompt": "Q"}], "row 1 of {file} has None as instruction; give a text."),
        ("alpaca_eval", [{"instruction": " "}], "row 1 of {file} asks nothing"),
        ("alpaca_eval", [{"instruction": "Q"}] * 2, "{file} has 2 questions 'Q'; leave each there once."),
        ("alpaca_eval", [{"instruction": "Q", "principle": 3}], "has 3 as principle; give a text."),
        ("mt_bench", [{"question_id": 1, "category": "a", "turns": []}], "is a question without turns"),
        ("mt_bench", [{"question_id": 1, "category": "a", "turns": [n]} for n in "ab"], "has 2 questions 1;"),
        ("arena_hard", [{"prompt": "Q"}], "has None as uid, by which Arena-Hard knows its questions"),
        ("arena_hard", [{"question_id": "a", "turns": ["Q", "R"]}], "has 2 turns; Arena-Hard's questions have one."),
        ("arena_hard", [{"uid": "a"}], "has None as turns; give a list of texts."),
    ],
)
def test_files_that_are_no_questions_say_where(chat_model, tmp_path, format, rows, sentence):
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = run(f"ours={chat_model}", format, asked, tmp_path / "out").sentence
    assert sentence.replace("{file}", str(asked)) in refused
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("policies", "more", "sentence"),
    [
        ("{model}", ["suite.format=alpaca"], "suite.format is 'alpaca'; it must be"),
        ("{model}", ["suite.questions=no/such.json"], "no/such.json"),
        ("a/b={model}", [], "the policy 'a/b' would give its name to a file; name it with letters, digits"),
        (".hidden={model}", [], "the policy '.hidden' would give its name to a file"),
        ("a*={model}", [], "the policy 'a*' would give its name to a file"),
        ("summary={model}", [], "the policy 'summary' has the name of the summary; name it otherwise."),
        ("{model},told={model}+principle", [], "has no principle in its column 'principle'"),
        ("{model}", ["suite.sampler.num_generations=2"], "suite.sampler.num_generations is 2; a file has room for 1"),
        (
            "{model}",
            ["suite.decodings.principle.num_generations=2"],
            "suite.decodings.principle.num_generations is 2; a file has room for 1",
        ),
        ("{model}+prinicple", [], "is to decode by +prinicple"),
        ("{model}", ["suite.chunk_size=0"], "suite.chunk_size is 0; it must be 1 or more."),
        ("{model}", ["suite.sampler.max_new_tokens=500"], "max_new_tokens=500"),
        ("endpoint", [], "add suite.endpoint.model=NAME"),
        ("a=teacher", [], "has no teacher's answer"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_sentence(chat_model, questions, tmp_path, policies, more, sentence):
    named = policies.replace("{model}", str(chat_model))
    refused = run(named, "alpaca_eval", questions["alpaca_eval"], tmp_path / "out", *more)
    assert sentence in refused.sentence
    assert not list(tmp_path.rglob("*.parquet"))  # nobody has answered yet


def test_two_recorded_answers_to_a_question_have_no_room(questions, tmp_path):
    recorded = tmp_path / "recorded.json"
    rows = [{"instruction": row["instruction"], "output": "A", "generator": "m"} for row in QUESTIONS["alpaca_eval"]]
    recorded.write_text(json.dumps([*rows, rows[0]]))
    refused = run(f"{recorded}", "alpaca_eval", questions["alpaca_eval"], tmp_path / "out").sentence
    assert f"{recorded} has several outputs of 'm' for prompt" in refused


def test_all_questions_of_the_real_files_are_read(shared):
    from sparring.data.benchmark_questions import read_benchmark

    data = shared / "data"
    for format, path, count, turns in (
        ("alpaca_eval", data / "alpaca_eval" / "instructions_with_gpt4_reference.jsonl.gz", 805, 1),
        ("mt_bench", data / "prompts" / "mt_bench_questions.jsonl", 80, 2),
        ("arena_hard", data / "prompts" / "arena_hard_v01_questions.jsonl.gz", 500, 1),
    ):
        found = read_benchmark(path, format)
        assert (len(found.prompts), found.turns) == (count, turns)
