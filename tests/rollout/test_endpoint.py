import re
from collections.abc import Iterator
from typing import Any

import pytest

from chat_server import ChatServer, chat_server
from sparring.annotators.purse import Prices
from sparring.core.answers import Expense
from sparring.core.errors import ConfigError
from sparring.core.types import Message
from sparring.rollout.endpoint import Completion, Endpoint, Question

QUESTIONS = [Question((Message("user", f"say {number}"),), seed=number) for number in range(20)]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(lambda question: f" {question.removeprefix('say ')} it is\n") as server:
        yield server


def endpoint(server: ChatServer, **changes: Any) -> Endpoint:
    settings: dict[str, Any] = {"model": "tester", "max_retries": 2, "concurrency": 4}
    return Endpoint(server.url, **(settings | changes))


def test_many_questions_are_answered_in_their_order_to_the_letter(server):
    said = list(endpoint(server).ask(QUESTIONS))
    assert [one and one.text for one in said] == [f" {number} it is\n" for number in range(20)]
    assert len(server.asked) == 20


def test_a_whole_conversation_is_sent_with_its_roles(server):
    turns = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "7"))
    list(endpoint(server).ask([Question(turns, seed=3)]))
    [body] = server.asked
    assert body["messages"] == [{"role": turn.role, "content": turn.content} for turn in turns]
    assert body["seed"] == 3


def test_tokens_are_those_that_the_server_counted_or_unknown(server):
    [one] = endpoint(server).ask(QUESTIONS[:1])
    assert (one.prompt_tokens, one.completion_tokens) == (None, None)
    server.counts = True
    [one] = endpoint(server).ask(QUESTIONS[:1])
    assert (one.prompt_tokens, one.completion_tokens) == (2, 3)
    assert one.seconds > 0


@pytest.mark.parametrize("usage", [None, "much", {"prompt_tokens": 2}, {"prompt_tokens": -1, "completion_tokens": "3"}])
def test_what_is_no_count_is_not_taken_for_one(server, usage):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Yes."}}
    server.refusal = 200, {"choices": [choice], "usage": usage}
    [one] = endpoint(server).ask(QUESTIONS[:1])
    assert (one.text, one.completion_tokens) == ("Yes.", None)


def test_an_answer_costs_its_tokens_by_the_million(server):
    priced = endpoint(server, prices=Prices(prompt=3.0, completion=10.0))
    assert priced.expense(Completion("", "stop", 1000, 200, 0.1)) == Expense(1, 1000, 200, 0.005)
    assert endpoint(server).expense(Completion("", "stop", 1000, 200, 0.1)) == Expense(1, 1000, 200, 0.0)
    assert endpoint(server).expense(Completion("", "stop", None, None, 0.1)) == Expense(1)
    with pytest.raises(ConfigError, match=r"does not say how many tokens .* suite\.endpoint\.prices=null"):
        priced.expense(Completion("", "stop", None, 200, 0.1))


def test_a_question_without_room_has_no_answer_and_the_others_theirs(server):
    with chat_server(lambda question: "Yes.") as other:
        other.refusal = 400, {"error": {"message": "too long", "code": "context_length_exceeded"}}
        assert list(endpoint(other).ask(QUESTIONS[:2])) == [None, None]


def test_the_first_answer_that_fails_ends_the_asking(server):
    server.refusal = 404, {"error": {"message": "no such model"}}
    with pytest.raises(ConfigError, match=re.escape(f"the model 'tester' at {server.url} does not answer (http 404)")):
        list(endpoint(server, concurrency=1).ask(QUESTIONS))
    assert len(server.asked) < 20


def test_what_answers_depend_on_is_described_without_the_key(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "secret-123")
    one = endpoint(server, api_key_env="TEST_KEY", temperature=0.5, max_new_tokens=9)
    assert one.described == f"tester at {server.url}, temperature 0.5, 9 tokens"
    assert "secret" not in repr(one)
