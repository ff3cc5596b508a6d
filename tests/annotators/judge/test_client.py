import asyncio
import email.utils
import time
from collections.abc import Iterator

import pytest

from scripted_judge import MODEL, Fault, ScriptedJudge
from sparring.annotators.judge.client import Client, Endpoint, Pace, retry_after
from sparring.annotators.judge.protocol import NoVerdict, Question
from sparring.annotators.purse import Prices
from sparring.core.answers import Answer
from sparring.core.errors import ConfigError

CANDIDATES = '<candidate id="A">\nred\n</candidate>\n<candidate id="B">\nblue\n</candidate>'
QUESTION = Question(CANDIDATES, (0, 1), 100, {"type": "object"})


def client(server: ScriptedJudge | str, **changes) -> Client:
    url = server if isinstance(server, str) else server.url
    settings = {"base_url": url, "model": MODEL, "api_key_env": "JUDGE_KEY", "backoff": 0.01, "timeout": 5.0}
    return Client(Endpoint(**settings | changes))


def ask(asked: Client, question: Question = QUESTION) -> Answer:
    async def once() -> Answer:
        async with asked.connect() as connection:
            return await asked.ask(connection, question)

    return asyncio.run(once())


def check(asked: Client) -> None:
    async def once() -> None:
        async with asked.connect() as connection:
            await asked.check(connection)

    asyncio.run(once())


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedJudge]:
    with ScriptedJudge() as judge:
        yield judge


def once(fault: Fault):
    return lambda _, attempt: fault if attempt == 0 else None


def test_the_request_holds_what_was_set_and_nothing_that_was_not(server: ScriptedJudge):
    ask(
        client(
            server, sampling={"temperature": 0.0, "seed": 3, "top_p": None}, answer_tokens_key="max_completion_tokens"
        )
    )
    body = server.asked[-1]
    assert body.pop("response_format")["json_schema"]["schema"] == {"type": "object"}
    assert body == {
        "model": MODEL,
        "messages": [{"role": "user", "content": CANDIDATES}],
        "temperature": 0.0,
        "seed": 3,
        "max_completion_tokens": 100,
    }


def test_an_answer_costs_its_tokens(server: ScriptedJudge):
    answer = ask(client(server, prices=Prices(prompt=1e6, completion=2e6)))
    assert answer.prompt_tokens == len(CANDIDATES) // 4
    assert answer.completion_tokens > 0
    assert answer.cost == answer.prompt_tokens + 2 * answer.completion_tokens


@pytest.mark.parametrize("fault", ["429", "500", "reset"])
def test_a_passing_fault_is_waited_out(fault: Fault):
    with ScriptedJudge(fault=once(fault)) as server:
        assert "verdict" in ask(client(server)).text
        assert len(server.asked) == 2


def test_a_hang_ends_at_the_timeout_and_is_asked_again():
    with ScriptedJudge(fault=once("hang")) as server:
        assert "verdict" in ask(client(server, timeout=0.3)).text


@pytest.mark.parametrize(
    ("fault", "reason"), [("429", "http 429"), ("500", "http 500"), ("reset", "connection lost"), ("hang", "timeout")]
)
def test_a_lasting_fault_is_no_verdict_after_so_many_retries(fault: Fault, reason: str):
    with ScriptedJudge(fault=lambda *_: fault) as server:
        with pytest.raises(NoVerdict, match=f"^{reason}$"):
            ask(client(server, max_retries=2, timeout=0.3))
        assert len(server.asked) == 3


def test_a_request_that_the_server_finds_wrong_is_not_repeated():
    with ScriptedJudge(refusal=(400, {"error": {"message": "too long"}})) as server:
        with pytest.raises(NoVerdict, match="http 400"):
            ask(client(server, structured_output="off"))
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (401, {}, "refuses the key"),
        (403, {}, "refuses the key"),
        (404, {}, f"knows no model '{MODEL}'"),
        (402, {}, "no credit is left"),
        (429, {"error": {"message": "x", "code": "insufficient_quota"}}, "no credit is left"),
    ],
)
def test_what_no_retry_can_mend_ends_the_asking_with_a_sentence(status, body, sentence):
    with ScriptedJudge(refusal=(status, body)) as server:
        with pytest.raises(ConfigError, match=sentence):
            ask(client(server))
        assert len(server.asked) == 1


def test_a_reply_that_is_no_completion_is_retried_and_then_no_verdict():
    with ScriptedJudge(refusal=(200, {"choices": []})) as server:
        with pytest.raises(NoVerdict, match="unreadable reply"):
            ask(client(server, max_retries=1))
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "content_filter", "message": {"content": "Sor"}},
        {"message": {"content": None, "refusal": "No."}},
    ],
)
def test_a_refusal_is_told_from_words(choice):
    with ScriptedJudge(refusal=(200, {"choices": [choice]})) as server:
        assert ask(client(server)).text.startswith('{"refusal": ')


def test_prices_without_a_count_of_tokens_are_refused():
    with ScriptedJudge(refusal=(200, {"choices": [{"message": {"content": "{}"}}]})) as server:
        assert ask(client(server)).prompt_tokens == 0
        with pytest.raises(ConfigError, match="does not say how many tokens"):
            ask(client(server, prices=Prices(prompt=1.0, completion=1.0)))


def test_a_server_without_schemas_is_asked_without_from_then_on():
    with ScriptedJudge(schemas=False) as server:
        asked = client(server)
        ask(asked)
        ask(asked)
        assert ["response_format" in body for body in server.asked] == [True, False, False]
        with pytest.raises(NoVerdict, match="http 400"):
            ask(client(server, structured_output="on"))


def test_the_check_finds_what_can_be_known_beforehand(server: ScriptedJudge, monkeypatch: pytest.MonkeyPatch):
    check(client(server))
    with ScriptedJudge(key="another") as locked, pytest.raises(ConfigError, match="refuses the key"):
        check(client(locked))
    with pytest.raises(ConfigError, match="cannot be reached; start it"):
        check(client("http://127.0.0.1:9/v1"))
    before = len(server.asked)
    check(client(server, model="not-listed"))  # it answers all the same
    assert [body["max_tokens"] for body in server.asked[before:]] == [1]
    with (
        ScriptedJudge(refusal=(404, {})) as other,
        pytest.raises(ConfigError, match="does not serve 'x'; it has scripted"),
    ):
        check(client(other, model="x"))


def test_a_server_that_nobody_can_reach_ends_the_asking():
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9/v1 cannot be reached"):
        ask(client("http://127.0.0.1:9/v1", max_retries=1))


def test_the_key_is_sent_and_found_nowhere_else(key: str, monkeypatch: pytest.MonkeyPatch):
    with ScriptedJudge(key=key) as server:
        asked = client(server)
        assert ask(asked).text
        assert key not in repr(asked.endpoint) + repr(vars(asked))
        assert key not in str(server.asked)
        monkeypatch.setenv("JUDGE_KEY", f"{key}-wrong")
        with pytest.raises(ConfigError) as refused:
            ask(asked)
        assert key not in str(refused.value)
        assert refused.value.__suppress_context__
    with ScriptedJudge(refusal=(200, {"choices": [{"message": {"content": f"is it {key}-wrong?"}}]})) as gossip:
        assert ask(client(gossip)).text == "is it [key]?"


def test_no_key_of_the_environment_goes_to_a_server_that_wants_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-you")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-not-for-you-either")
    with ScriptedJudge(key="none") as server:
        assert ask(client(server, api_key_env=None)).text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"api_key_env": "NO_SUCH_KEY"}, "environment variable NO_SUCH_KEY, which is not set"),
        ({"base_url": "localhost:8000"}, "base_url is no address"),
        ({"base_url": "http://me:pass@host/v1"}, "holds a user name or key"),
        ({"structured_output": "auto", "sampling": {"max_tokens": 5, "n": 2}}, "sets max_tokens, n, which"),
        ({"timeout": 0.0}, r"timeout is 0\.0; give a positive"),
        ({"max_retries": -1}, "max_retries is -1"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        client("http://127.0.0.1:9/v1", **changes)


def test_a_key_in_the_place_of_its_name_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="never the key") as refused:
        client("http://127.0.0.1:9/v1", api_key_env="sk-oh-no")
    assert "sk-oh-no" not in str(refused.value)


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4-0613", True),
        ("claude-3-opus-latest", "claude-3-opus-20240229", True),
        ("org/model", "org/model@main", True),
        ("llama3", "llama3:8b", True),
        ("llama3", "llama31", False),
        ("judge", "gpt-4o-mini", False),
        ("judge", "", True),
        ("judge", "the-other-name", True),
    ],
)
def test_a_dated_or_tagged_name_is_the_same_model(asked: str, answered: str, same: bool):
    endpoint = Endpoint("http://127.0.0.1/v1", asked, None, answers_as="the-other-name")
    assert endpoint.answered_by(answered) is same


def test_retry_after_comes_in_three_forms():
    assert retry_after({"retry-after": "2"}) == 2.0
    assert retry_after({"retry-after": "9", "retry-after-ms": "250"}) == 0.25
    assert 25 < retry_after({"retry-after": email.utils.formatdate(time.time() + 30, usegmt=True)}) <= 30
    assert retry_after({"retry-after": email.utils.formatdate(0, usegmt=True)}) == 0.0
    assert retry_after({"retry-after": "soon"}) == 0.0
    assert retry_after({}) == 0.0


def test_a_pace_spaces_what_it_lets_through():
    async def starts(pace: Pace, amounts: list[float]) -> list[float]:
        began, found = time.monotonic(), []
        for amount in amounts:
            await pace.wait(amount)
            found.append(time.monotonic() - began)
        return found

    limited = asyncio.run(starts(Pace(600.0), [1, 2, 1]))  # 0.1 s each
    assert [round(start, 1) for start in limited] == [0.0, 0.1, 0.3]
    assert asyncio.run(starts(Pace(None), [1000, 1000]))[-1] < 0.05


def test_the_most_a_question_may_cost_is_no_less_than_it_does(server: ScriptedJudge):
    asked = client(server, prices=Prices(prompt=3.0, completion=5.0))
    assert ask(asked).cost <= asked.endpoint.most(QUESTION)
