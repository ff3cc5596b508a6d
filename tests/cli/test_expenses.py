"""`sparring train` with a judge that is paid: foreseen, paused before its limit, continued, never paid twice."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripted_judge import MODEL, ScriptedJudge
from sparring.annotators.answer_book import SqliteBook
from sparring.cli.run_directory import identity
from sparring.core.files import read_json
from sparring.data.rounds import read_rows

KEY = "sk-not-to-be-seen-anywhere"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedJudge]:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with ScriptedJudge(key=KEY) as judge:
        yield judge


@pytest.fixture
def judged(small: Callable, server: ScriptedJudge) -> Callable:
    chosen = ("annotator=llm_judge", f"annotator.model={MODEL}", f"annotator.base_url={server.url}")
    rest = ("annotator.api_key_env=JUDGE_KEY", "callbacks/payoff_matrix=none")
    prices = ("annotator.prices.prompt=2.0", "annotator.prices.completion=10.0")
    return lambda *arguments: small(*chosen, *rest, *prices, *arguments)


def test_a_run_is_foreseen_paused_and_continued_without_paying_twice(
    judged: Callable, server: ScriptedJudge, tmp_path: Path
) -> None:
    dry = judged("dry_run=true", "budget.max_calls=8")
    assert dry.status == 0, dry.errors
    assert not dry.run.exists()
    assert not server.asked
    # 6 prompts in each of 2 rounds; 4 held-out ones, in round 0 against one opponent and in round 1 against two
    assert "altogether │    24 " in dry.output
    assert "budget.max_calls=8 may pause it" in dry.output

    paused = judged("budget.max_calls=8")
    assert "one more call would exceed budget.max_calls=8: " in paused.sentence
    assert server.answered.total() == 8
    assert read_json(paused.run / "summary.json")["status"] == "paused"

    # How it is asked may change meanwhile: neither the answers nor the run are others for it.
    finished = judged(
        "budget.max_calls=100", "budget.max_cost=50.0", "annotator.concurrency=2", "annotator.timeout=60.0"
    )
    assert finished.status == 0, finished.errors
    assert max(server.answered.values()) == 1
    summary = read_json(finished.run / "summary.json")
    assert summary["status"] == "finished"
    assert summary["expense"]["calls"] <= 24
    assert summary["expense"]["cached"] >= 2  # what was paid for in the chunk that the pause cut short
    rows = [row for index in (0, 1) for row in read_rows(finished.run / f"rounds/round-00{index}/judgements.parquet")]
    assert summary["expense"]["cost"] > sum(row["cost"] for row in rows) > 0
    assert {row["status"] for row in rows} == {"ok"}
    book = SqliteBook(str(tmp_path / "outputs" / "answers.sqlite"))
    assert book.spent(identity(finished.run)).calls == server.answered.total()
    book.close()
    assert "annotation: " in finished.output

    metrics = (finished.run / "metrics.csv").read_text()
    assert {"annotator/cost", "annotator/cached"} <= {line.split(",")[2] for line in metrics.splitlines()}
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    assert KEY not in dry.output + paused.output + paused.errors + finished.output + finished.errors


SECOND = "callbacks.win_rate.second_annotator"
MEMBER = "annotator.members.paid"


@pytest.mark.parametrize(
    ("chosen", "places"),
    [
        (["annotator=llm_judge"], ["annotator"]),
        (["annotator=llm_judge_pairwise", f"+annotator@{SECOND}=llm_judge"], ["annotator", SECOND]),
        (
            [
                "callbacks.win_rate.samples_per_prompt=2",
                "annotator=ensemble",
                f"+annotator@{MEMBER}=llm_judge_logprobs",
                "+annotator.weights.paid=1.0",
            ],
            [MEMBER],
        ),
    ],
    ids=["listwise", "pairwise and a second one", "log-probabilities in an ensemble"],
)
def test_a_dry_run_foresees_the_calls_of_the_whole_experiment(
    small: Callable, server: ScriptedJudge, chosen: list[str], places: list[str]
) -> None:
    settings = {"model": MODEL, "base_url": server.url, "api_key_env": "JUDGE_KEY", "prices.prompt": 2.0}
    given = [f"{place}.{key}={value}" for place in places for key, value in settings.items()]
    smaller = ("prompts.train=3", "prompts.validation=2", "callbacks.export=null")
    dry = small(*chosen, *given, *smaller, "dry_run=true")
    assert dry.status == 0, dry.errors
    assert not server.asked
    real = small(*chosen, *given, *smaller)
    assert real.status == 0, real.errors
    spent = read_json(real.run / "summary.json")["expense"]
    foreseen = int(re.findall(r"altogether +│ +([\d,]+) ", dry.output)[0].replace(",", ""))
    paid = server.answered.total()
    assert foreseen == paid + spent["cached"]
    listwise = chosen == ["annotator=llm_judge"]  # else two players of the payoff matrix have met before
    assert (spent["cached"] == 0) == listwise


def test_a_policy_that_judges_itself_costs_nothing(small: Callable) -> None:
    assert re.search(r"altogether +│ +0 ", small("annotator=self", "dry_run=true").output)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["annotator.prices.prompt=-2.0"], "prices.prompt is -2.0"),
        (["annotator.prices.prompts=2.0"], "annotator.prices has no key 'prompts'"),
        (["budget.max_cost=1.0", "annotator.prices=null"], "by annotator.prices every call is free"),
        (["budget.max_calls=5", "annotator.book=null"], "annotator.book is null"),
        (["budget.max_calls=-5"], "budget.max_calls is -5"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused_before_any_work(
    judged: Callable, server: ScriptedJudge, arguments: list[str], said: str
) -> None:
    flags = [f"+{one}" if "prompts=" in one else one for one in arguments]
    outcome = judged(*flags)
    assert said in outcome.sentence
    assert not outcome.run.exists()
    assert not server.asked


CLOSED = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([f"annotator.base_url={CLOSED}"], f"The judge at {CLOSED} cannot be reached; start it"),
        (["annotator.model=unheard-of"], "does not serve 'unheard-of'; it has scripted."),
        (["annotator.api_key_env=PATH"], "refuses the key (http 401); mend annotator.api_key_env=PATH."),
        (["annotator.api_key_env=NO_SUCH_KEY"], "environment variable NO_SUCH_KEY, which is not set"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_found_before_the_first_sample(
    judged: Callable, server: ScriptedJudge, arguments: list[str], said: str
) -> None:
    server.refusal = (404, {})  # of every question, as a server does that knows no such model
    outcome = judged(*arguments)
    assert said in outcome.sentence
    assert KEY not in outcome.sentence
    assert not outcome.run.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["+annotator@callbacks.win_rate.second_annotator=llm_judge"],
        [
            "annotator=ensemble",
            "+annotator@annotator.members.paid=llm_judge",
        ],
    ],
    ids=["second annotator", "member"],
)
def test_a_judge_beside_others_is_looked_for_too(small: Callable, arguments: list[str]) -> None:
    where = re.findall(r"annotator@(\S+)=llm_judge", arguments[-1])[0]
    settings = [f"{where}.base_url={CLOSED}", f"{where}.model={MODEL}", f"{where}.api_key_env=null"]
    weights = ["+annotator.weights.paid=1.0"] if "ensemble" in arguments[0] else []
    outcome = small("callbacks/payoff_matrix=none", *arguments, *settings, *weights)
    assert "cannot be reached" in outcome.sentence
    assert not outcome.run.exists()


def test_a_policy_that_cannot_judge_itself_says_so(small: Callable) -> None:
    outcome = small("annotator=self", "callbacks.win_rate=null", "callbacks/payoff_matrix=none")
    assert "annotator SelfJudge can judge no prompt of the rounds, for 3 responses" in outcome.sentence
    assert not outcome.run.exists()
