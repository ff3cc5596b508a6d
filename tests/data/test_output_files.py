import gzip
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparring.core.errors import DataError
from sparring.core.identity import prompt_id
from sparring.core.jsonl import read_jsonl
from sparring.core.types import Message, Output, Prompt
from sparring.data.output_files import read_outputs, read_questions, write_outputs
from sparring.data.preference_files import Preference, write_preferences
from sparring.data.prompts import JsonlPrompts

TURNS = ["Name a fish.", "And a bird."]


def said(*contents: str) -> tuple[Message, ...]:
    """User and assistant by turns."""
    return tuple(Message("assistant" if place % 2 else "user", text) for place, text in enumerate(contents))


def output(*contents: str, model: str = "ours", **known: object) -> Output:
    """The last of `contents` is the answer; `known` is what the prompt's meta holds."""
    messages = said(*contents[:-1])
    return Output(Prompt(prompt_id(messages), messages, meta=known), contents[-1], model)


def answered(number: int = 81, model: str = "ours") -> Output:
    """Both turns of a question of MT-Bench."""
    return output(TURNS[0], "Cod", TURNS[1], "Tit", model=model, question_id=number, category="stem", turns=TURNS)


def lines(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(path: Path, *numbers: int) -> Path:
    return lines(path, *({"question_id": number, "category": "stem", "turns": TURNS} for number in numbers))


text = st.text(st.characters(exclude_categories=["Cs"]))
some_text = text.filter(str.strip)
cost = st.tuples(st.none() | st.integers(0, 10_000), st.none() | st.floats(0, 1e6))


@given(st.lists(st.tuples(some_text, text, cost), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_outputs_survive_alpaca_eval_with_what_they_cost(tmp_path, drawn):
    outputs = [
        replace(output(asked, answer, dataset="koala"), tokens=used[0], seconds=used[1])
        for asked, answer, used in drawn
    ]
    write_outputs(tmp_path / "model_outputs.json", outputs, "alpaca_eval")
    assert read_outputs(tmp_path / "model_outputs.json") == outputs


@given(st.lists(st.tuples(text, text, text, text, cost), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_conversations_survive_arena_hard_with_what_they_cost(tmp_path, drawn):
    outputs = []
    for uid, (system, *contents, used) in enumerate(drawn):
        messages = (Message("system", system), Message("user", contents[0]))
        prompt = Prompt(prompt_id(messages), messages, meta={"uid": str(uid)})
        outputs.append(Output(prompt, contents[1], "ours", *used))
    write_outputs(tmp_path / "ours.jsonl", outputs, "arena_hard")
    assert read_outputs(tmp_path / "ours.jsonl") == outputs


RESPONSE = {
    "policy": "ours",
    "prompt_id": "p1",
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}],
    "meta": '{"principle": "be kind."}',
    "text": "Hi",
    "tokens": 3,
    "seconds": None,
}


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_what_an_evaluation_wrote_is_read_with_its_prompts_as_they_were(tmp_path, kind):
    path = tmp_path / f"responses.{kind}"
    rows = [RESPONSE, RESPONSE | {"policy": "theirs", "text": "", "tokens": None}]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines(path, *rows)
    messages = (Message("system", "Be kind."), Message("user", "Hello"))
    prompt = Prompt("p1", messages, meta={"principle": "be kind."})
    assert read_outputs(path) == [Output(prompt, "Hi", "ours", 3), Output(prompt, "", "theirs")]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"messages": []}, "has no messages with role and content; mend or remove it"),
        ({"messages": "Hello"}, "has no messages with role and content"),
        ({"messages": [{"role": "user"}]}, "has no messages with role and content"),
        ({"meta": "{"}, "has a meta that is not JSON"),
        ({"meta": "[1]"}, r"has \[1\] as meta; give a JSON object"),
        ({"meta": None}, "has None as meta; give a text"),
        ({"text": None}, "has None as text; give a text"),
        ({"policy": 3}, "has 3 as policy; give a text"),
        ({"tokens": "many"}, "has 'many' and None as response_tokens and response_seconds; give numbers"),
    ],
)
def test_a_row_of_an_evaluation_that_is_none_is_named(tmp_path, changed, sentence):
    path = lines(tmp_path / "responses.jsonl", RESPONSE, RESPONSE | changed)
    with pytest.raises(DataError, match=rf"^row 2 of {path} {sentence}"):
        read_outputs(path)
    lacking = {name: value for name, value in RESPONSE.items() if name != "meta"}
    with pytest.raises(DataError, match="has no column 'meta', which format sparring needs"):
        read_outputs(lines(path, RESPONSE, lacking))


def test_both_turns_survive_mt_bench(tmp_path):
    outputs = [replace(answered(82), tokens=7, seconds=0.5), answered(81)]
    write_outputs(tmp_path / "model_answer" / "ours.jsonl", outputs, "mt_bench")
    questions(tmp_path / "question.jsonl", 81, 82)
    assert read_outputs(tmp_path / "model_answer" / "ours.jsonl") == outputs
    elsewhere = questions(tmp_path / "elsewhere.jsonl", 81, 82)
    assert read_outputs(tmp_path / "model_answer" / "ours.jsonl", elsewhere) == outputs


def test_alpaca_eval_finds_its_columns_in_the_order_of_the_outputs(tmp_path):
    write_outputs(tmp_path / "a.json", [output("Two?", "2", dataset="koala"), output("One?", "uno")], "alpaca_eval")
    table = pd.read_json(tmp_path / "a.json")
    assert table["instruction"].tolist() == ["Two?", "One?"]
    assert table["output"].tolist() == ["2", "uno"]
    assert table["generator"].unique().tolist() == ["ours"]
    assert table["dataset"].tolist()[0] == "koala"
    assert len(table.columns) == 4


def test_fastchat_finds_the_turns_of_the_first_choice_by_number(tmp_path):
    write_outputs(tmp_path / "ours.jsonl", [answered()], "mt_bench")
    by_number = {row["question_id"]: row for row in read_jsonl(tmp_path / "ours.jsonl")}
    assert by_number[81]["choices"][0] == {"index": 0, "turns": ["Cod", "Tit"]}
    assert by_number[81]["model_id"] == "ours"
    assert len(by_number[81]["answer_id"]) == 22
    assert by_number[81]["tstamp"] > 1.7e9


def test_arena_hard_finds_the_answer_in_the_last_message_by_uid(tmp_path):
    write_outputs(tmp_path / "ours.jsonl", [output("Why?", "So.", uid="ab12")], "arena_hard")
    table = pd.read_json(tmp_path / "ours.jsonl", lines=True).set_index("uid")
    assert table.loc["ab12", "messages"] == [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": {"answer": "So."}},
    ]
    assert table.loc["ab12", "model"] == "ours"


def test_answers_of_the_first_arena_hard_are_read_as_fastchats(tmp_path):
    turns = [{"content": "Why?"}]
    asked = lines(tmp_path / "question.jsonl", {"question_id": "ab12", "category": "arena", "turns": turns})
    choices = [{"index": 0, "turns": [{"content": "So.", "token_len": 2}]}]
    row = {"question_id": "ab12", "answer_id": "x", "model_id": "theirs", "choices": choices, "tstamp": 1.0}
    [read] = read_outputs(lines(tmp_path / "theirs.jsonl", row), asked)
    assert (read.prompt.messages, read.text, read.model, read.tokens) == (said("Why?"), "So.", "theirs", None)


def test_every_choice_is_an_output_and_a_first_turn_may_stand_alone(tmp_path):
    asked = questions(tmp_path / "question.jsonl", 81)
    choices = [{"index": 0, "turns": ["Cod", "Tit"]}, {"index": 1, "turns": ["Eel"]}]
    row = {"question_id": 81, "model_id": "theirs", "choices": choices}
    both, first = read_outputs(lines(tmp_path / "a" / "theirs.jsonl", row), asked)
    assert both.prompt.messages == said(TURNS[0], "Cod", TURNS[1])
    assert (first.prompt.messages, first.text) == (said(TURNS[0]), "Eel")


def test_the_sides_of_preference_data_are_two_models(tmp_path):
    pairs = [
        Preference(output("Why?", "").prompt, "So.", "No.", None),
        Preference(output("Who?", "").prompt, "I", "", None),
    ]
    write_preferences(tmp_path / "a.parquet", pairs, conversational=True)
    read = read_outputs(tmp_path / "a.parquet")
    assert [(one.model, one.prompt.text, one.text) for one in read] == [
        ("chosen", "Why?", "So."),
        ("chosen", "Who?", "I"),
        ("rejected", "Why?", "No."),
        ("rejected", "Who?", ""),
    ]


def test_questions_are_prompts_of_their_first_turn(tmp_path):
    asked = read_questions(questions(tmp_path / "question.jsonl", 81, 82))
    assert list(asked) == [81, 82]
    assert asked[82].messages == said(TURNS[0])
    assert asked[82].meta == {"question_id": 82, "category": "stem", "turns": TURNS}


@pytest.mark.parametrize(
    ("outputs", "name", "format", "sentence"),
    [
        ([], "a.json", "alpaca_eval", "outputs of no model"),
        ([output("Q", "A"), output("Q", "A", model="b")], "a.json", "alpaca_eval", "outputs of b, ours; give those of"),
        ([output("Q", "A")], "a.jsonl", "alpaca_eval", r"a.jsonl does not end in .json, by which"),
        ([output("Q", "A", "R", "B")], "a.json", "alpaca_eval", "a conversation of 3 messages"),
        ([output("Q", "A")], "a.jsonl", "mt_bench", "has no question_id, by which MT-Bench knows"),
        ([output("Q", "A")], "a.jsonl", "arena_hard", "has no uid, by which Arena-Hard knows"),
        (
            [output("Q", "A", question_id=1, turns=TURNS)],
            "a.jsonl",
            "mt_bench",
            "has 2 turns, but the output answers 1",
        ),
        ([answered(), answered()], "a.jsonl", "mt_bench", "ours has 2 outputs for question 81"),
        (
            [Output(Prompt("p", (Message("system", "S"), Message("user", "Q")), meta={"question_id": 1}), "A", "m")],
            "a.jsonl",
            "mt_bench",
            "question 1 has roles system, user",
        ),
    ],
)
def test_outputs_that_a_tool_would_not_understand_are_not_written(tmp_path, outputs, name, format, sentence):
    with pytest.raises(DataError, match=sentence):
        write_outputs(tmp_path / name, outputs, format)
    assert not list(tmp_path.iterdir())


ALPACA = {"instruction": "Q", "output": "A", "generator": "m"}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "holds no outputs"),
        ([{"prompt": "Q", "answer": "A"}], "has columns answer, prompt, those of no known format of outputs: instruct"),
        ([ALPACA, {"instruction": "Q", "output": "A"}], "row 2 of .* has no column 'generator'"),
        ([ALPACA, ALPACA | {"output": "a \ud83d b"}], r"row 2 of .* has half a character in a text \('utf-8' codec"),
        ([ALPACA | {"output": None}], "row 1 of .* has None as output; give a text"),
        ([ALPACA | {"response_tokens": "7"}], "has '7' and None as response_tokens"),
        ([{"question_id": 81, "choices": []}], r"does not say what was asked, and there is no .*question\.jsonl"),
        ([{"uid": "a", "messages": [{"role": "user", "content": "Q"}], "model": "m"}], "has no messages with roles"),
        ([{"uid": "a", "messages": [{"role": "user", "content": 1}] * 2, "model": "m"}], "has 1 where something is"),
    ],
)
def test_files_that_cannot_be_read_say_where(tmp_path, rows, sentence):
    with pytest.raises(DataError, match=sentence):
        read_outputs(lines(tmp_path / "a.jsonl", *rows))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"question_id": 9, "choices": [], "model_id": "m"}, "answers question 9, which is not among the questions"),
        ({"question_id": 81, "choices": [], "model_id": "m"}, "choices that do not answer"),
        ({"question_id": 81, "choices": [{"turns": ["A", "B", "C"]}], "model_id": "m"}, "choices that do not answer"),
        ({"question_id": 81, "choices": [{"turns": "A"}], "model_id": "m"}, "has 'A' as turns"),
        ({"question_id": 81, "choices": [{"turns": ["A"]}]}, "has None as model_id"),
    ],
)
def test_answers_that_fit_no_question_say_where(tmp_path, row, sentence):
    with pytest.raises(DataError, match=f"row 1 of .* {sentence}"):
        read_outputs(lines(tmp_path / "a.jsonl", row), questions(tmp_path / "question.jsonl", 81))


def test_the_real_files_hold_what_their_makers_say(shared):
    data = shared / "data"
    for model in ("Mistral-7B-Instruct-v0.2", "SPPO-Mistral7B-PairRM"):
        read = read_outputs(data / "alpaca_eval" / "model_outputs" / f"{model}.json.gz")
        assert len(read) == 805
        assert {one.model for one in read} == {model}
    asked = data / "prompts" / "mt_bench_questions.jsonl"
    reference = read_outputs(data / "prompts" / "mt_bench_reference_gpt4.jsonl", asked)
    assert len(reference) == 30
    assert all(len(one.prompt.messages) == 3 and one.model == "gpt-4" for one in reference)
    assert len(read_questions(asked)) == 80


def test_real_answers_are_the_same_rows_when_written_again(shared, tmp_path):
    source = shared / "data" / "alpaca_eval" / "model_outputs" / "SPPO-Mistral7B-PairRM.json.gz"
    write_outputs(tmp_path / "a.json", read_outputs(source), "alpaca_eval")
    keys = ("instruction", "output", "generator", "dataset")
    with gzip.open(source) as file:
        assert [{key: row[key] for key in keys} for row in json.load(file)] == json.loads(
            (tmp_path / "a.json").read_text()
        )
    source = shared / "data" / "prompts" / "mt_bench_reference_gpt4.jsonl"
    outputs = read_outputs(source, source.with_name("mt_bench_questions.jsonl"))
    write_outputs(tmp_path / "gpt-4.jsonl", outputs, "mt_bench")
    for theirs, ours in zip(read_jsonl(source), read_jsonl(tmp_path / "gpt-4.jsonl"), strict=True):
        assert theirs["choices"] == ours["choices"]


def test_real_questions_of_arena_hard_keep_their_uid_on_the_way(shared, tmp_path):
    source = JsonlPrompts(
        str(shared / "data" / "prompts" / "arena_hard_v01_questions.jsonl.gz"),
        0,
        rounds=1,
        seed=0,
        split="same",
        cache_dir=str(tmp_path),
    )
    outputs = [Output(prompt, "I do not know.", "ours") for prompt in source.for_round(0)[:20]]
    write_outputs(tmp_path / "ours.jsonl", outputs, "arena_hard")
    table = pd.read_json(tmp_path / "ours.jsonl", lines=True)
    assert table["uid"].tolist() == [one.prompt.meta["uid"] for one in outputs]
    assert [one.prompt.id for one in read_outputs(tmp_path / "ours.jsonl")] == [one.prompt.id for one in outputs]
