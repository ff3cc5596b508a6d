"""`sparring evaluate suite=preference` as it is called, on a small run, its model and what is recorded."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf

from evaluations import Outcome, evaluate
from scripted_judge import MODEL, ScriptedJudge
from sparring.annotators.critics import NoRepetition
from sparring.annotators.ensemble import Ensemble
from sparring.annotators.judge.listwise import Listwise
from sparring.annotators.one_draw import OneDraw
from sparring.annotators.panel import Panel
from sparring.annotators.self_judge import SelfJudge
from sparring.cli.make import make
from sparring.cli.policies import parse_policy
from sparring.cli.preference_suite import asks_policy, trained_on
from sparring.cli.saved_config import saved_config
from sparring.core.types import Message, Prompt, unsampled
from sparring.data.output_files import read_outputs, write_outputs
from sparring.policy.loading import load_policy
from sparring.policy.sampler import Sampler
from taboo_runs import make_taboo_run

torch.set_num_threads(1)

QUICK = ("suite.sampler.max_new_tokens=8", "suite.chunk_size=3", "suite.annotators.fluency.corpus.count=200")
PRINCIPLE = "suite.decodings.principle.principle='write about a cat.'"
LABELS = ["base", "small round 1", "first", "best", "told", "teacher", "gpt"]


def compare(policies: str, output: Path, *more: object) -> Outcome:
    return evaluate(
        *("suite=preference", f"policies={policies}", f"output={output}", *QUICK),
        *(f"answers.path={output.parent / 'answers.sqlite'}", *more),
    )


def summary_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "summary.json").read_text())


def rows_of(output: Path, name: str = "responses") -> list[dict[str, Any]]:
    return pq.read_table(output / f"{name}.parquet").to_pylist()


def texts_of(output: Path, policy: str) -> list[str]:
    return [row["text"] for row in rows_of(output) if row["policy"] == policy]


def files_of(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def run(finished: Any) -> Path:
    return finished.run


@pytest.fixture(scope="session")
def held_out(run: Path) -> list[Prompt]:
    return list(make(saved_config(run)["prompts"]).validation)


@pytest.fixture(scope="session")
def recorded(held_out: list[Prompt], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of "gpt" as AlpacaEval has them, in another order than the prompts."""
    rows = [
        {"instruction": prompt.text, "output": f"Once there was a cat. {number}", "generator": "gpt"}
        for number, prompt in enumerate(held_out)
    ]
    path = tmp_path_factory.mktemp("recorded") / "gpt.json"
    path.write_text(json.dumps(rows[::-1]))
    return path


@pytest.fixture(scope="session")
def policies(run: Path, model: Path, recorded: Path) -> str:
    return f"base={model},{run},first={run}@0,best={model}+best_of,told={model}+principle,teacher,{recorded}"


@pytest.fixture(scope="session")
def compared(policies: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """To be looked at and not touched."""
    output = tmp_path_factory.mktemp("evaluated") / "preference"
    outcome = compare(policies, output, PRINCIPLE)
    assert outcome.status == 0, outcome.errors
    return outcome, output


@pytest.fixture
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sparring.policy.sampler.decode", "sparring.policy.linear_alignment.decode"):
        monkeypatch.setattr(name, None)


# ---------------------------------------------------------------- what is measured


def test_everybody_answers_the_prompts_that_the_run_held_out(compared, held_out, run, model):
    _, output = compared
    rows = rows_of(output)
    assert [(row["policy"], row["prompt_id"]) for row in rows] == [
        (label, prompt.id) for label in LABELS for prompt in held_out
    ]
    assert texts_of(output, "gpt") == [f"Once there was a cat. {number}" for number in range(4)]
    assert texts_of(output, "teacher") == [prompt.teacher for prompt in held_out]
    described = {policy["label"]: policy for policy in summary_of(output)["policies"]}
    assert [described[label]["rounds"] for label in LABELS] == [None, 2, 1, None, None, None, None]
    tokens = [row["tokens"] for row in rows if row["policy"] == "best"]
    assert described["best"]["tokens"] == np.mean(tokens) <= 8
    assert 4 * described["best"]["tokens"] < described["best"]["computed"] <= 5 * 8
    assert described["base"]["computed"] == described["base"]["tokens"]
    assert described["gpt"]["computed"] is described["gpt"]["ended"] is described["teacher"]["tokens"] is None


def test_figures_are_those_of_the_annotator_asked_anew_about_what_was_written(compared, run):
    _, output = compared
    rows, found = rows_of(output), summary_of(output)["annotators"]["panel"]
    panel: Panel = make(saved_config(run)["annotator"])
    wins = []
    for prompt_id in dict.fromkeys(row["prompt_id"] for row in rows):
        said = {row["policy"]: row for row in rows if row["prompt_id"] == prompt_id}
        messages = tuple(Message(**message) for message in said["base"]["messages"])
        prompt = Prompt(prompt_id, messages, meta=json.loads(said["base"]["meta"]))
        [judgement] = panel([unsampled(prompt, [said[label]["text"] for label in LABELS])])
        wins.append(judgement.win)
    win = np.stack(wins)
    assert np.allclose(np.array(found["payoff"]["win"]), win.mean(0))
    shares = np.where(win > 0.5, 1.0, np.where(win < 0.5, 0.0, 0.5))
    outcomes = rows_of(output, "outcomes")
    for place, label in enumerate(LABELS[1:], start=1):
        rate = found["versus"][label]["win_rate"]
        assert rate["win_rate"] == pytest.approx(shares[:, place, 0].mean())
        assert rate["mean_probability"] == pytest.approx(win[:, place, 0].mean())
        mine = [row for row in outcomes if (row["policy"], row["annotator"]) == (label, "panel")]
        assert [row["win"] for row in mine] == pytest.approx(shares[:, place, 0].tolist())
        assert [row["probability"] for row in mine] == pytest.approx(win[:, place, 0].tolist())
    assert {row["against"] for row in outcomes} == {"base"}
    assert len(outcomes) == 2 * 6 * 4


def test_what_is_printed_is_what_is_written(compared):
    outcome, output = compared
    summary = summary_of(output)
    assert (summary["prompts"], summary["baseline"], list(summary["annotators"])) == (4, "base", ["panel", "fluency"])
    for name in ("panel", "fluency"):
        assert f"P(row beats column) by {name}, 4 prompts" in outcome.output
        assert (output / f"payoff-{name}.png").read_bytes().startswith(b"\x89PNG")
        for label in LABELS[1:]:
            rate = summary["annotators"][name]["versus"][label]["win_rate"]
            low, high = rate["ci95"]
            assert f"{rate['win_rate']:.3f} [{low:.3f}, {high:.3f}]" in outcome.output
    assert "aspects by panel" in outcome.output
    assert {name: found["chose_for"] for name, found in summary["annotators"].items()} == {
        "panel": ["best"],
        "fluency": [],
    }
    assert "panel has chosen what best said" in outcome.output
    assert "fluency has chosen" not in outcome.output
    assert f"written to {output}" in outcome.output
    assert "tokenizers differ" not in outcome.output


def test_a_principle_is_told_to_who_is_to_be_told_it_and_to_nobody_else(compared, run, model):
    _, output = compared
    assert texts_of(output, "told") != texts_of(output, "base")
    assert all(len(row["messages"]) == 1 for row in rows_of(output))


def test_other_seeds_give_other_answers(compared, run, tmp_path):
    assert compare(f"base={run}@base,teacher", tmp_path / "out", "seed=2").status == 0
    assert compare(f"base={run}@base,teacher", tmp_path / "same", "seed=2").status == 0
    assert texts_of(tmp_path / "out", "base") == texts_of(tmp_path / "same", "base")
    assert texts_of(tmp_path / "out", "base") != texts_of(compared[1], "base")


def test_several_responses_to_a_prompt_all_count(run, model, tmp_path):
    outcome = compare(
        *(
            f"base={model},steered={model}+linear_alignment,teacher",
            tmp_path / "out",
            "suite.sampler.num_generations=3",
        ),
        *("+prompts@suite.prompts=stories", "suite.prompts.train=1", "suite.prompts.validation=2"),
        *("suite.decodings.linear_alignment.principle='be kind.'", "suite.baseline=teacher"),
    )
    assert outcome.status == 0, outcome.errors
    rows, summary = rows_of(tmp_path / "out"), summary_of(tmp_path / "out")
    assert [row["index"] for row in rows if row["policy"] == "steered"] == [0, 1, 2, 0, 1, 2]
    steered = summary["policies"][1]
    assert (steered["responses"], steered["computed"]) == (6, 2 * steered["tokens"])
    assert summary["baseline"] == "teacher"
    win = summary["annotators"]["panel"]["payoff"]["win"]
    assert win[0][1] == pytest.approx(1 - win[1][0])
    [paths] = (tmp_path / "out" / "judgements").glob("panel-*")
    judged = pq.read_table(paths / "judgements-00000.parquet").to_pylist()
    assert [np.shape(row["win"]) for row in judged] == [(7, 7)] * 2
    blocks = [np.array(row["win"])[:3, 6].mean() for row in judged]
    assert summary["annotators"]["panel"]["versus"]["base"]["win_rate"]["mean_probability"] == pytest.approx(
        float(np.mean(blocks))
    )


def test_what_was_written_can_be_read_as_recorded_outputs(compared, held_out, model, tmp_path):
    _, output = compared
    outputs = read_outputs(output / "responses.parquet")
    assert list(dict.fromkeys(each.model for each in outputs)) == LABELS
    assert [each.prompt.messages for each in outputs[:4]] == [prompt.messages for prompt in held_out]
    assert [dict(each.prompt.meta) for each in outputs[:4]] == [dict(prompt.meta) for prompt in held_out]
    again = compare(f"{output / 'responses.parquet'}", tmp_path / "again")
    assert again.status == 0, again.errors
    first, second = (summary_of(path)["annotators"] for path in (output, tmp_path / "again"))
    assert {name: found["payoff"]["win"] for name, found in first.items()} == {
        name: found["payoff"]["win"] for name, found in second.items()
    }
    told = [each for each in outputs if each.model == "told"]
    write_outputs(tmp_path / "told.json", told, "alpaca_eval")
    assert [each.text for each in read_outputs(tmp_path / "told.json")] == texts_of(output, "told")


def test_policies_of_different_tokenizers_are_compared_with_a_remark(run, chat_model, tmp_path):
    outcome = compare(f"ours={run},theirs={chat_model},teacher", tmp_path / "out")
    assert outcome.status == 0, outcome.errors
    first, second, teacher = (policy["tokenizer"] for policy in summary_of(tmp_path / "out")["policies"])
    assert first != second
    assert teacher is None
    assert "tokens are not comparable between policies whose tokenizers differ (ours; theirs)" in outcome.output


# ---------------------------------------------------------------- doing it again


@pytest.fixture
def copy(compared: tuple[Outcome, Path], tmp_path: Path) -> Path:
    shutil.copytree(compared[1], tmp_path / "preference")
    return tmp_path / "preference"


def test_the_same_command_says_the_same_and_asks_nobody(compared, policies, copy, nobody_answers, monkeypatch):
    monkeypatch.setattr(Panel, "_judge", None)
    again = compare(policies, copy, PRINCIPLE)
    assert again.status == 0, again.errors
    assert again.output.replace(str(copy), str(compared[1])) == compared[0].output
    assert files_of(copy).keys() == files_of(compared[1]).keys()


def test_what_was_interrupted_ends_with_the_same_files(compared, policies, copy):
    for name in ("summary.json", "responses.parquet", "outcomes.parquet", "payoff-panel.png"):
        (copy / name).unlink()
    for path in sorted(copy.rglob("*-00001.parquet"))[::2]:
        path.unlink()
    shutil.rmtree(copy / "answers" / "told")
    assert compare(policies, copy, PRINCIPLE).status == 0
    assert files_of(copy).keys() == files_of(compared[1]).keys()
    for name in ("responses", "outcomes"):
        assert rows_of(copy, name) == rows_of(compared[1], name)
    assert summary_of(copy)["annotators"] == summary_of(compared[1])["annotators"]


def test_one_policy_more_answers_alone_and_all_are_judged_anew(compared, policies, copy, monkeypatch):
    asked: list[int] = []
    real = Sampler.__call__
    monkeypatch.setattr(
        Sampler, "__call__", lambda self, *given, **named: asked.append(1) or real(self, *given, **named)
    )
    run = policies.split(",")[1]
    outcome = compare(f"{policies},late={run}@base", copy, PRINCIPLE)
    assert outcome.status == 0, outcome.errors
    assert len(asked) == 2  # its own chunks
    for label in LABELS:
        assert texts_of(copy, label) == texts_of(compared[1], label)
    assert len(list((copy / "judgements").glob("panel-*"))) == 2


def test_fewer_prompts_are_measured_alone(compared, policies, copy, nobody_answers):
    outcome = compare(policies, copy, PRINCIPLE, "suite.limit=3")
    assert outcome.status == 0, outcome.errors
    assert summary_of(copy)["prompts"] == 3
    assert len(rows_of(copy)) == 3 * len(LABELS)


@pytest.mark.parametrize(
    ("changed", "name"),
    [("suite.decodings.principle.principle='write about a dog.'", "told"), ("suite.decodings.best_of.n=3", "best")],
)
def test_a_decoding_with_other_settings_under_the_same_label_overwrites_nothing(policies, copy, changed, name):
    before = files_of(copy)
    changes = (PRINCIPLE, changed) if name == "best" else (changed,)
    sentence = compare(policies, copy, *changes).sentence
    assert f"answers/{name}/outputs-00000.parquet was answered with entrant " in sentence
    assert sentence.endswith("give another label or output, or delete it.")
    assert files_of(copy) == before


# ---------------------------------------------------------------- annotators that are paid


@pytest.fixture
def judge() -> Iterator[ScriptedJudge]:
    with ScriptedJudge() as server:
        yield server


@pytest.fixture
def paid(judge: ScriptedJudge) -> tuple[str, ...]:
    where = "suite.annotators.judge"
    return (
        *(f"+annotator@{where}=llm_judge_pairwise", f"{where}.model={MODEL}", f"{where}.base_url={judge.url}"),
        *(f"{where}.api_key_env=null", f"{where}.prices.prompt=2.0", f"{where}.prices.completion=10.0"),
    )


def calls(output: str, name: str) -> int:
    [line] = [line for line in output.splitlines() if name in line]
    return int(line.split("│")[2].replace(",", ""))


def test_what_judging_takes_is_foreseen_to_the_call_and_asks_nobody(policies, paid, judge, tmp_path, nobody_answers):
    dry = compare(policies, tmp_path / "out", PRINCIPLE, "suite.dry_run=true", "budget.max_calls=100", *paid)
    assert dry.status == 0, dry.errors
    assert calls(dry.output, "judging by judge") == calls(dry.output, "altogether") == 4 * 7 * 6
    assert "budget.max_calls=100 may pause it" in dry.output
    assert not judge.asked
    assert not list(tmp_path.iterdir())


def test_a_limit_pauses_before_it_is_exceeded_and_a_higher_one_goes_on(run, model, paid, judge, tmp_path):
    chosen = (
        *("annotator@suite.decodings.best_of.annotator=llm_judge_pairwise", "suite.decodings.best_of.n=2"),
        *(f"suite.decodings.best_of.annotator.{key}" for key in (f"model={MODEL}", f"base_url={judge.url}")),
        *(f"suite.decodings.best_of.annotator.{key}" for key in ("api_key_env=null", "prices.completion=10.0")),
        *("~suite.annotators.panel", "suite.annotators.fluency=null"),
    )
    given = (f"base={run}@base,best={run}@0+best_of,teacher", tmp_path / "out", *paid, *chosen)
    dry = compare(*given, "suite.dry_run=true")
    foreseen = {name: calls(dry.output, name) for name in ("choosing for best", "judging by judge", "altogether")}
    assert foreseen == {"choosing for best": 4 * 2, "judging by judge": 4 * 6, "altogether": 32}
    assert "one more call would exceed budget.max_calls=5: " in compare(*given, "budget.max_calls=5").sentence
    assert judge.answered.total() == 5
    assert "one more call would exceed budget.max_calls=20: " in compare(*given, "budget.max_calls=20").sentence
    assert judge.answered.total() == 20
    assert not (tmp_path / "out" / "summary.json").exists()
    done = compare(*given, "budget.max_calls=32")
    assert done.status == 0, done.errors
    assert (judge.answered.total(), max(judge.answered.values())) == (32, 1)
    summary = summary_of(tmp_path / "out")
    base, best, _ = summary["policies"]
    assert (base["expense"]["calls"], best["expense"]["calls"]) == (0, 8)
    assert best["expense"]["cost"] > 0
    judging = summary["annotators"]["judge"]["expense"]
    assert judging["calls"] == 24
    assert judging["cost"] > 0
    assert "cost" in done.output
    assert "judge: 24 calls" in done.output


@pytest.mark.parametrize("where", ["suite.annotators.judge", "suite.decodings.best_of.annotator"])
def test_a_judge_that_cannot_be_asked_is_known_before_anybody_answers(
    run, where, tmp_path, nobody_answers, monkeypatch
):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    chosen = (f"{'+' * where.endswith('judge')}annotator@{where}=llm_judge", f"{where}.model=x")
    given = (f"{run},best={run}+best_of,teacher", tmp_path / "out", *chosen)
    assert "NO_SUCH_KEY" in compare(*given, f"{where}.api_key_env=NO_SUCH_KEY").sentence
    nowhere = (f"{where}.api_key_env=null", f"{where}.base_url=http://127.0.0.1:9/v1", f"{where}.max_retries=0")
    assert "127.0.0.1:9" in compare(*given, *nowhere).sentence
    assert not (tmp_path / "out").exists()


def test_an_ensemble_asks_the_policy_if_one_of_its_members_does():
    own, panel = SelfJudge(Listwise(), seed=0, token_budget=9), Panel({"no_repetition": NoRepetition(4, 12)})
    assert asks_policy(Ensemble({"me": own, "panel": panel}, {"me": 1.0, "panel": 1.0}))
    assert asks_policy(OneDraw(own, seed=0))
    assert not asks_policy(Ensemble({"panel": OneDraw(panel, seed=0)}, {"panel": 1.0}))


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def asked(run: Path, model: Path, recorded: Path, tmp_path: Path) -> Callable[..., str]:
    """What a command says that is refused, and that it leaves nothing behind. Names stand for places."""
    one, lacking, unknown, empty = (tmp_path / f"{name}.json" for name in ("one", "lacking", "unknown", "empty"))
    rows = json.loads(recorded.read_text())
    one.write_text(json.dumps(rows[:1]))
    lacking.write_text(json.dumps(rows[1:]))
    unknown.write_text('[{"question": "?", "answer": "!"}]')
    empty.write_text("[]")
    places = {"RUN": run, "MODEL": model, "GPT": recorded, "ONE": one, "LACKING": lacking}
    places |= {"UNKNOWN": unknown, "EMPTY": empty}

    def sentence(policies: str, *more: str) -> str:
        for name, path in places.items():
            policies = policies.replace(name, str(path))
        said = compare(policies, tmp_path / "out", *more).sentence
        assert not (tmp_path / "out").exists()
        return said

    return sentence


STORIES = ("+prompts@suite.prompts=stories", "suite.prompts.train=1", "suite.prompts.validation=3")


@pytest.mark.parametrize(
    ("policies", "more", "sentence"),
    [
        ("RUN,MODEL+tolled", (), "is to decode by +tolled, which is none of best_of, best_of_principle, linear_"),
        ("RUN,teacher", ("suite.baseline=dno",), "suite.baseline is 'dno', which is none of small round 1, teacher"),
        ("RUN", (), "one policy has nobody to be compared with; name two or more."),
        ("ONE", (), "one policy has nobody to be compared with"),
        ("RUN,a=RUN@0,a=RUN@1", (), "two policies are called 'a'; give them different labels"),
        ("RUN,GPT,gpt=teacher", (), "two policies are called 'gpt'"),
        (
            "RUN,teacher",
            ("suite.annotators.panel=null", "~suite.annotators.fluency"),
            "suite.annotators has none; add one",
        ),
        ("RUN,teacher", ("suite.annotators.panel=3",), "suite.annotators.panel is 3; it must be a node with"),
        ("RUN,teacher", ("suite.decodings.principle=3",), "suite.decodings.principle is 3; it must be a node with"),
        ("RUN,LACKING", (), "lacking.json has no output of 'gpt' for prompt "),
        ("RUN,UNKNOWN", (), "unknown.json has columns answer, question, those of no known format of outputs: "),
        ("RUN,EMPTY", (), "empty.json holds no outputs; give a file with at least one."),
        ("ONE,teacher", (), "has no teacher's answer; leave teacher out, or give prompts that have one."),
        ("RUN,teacher+principle", (), "teacher is no policy of this machine, so it has no +principle"),
        ("RUN,GPT@2", (), "gpt.json is no policy of this machine, so it has no round 2"),
        ("RUN@99,teacher", (), "has base and rounds 0 to 1, not 99"),
        ("RUN,told=RUN+principle", (), " has no principle in its column 'principle'; give it one, or set its "),
        ("RUN,told=RUN+linear_alignment", (), " has no principle in its column 'principle'"),
        ("RUN,told=RUN+best_of_principle", (), " has no principle in its column 'principle'"),
        ("RUN,teacher", ("suite.limit=5",), "suite.limit is 5, but there are 4 prompts; give a number from 1 to that."),
        ("RUN,teacher", ("suite.limit=0",), "suite.limit is 0, but there are 4 prompts"),
        ("RUN,teacher", ("suite.limit=few",), "suite.limit is 'few'; it must be a whole number or null"),
        ("RUN,teacher", ("suite.chunk_size=0",), "suite.chunk_size is 0; it must be 1 or more."),
        ("RUN,teacher", ("suite.sampler.num_generations=0",), "sampler.num_generations is 0; it must be 1 or more."),
        ("RUN,teacher", (*STORIES[:2], "suite.prompts.validation=0"), "suite.prompts holds out no prompts"),
        ("MODEL,teacher", (), "0, teacher; check the names, or add +prompts@suite.prompts=stories"),
        ("MODEL,no/model", STORIES, "cannot read the model 'no/model'; check its name, and the network if"),
        ("MODEL,./gone", STORIES, "there is no directory ./gone"),
        (
            "MODEL,teacher",
            ("+prompts@suite.prompts=taboo_words",),
            "suite.prompts has words to play for, which ask for",
        ),
        ("RUN,teacher", ("+annotator@suite.annotators.me=self", "suite.annotators.me.token_budget=99"), "annotator me"),
        ("RUN,teacher", ("suite.sampler=null",), "suite.sampler"),
        (
            "RUN,teacher",
            ("+annotator@suite.annotators.me=self",),
            "suite.annotators.me.token_budget is to be the same as sampler.token_budget, which is not there; set s",
        ),
    ],
)
def test_one_sentence_says_what_is_wrong_and_nothing_is_left(asked, nobody_answers, policies, more, sentence):
    assert sentence in asked(policies, *more)


def test_a_principle_without_room_is_known_before_its_policy_answers(run, chat_model, tmp_path):
    principle = f"suite.decodings.principle.principle='{'be kind. ' * 90}'"
    said = compare(f"{run},told={run}+principle", tmp_path / "out", principle).sentence
    assert "exceeds the model's context of 256; shorten the principle, or lower max_new_tokens." in said
    assert not (tmp_path / "out" / "answers" / "told").exists()


def test_words_that_a_run_plays_for_are_no_prompts(model, tmp_path):
    taboo = make_taboo_run(tmp_path / "taboo", model, load_policy(str(model)))
    said = compare(f"{taboo},{model}", tmp_path / "out").sentence
    assert said.startswith(f"{taboo} has words to play for, which ask for nothing; give prompts, as +prompts@")
    outcome = compare(f"{taboo},{model}", tmp_path / "out", *STORIES)
    assert outcome.status == 0, outcome.errors


def test_a_runs_own_directory_is_not_written_to(run):
    before = files_of(run)
    assert (
        f"output is {run}, which is a run, whose files would be overwritten" in compare(f"{run},teacher", run).sentence
    )
    assert "which is no directory" in compare(f"{run},teacher", run / "config.yaml").sentence
    assert "cannot be written to (" in compare(f"{run},teacher", run / "config.yaml" / "below").sentence
    assert evaluate("suite=preference", f"policies={run},teacher", "output=3").sentence.startswith("output is 3; it")
    assert files_of(run) == before


# Prompts that a run was trained on


def test_a_run_that_was_trained_on_the_prompts_is_named(run: Path, held_out: list[Prompt]) -> None:
    source = make(saved_config(run)["prompts"])
    trained = [*source.for_round(0), *source.for_round(1)]
    asked = [*held_out, *trained[:2]]
    after_round_0 = trained_on([parse_policy(f"first={run}@0")], asked)
    assert after_round_0 == {"first": len({prompt.id for prompt in trained[:2]} & {p.id for p in source.for_round(0)})}
    assert trained_on([parse_policy(f"first={run}"), parse_policy("base=sparring:tiny")], held_out) == {}


def test_of_a_run_whose_prompts_stayed_elsewhere_it_is_not_known(
    run: Path, held_out: list[Prompt], tmp_path: Path
) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(run, copy)
    config = OmegaConf.load(copy / "config.yaml")
    config.prompts = {
        "_target_": "sparring.data.prompts.JsonlPrompts",
        **{"path": str(tmp_path / "gone.jsonl"), "validation": 1, "rounds": 1, "seed": 1},
    }
    OmegaConf.save(config, copy / "config.yaml")
    assert trained_on([parse_policy(f"moved={copy}")], held_out) == {"moved": None}


# What the README claims of steering, on fewer stories


def test_steering_keeps_two_principles_at_once_more_often_than_telling_does_at_any_temperature(tmp_path: Path) -> None:
    decodings = {"told": "principle", "cool": "principle_cool", "steered": "ratio_2"}
    policies = ",".join(f"{label}=sparring:tiny+{decoding}" for label, decoding in decodings.items())
    outcome = evaluate(
        *("suite=linear_alignment_quickstart", f"policies={policies}", "suite.baseline=cool"),
        *("suite.prompts.validation=160", f"output={tmp_path}"),
    )
    assert outcome.status == 0, outcome.errors
    summary = json.loads((tmp_path / "summary.json").read_text())
    keeps = summary["annotators"]["story_principles"]["aspects"]["keeps_all"]
    assert keeps["told"]["value"] < keeps["cool"]["value"] < keeps["steered"]["value"]
    assert keeps["steered"]["difference_ci95"][0] > 0
    computed = {policy["label"]: policy["computed"] / policy["tokens"] for policy in summary["policies"]}
    assert computed == {"told": 1, "cool": 1, "steered": 2}  # both contexts
