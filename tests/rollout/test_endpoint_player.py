import re
from collections.abc import Iterator
from typing import Any

import pytest

from chat_server import ChatServer, chat_server
from sparring.core.errors import ConfigError
from sparring.games.taboo.players import Position
from sparring.games.taboo.wording import FixedWording
from sparring.rollout.endpoint_player import EndpointPlayer

POSITIONS = [Position("defender", None, (f"What is number {n}?",), 5, seed=2**40 + n) for n in range(5)]


def repeat(question: str) -> str:
    [number] = re.findall(r"number (\d)", question)
    return f" It is {number}. " if number != "3" else "It goes on ..."


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(repeat) as server:
        yield server


def player(server: ChatServer, **changes: Any) -> EndpointPlayer:
    settings: dict[str, Any] = {"model": "tester", "wording": FixedWording(), "max_retries": 2, "concurrency": 2}
    return EndpointPlayer(server.url, **(settings | changes))


def test_answers_come_in_order_with_the_way_they_ended(server):
    replies = player(server)(POSITIONS)
    assert [reply and reply.text for reply in replies] == [
        "It is 0.",
        "It is 1.",
        "It is 2.",
        "It goes on ...",
        "It is 4.",
    ]
    assert [reply and reply.finish for reply in replies] == ["stop", "stop", "stop", "length", "stop"]
    assert all(reply is not None and reply.ids == () for reply in replies)


def test_the_server_is_told_the_position_in_words_and_its_seed(server):
    player(server, temperature=0.7, max_new_tokens=9, answer_tokens_key="max_completion_tokens")(POSITIONS[1:2])
    [body] = server.asked
    assert body["messages"] == [{"role": "user", "content": FixedWording()(POSITIONS[1]).messages[0].content}]
    assert (body["model"], body["temperature"], body["max_completion_tokens"]) == ("tester", 0.7, 9)
    assert body["seed"] == (2**40 + 1) % 2**31
    player(server, temperature=None)(POSITIONS[1:2])
    assert "temperature" not in server.asked[1]


def test_the_key_comes_from_the_environment_and_is_repeated_nowhere(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "secret-123")
    asked = player(server, api_key_env="TEST_KEY")
    asked(POSITIONS[:1])
    assert server.keys == ["Bearer secret-123"]
    assert "secret" not in repr(asked)
    server.refusal = 401, {"error": {"message": "bad key secret-123"}}
    with pytest.raises(ConfigError, match=r"does not answer \(http 401\)") as refused:
        asked(POSITIONS[:1])
    assert "secret" not in str(refused.value)
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ConfigError, match="TEST_KEY, which is not set"):
        player(server, api_key_env="TEST_KEY")
    with pytest.raises(ConfigError, match="never the key") as refused:
        player(server, api_key_env="sk-secret-123")
    assert "secret" not in str(refused.value)


def test_a_busy_server_is_asked_again(server):
    server.busy = 2
    assert player(server)(POSITIONS[:1])[0] is not None
    assert len(server.asked) == 3


def test_a_position_that_is_too_long_for_the_model_has_no_answer(server):
    server.refusal = 400, {"error": {"message": "too long", "code": "context_length_exceeded"}}
    assert player(server)(POSITIONS[:2]) == [None, None]
    server.refusal = 400, {"error": {"message": "no such parameter", "code": "unknown"}}
    with pytest.raises(ConfigError, match="http 400"):
        player(server)(POSITIONS[:1])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": None}, "add suite.endpoint.model=NAME"),
        ({"concurrency": 0}, "suite.endpoint.concurrency is 0"),
        ({"max_new_tokens": 0}, "suite.endpoint.max_new_tokens is 0"),
        ({"max_retries": -1}, "suite.endpoint.max_retries is -1"),
        ({"timeout": 0.0}, "suite.endpoint.timeout is 0.0"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(server, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        player(server, **changes)
    with pytest.raises(ConfigError, match="no plain address"):
        EndpointPlayer("localhost:8000", "tester", wording=FixedWording())


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": [{"index": 0, "message": None}]}, "good day", []])
def test_an_answer_that_is_none_ends_the_games_with_a_sentence(server, reply):
    server.refusal = 200, reply
    with pytest.raises(ConfigError, match="does not answer"):
        player(server)(POSITIONS[:1])


def test_a_server_that_is_not_there_is_named():
    absent = EndpointPlayer("http://127.0.0.1:9/v1", "tester", wording=FixedWording(), max_retries=0)
    with pytest.raises(ConfigError, match=r"'tester' at http://127.0.0.1:9/v1 does not answer \(APIConnectionError\)"):
        absent(POSITIONS[:1])
