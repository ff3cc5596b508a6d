from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from sparring.core.errors import DataError
from sparring.core.types import Message, Prompt
from sparring.policy.loading import load_policy
from sparring.policy.policy import Policy
from sparring.policy.rendering import Renderer

Ask = Callable[..., Prompt]
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def test_words_of_a_template_helper_survive_in_a_prompt(chat_policy: Policy, ask: Ask) -> None:
    # TV-11: an official script cut prompts at "None".
    ids = chat_policy.render(ask("Return None if empty"))
    assert chat_policy.tokenizer.decode(ids) == "<s><|user|>Return None if empty<|assistant|>"


def test_a_training_sequence_has_one_begin_and_one_end_of_turn(chat_policy: Policy, ask: Ask) -> None:
    ids = (*chat_policy.render(ask("Return None if empty")), *chat_policy.encode_response("None"))
    assert [ids.count(token) for token in (1, 2, 3)] == [1, 0, 1]
    assert ids[-1] == 3


def test_all_turns_of_a_conversation_are_rendered(chat_policy: Policy) -> None:
    prompt = Prompt("p", (Message("user", "a"), Message("assistant", "b"), Message("user", "c")))
    text = chat_policy.tokenizer.decode(chat_policy.render(prompt))
    assert text == "<s><|user|>a<|assistant|>b<|end|><|user|>c<|assistant|>"


def test_a_template_without_begin_token_gets_one(chat_model: Path, ask: Ask) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    assert tokenizer.decode(Renderer(tokenizer, [2, 3]).render(ask("a"))) == "<s><|user|>a<|assistant|>"


def test_a_model_that_uses_no_begin_token_gets_none(chat_model: Path, ask: Ask) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.bos_token = None
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    assert tokenizer.decode(Renderer(tokenizer, [2, 3]).render(ask("a"))) == "<|user|>a<|assistant|>"


def test_a_template_that_ends_turns_with_nothing_leaves_the_tokenizers_own_end(chat_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "")
    assert Renderer(tokenizer, [3, 2]).end_id == 2


def test_a_begin_token_inside_a_users_text_is_refused_by_name(chat_policy: Policy, ask: Ask) -> None:
    with pytest.raises(DataError, match="prompt bad contains '<s>'"):
        chat_policy.render(ask("what is <s>?", "bad"))


@pytest.fixture
def begins_every_turn(chat_model: Path) -> Renderer:
    """Each user turn begins the text anew, and each answer ends it."""
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token }}<|user|>{{ m['content'] }}"
        "{% else %}<|assistant|>{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    return Renderer(tokenizer, [2, 3])


def conversation(*said: str) -> Prompt:
    """Turns of the user and the assistant, the user's first."""
    roles = ("user", "assistant")
    return Prompt("talk", tuple(Message(roles[turn % 2], text) for turn, text in enumerate(said)))


def test_a_template_may_begin_every_turn_with_a_begin_token(begins_every_turn: Renderer) -> None:
    ids = begins_every_turn.render(conversation("the cat", "sat", "and", "ran", "a door"))
    text = "<s><|user|>the cat<|assistant|>sat</s><s><|user|>and<|assistant|>ran</s><s><|user|>a door<|assistant|>"
    assert begins_every_turn.tokenizer.decode(ids) == text
    assert (ids.count(1), ids.count(2)) == (3, 2)
    assert begins_every_turn.end_id == 2


@pytest.mark.parametrize("said", [("<s>",), ("the cat", "sat <s>", "and"), ("the <s>cat", "sat", "and")])
def test_a_begin_token_that_the_template_did_not_write_is_still_refused(
    said: tuple[str, ...], begins_every_turn: Renderer
) -> None:
    with pytest.raises(DataError, match="prompt talk contains '<s>'"):
        begins_every_turn.render(conversation(*said))


def test_what_the_template_refuses_is_named(chat_model: Path, ask: Ask) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        + tokenizer.chat_template
    )
    with pytest.raises(DataError, match=r"prompt p: no system turn"):
        Renderer(tokenizer, [2, 3]).render(Prompt("p", (Message("system", "a"), Message("user", "b"))))


def test_a_plain_prompt_is_one_begin_token_and_the_text(plain_policy: Policy, ask: Ask) -> None:
    ids = plain_policy.render(ask("the cat"))
    assert ids[0] == 1
    assert ids.count(1) == 1
    assert 2 not in ids  # this tokenizer would end every text
    assert plain_policy.tokenizer.decode(ids[1:]) == "the cat"


def test_control_words_in_a_plain_text_stay_text(plain_policy: Policy, ask: Ask) -> None:
    ids = plain_policy.render(ask("say <s> and </s>"))
    assert (ids.count(1), ids.count(2)) == (1, 0)
    assert plain_policy.decode([1], [*ids[1:], 2]) == "say <s> and </s>"


def test_a_plain_response_ends_with_the_first_named_end_token(plain_policy: Policy, chat_policy: Policy) -> None:
    assert plain_policy.encode_response("the cat")[-1] == 1
    assert plain_policy.encode_response("") == (1,)
    assert chat_policy.encode_response("") == (3,)


texts = st.text(st.sampled_from("ab cdehtz\n.!é日<>▁"[:-1]), max_size=20)


@many
@given(text=texts)
def test_a_plain_response_is_decoded_to_what_was_encoded(text: str, plain_policy: Policy, ask: Ask) -> None:
    prompt = plain_policy.render(ask("one day"))
    assert plain_policy.decode(prompt, plain_policy.encode_response(text)) == text


@many
@given(text=texts)
def test_a_chat_response_is_decoded_to_what_was_encoded(text: str, chat_policy: Policy, ask: Ask) -> None:
    assert chat_policy.decode(chat_policy.render(ask("one day")), chat_policy.encode_response(text)) == text


@pytest.mark.parametrize("text", ["he said", " The dog ran", "\nHi  there.", "", "héé 日"])
def test_a_real_llama_tokenizer_gives_responses_back(text: str, stories260k: Path, ask: Ask) -> None:
    policy = load_policy(str(stories260k))
    assert policy.eos_ids == (1, 2)
    prompt = policy.render(ask("Once upon a time, there was a dog."))
    ids = policy.encode_response(text)
    assert ids[-1] == 1
    assert policy.decode(prompt, ids) == text
