from collections.abc import Mapping
from typing import Any

import pytest

from sparring.core.errors import DataError
from sparring.core.identity import prompt_id
from sparring.core.types import Message, Prompt
from sparring.data.prompt_formats import detect_layout, to_prompt


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def asked(*contents: str) -> tuple[Message, ...]:
    return tuple(Message("user", content) for content in contents)


def prompt_of(row: Mapping[str, Any], **overrides: Any) -> Prompt:
    options = {"prompt_column": None, "teacher_model": "gpt-4", "source": "test"} | overrides
    return to_prompt(row, detect_layout(list(row), **options))


def test_plain_text_becomes_one_user_message_and_is_its_own_id() -> None:
    prompt = prompt_of({"prompt": "Why is the sky blue?"})
    assert prompt == Prompt(prompt_id(asked("Why is the sky blue?")), asked("Why is the sky blue?"))


def test_conversational_prompts_keep_system_and_earlier_turns() -> None:
    turns = [turn("system", "Be brief."), turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Who are you?")]
    messages = prompt_of({"prompt": turns}).messages
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[-1].content == "Who are you?"


@pytest.mark.parametrize("chosen", ["Good", [turn("assistant", "Good")]])
def test_the_chosen_answer_of_a_preference_row_is_no_teacher_and_no_meta(chosen: object) -> None:
    prompt = prompt_of({"prompt": "Q", "chosen": chosen, "rejected": "Bad", "score_chosen": 8.5})
    assert prompt == Prompt(prompt_id(asked("Q")), asked("Q"), None, {"score_chosen": 8.5})


def test_an_implicit_prompt_is_what_both_conversations_share_up_to_the_last_user_turn() -> None:
    shared = [turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Sing")]
    row = {"chosen": [*shared, turn("assistant", "La la")], "rejected": [*shared, turn("assistant", "No")]}
    assert [message.content for message in prompt_of(row).messages] == ["Hi", "Hello", "Sing"]


def test_an_implicit_prompt_ends_with_the_user_even_where_both_answers_are_the_same() -> None:
    same = [turn("user", "Hi"), turn("assistant", "Hello")]
    assert prompt_of({"chosen": same, "rejected": same}).messages == asked("Hi")


def test_transcripts_as_text_have_no_implicit_prompt() -> None:
    row = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: b"}
    layout = detect_layout(list(row), prompt_column=None, teacher_model="gpt-4", source="test")
    assert layout.messages(row) == ()


def test_the_teacher_of_ultrafeedback_is_the_first_model_whose_name_contains_the_given_one() -> None:
    completions = [
        {"model": "alpaca-7b", "response": "weak"},
        {"model": "gpt-4-0613", "response": "strong"},
        {"model": "gpt-4-turbo", "response": "late"},
    ]
    row = {"source": "flan", "instruction": "Q", "models": ["alpaca-7b", "gpt-4-0613"], "completions": completions}
    prompt = prompt_of(row)
    assert (prompt.messages, prompt.teacher) == (asked("Q"), "strong")
    assert prompt.meta == {"source": "flan", "models": ["alpaca-7b", "gpt-4-0613"]}
    assert prompt_of(row, teacher_model="alpaca").teacher == "weak"
    assert prompt_of(row, teacher_model="bard").teacher is None


def test_an_instruction_has_its_input_below_a_blank_line_and_its_output_as_teacher() -> None:
    prompt = prompt_of({"instruction": "Translate.", "input": "chat", "output": "cat", "dataset": "alpaca"})
    assert (prompt.text, prompt.teacher, dict(prompt.meta)) == ("Translate.\n\nchat", "cat", {"dataset": "alpaca"})
    assert len(prompt.messages) == 1


@pytest.mark.parametrize("nothing", ["", "  ", None])
def test_an_empty_input_leaves_the_instruction_alone(nothing: str | None) -> None:
    assert prompt_of({"instruction": "Sing.", "input": nothing}).text == "Sing."


@pytest.mark.parametrize("column", ["teacher", "completion"])
@pytest.mark.parametrize("answer", ["An answer", [turn("assistant", "An answer")]])
def test_a_teacher_or_completion_column_is_the_teachers_answer(column: str, answer: object) -> None:
    assert prompt_of({"prompt": "Q", column: answer}).teacher == "An answer"
    assert prompt_of({"prompt": "Q", column: answer}).meta == {}


def test_an_empty_answer_is_no_teacher() -> None:
    assert prompt_of({"prompt": "Q", "teacher": "", "completion": None}).teacher is None


def test_meta_holds_scalars_and_lists_of_text_and_nothing_else() -> None:
    row = {"prompt": "Q", "words": ["dog"], "sentences": 4, "strict": True, "nested": {"a": 1}, "ids": [1], "no": None}
    assert prompt_of(row).meta == {"words": ["dog"], "sentences": 4, "strict": True}


def test_a_named_column_overrides_detection_and_the_other_ones_are_meta() -> None:
    prompt = prompt_of({"prompt": "not this", "question": "Q"}, prompt_column="question")
    assert (prompt.messages, prompt.meta) == (asked("Q"), {"prompt": "not this"})


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " \n",
        None,
        7,
        [],
        [turn("user", "")],
        [turn("user", "Q"), turn("assistant", "A")],
        ["Q"],
        [{"role": "user"}],
    ],
)
def test_what_asks_nothing_is_no_prompt(prompt: object) -> None:
    layout = detect_layout(["prompt"], prompt_column=None, teacher_model="gpt-4", source="test")
    assert layout.messages({"prompt": prompt}) == ()


def test_an_unknown_layout_lists_what_was_found_and_what_was_expected() -> None:
    with pytest.raises(DataError, match=r"turns\.jsonl has columns question_id, turns, none .* prompts\.prompt_column"):
        prompt_of({"turns": ["a"], "question_id": 1}, source="turns.jsonl")


def test_a_named_column_that_is_absent_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(DataError, match="no column 'question', only prompt"):
        prompt_of({"prompt": "Q"}, prompt_column="question")
