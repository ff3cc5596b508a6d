from collections.abc import Iterator
from typing import Any

import pytest

from chat_server import ChatServer, chat_server
from sparring.annotators.purse import Prices
from sparring.core.errors import ConfigError, DataError, RoundError
from sparring.core.types import Prompt
from sparring.data.rounds import Chunks
from sparring.rollout.chunks import merged
from sparring.rollout.endpoint import Endpoint
from sparring.rollout.endpoint_entrant import EndpointEntrant
from sparring.rollout.entrants import TABLE, Answers, collect


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(lambda question: f"{question} is a good question") as server:
        server.counts = True
        yield server


@pytest.fixture
def prompts(ask) -> list[Prompt]:
    return [ask(f"question {number}", name=f"p{number}") for number in range(5)]


def entrant(server: ChatServer, samples: int = 1, **changes: Any) -> EndpointEntrant:
    settings: dict[str, Any] = {"model": "tester", "max_retries": 0, "concurrency": 2}
    return EndpointEntrant("theirs", Endpoint(server.url, **(settings | changes)), samples)


def answered(one: EndpointEntrant, prompts: list[Prompt], seed: int = 1) -> Answers:
    with one.opened() as answering:
        return answering(prompts, seed=seed, on_tokens=lambda _: None)


def test_every_prompt_is_answered_as_often_as_asked_for_with_what_it_took(server, prompts):
    seen: list[int] = []
    with entrant(server, 3, prices=Prices(prompt=1e6, completion=2e6)).opened() as answering:
        answers = answering(prompts, seed=1, on_tokens=seen.append)
    assert [[one.text for one in said] for said in answers.said] == [
        [f"question {number} is a good question"] * 3 for number in range(5)
    ]
    assert all(one.tokens == 6 and one.seconds is not None for said in answers.said for one in said)
    assert (answers.computed, sum(seen)) == (90, 90)
    spent = answers.expense
    assert (spent.calls, spent.prompt_tokens, spent.completion_tokens) == (15, 30, 90)
    assert spent.cost == pytest.approx(30 * 1.0 + 90 * 2.0)


def test_draws_have_seeds_of_their_own_which_the_given_one_decides(server, prompts):
    for seed in (1, 1, 2):
        answered(entrant(server, 2), prompts, seed)
    first, again, other = (sorted(body["seed"] for body in server.asked[at : at + 10]) for at in (0, 10, 20))
    assert len(set(first)) == 10
    assert first == again
    assert not set(first) & set(other)


def test_a_server_that_counts_nothing_leaves_tokens_unknown(server, prompts):
    server.counts = False
    answers = answered(entrant(server), prompts)
    assert answers.computed is None
    assert all(one.tokens is None for [one] in answers.said)
    assert answers.expense.calls == 5


def test_a_prompt_without_room_is_named(server, prompts):
    server.refusal = 400, {"error": {"message": "too long", "code": "context_length_exceeded"}}
    sentence = r"^prompt p0 \(question 0\) has no room in the context of 'tester'; leave it out, or lower"
    with pytest.raises(DataError, match=sentence):
        answered(entrant(server), prompts)


def test_nobody_is_asked_twice_for_answers_that_are_kept(server, prompts, tmp_path):
    chunks = Chunks(tmp_path)
    collect(entrant(server), prompts, chunks, chunk_size=2, seed=1)
    before = list(merged(chunks, TABLE))
    assert [row["prompt_id"] for row in before] == [prompt.id for prompt in prompts]
    chunks.path(TABLE, 1).unlink()
    collect(entrant(server), prompts, chunks, chunk_size=2, seed=1)
    assert len(server.asked) == 5 + 2
    texts = [[row["text"] for row in rows] for rows in (before, merged(chunks, TABLE))]
    assert texts[0] == texts[1]
    with pytest.raises(RoundError, match=r"was answered with entrant tester at .*, but now it is another at"):
        collect(entrant(server, model="another"), prompts, chunks, chunk_size=2, seed=1)


def test_no_answer_at_all_is_refused(server):
    with pytest.raises(ConfigError, match="theirs is to answer 0 times"):
        entrant(server, samples=0)
