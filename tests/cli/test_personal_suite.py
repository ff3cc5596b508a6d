"""`sparring evaluate suite=personal` as it is called, on policies with random weights, and rules with known scores."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from evaluations import Outcome
from evaluations import evaluate as evaluate_any
from personal_sets import RuleEntrant, personal_file
from sparring.cli.personal_suite import Exam, drawn
from sparring.core.types import Prompt
from sparring.data.personal_questions import LETTERS, items_of, read_choice, read_personal_questions

torch.set_num_threads(1)


def evaluate(*arguments: object) -> Outcome:
    return evaluate_any("suite=personal", *arguments)


def summary(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "summary.json").read_text())


def texts(directory: Path, policy: str) -> dict[str, str]:
    rows = pq.read_table(directory / "choices.parquet").to_pylist()
    return {row["prompt_id"]: row["text"] for row in rows if row["policy"] == policy}


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return personal_file(tmp_path_factory.mktemp("questions") / "preference_data.json", range(5))


@pytest.fixture(scope="module")
def roomy_model(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that chats, with room for four answers."""
    directory = tmp_path_factory.mktemp("roomy") / "model"
    shutil.copytree(chat_model, directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1024}))
    return directory


@pytest.fixture(scope="module")
def command(roomy_model: Path, questions: Path) -> list[str]:
    """Plain, told and steered; steered by nothing, that is: as told."""
    policies = ",".join(f"{label}={roomy_model}{how}" for label, how in (("plain", ""), ("told", "+principle")))
    return [
        f"policies={policies},steered={roomy_model}+linear_alignment,still={roomy_model}+still",
        f"suite.questions={questions}",
        "suite.chunk_size=8",
        "+sampler@suite.decodings.still=linear_alignment",
        *(f"suite.decodings.still.{key}" for key in ("ratio=0.0", "top_k=1", "num_generations=1", "max_new_tokens=10")),
    ]


@pytest.fixture(scope="module")
def finished(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """To be looked at and not touched."""
    output = tmp_path_factory.mktemp("evaluated") / "personal"
    outcome = evaluate(*command, f"output={output}")
    assert outcome.status == 0, outcome.errors
    return outcome, output


# ---------------------------------------------------------------- rules with known scores


@pytest.fixture
def exam(tmp_path: Path) -> Callable[..., Exam]:
    def of(*rules: Callable[[Prompt], str], count: int = 6, seed: int = 1, name: str = "exam") -> Exam:
        asked = read_personal_questions(personal_file(tmp_path / "a.json", range(count)))
        entrants = [RuleEntrant(f"rule {number}", rule) for number, rule in enumerate(rules)]
        return Exam(entrants, drawn(asked, None, seed), tmp_path / name, chunk_size=7, seed=seed)

    return of


def told(prompt: Prompt) -> str:
    """The right letter: an answer ends like the description of its person begins."""
    person = prompt.meta["principle"].partition(": ")[2][2:7]
    [line] = [line for line in prompt.text.splitlines() if line.endswith(f"says {person}")]
    return line[0]


def test_who_knows_the_person_is_always_right_and_who_always_says_the_same_in_one_of_four(exam):
    test = exam(lambda prompt: "A", told, lambda prompt: "(d) it is", lambda prompt: "I think that B")
    test.ask()
    found = {policy["label"]: policy for policy in test.summary()["policies"]}
    same, knowing, last, prose = (found[f"rule {number}"] for number in range(4))
    shares = [sum(item.right == place for item in test.items) / len(test.items) for place in range(4)]
    assert same["accuracy"]["value"] == shares[0] == 0.25
    assert same["accuracy"]["ci95"] == (0.25, 0.25)  # in every question
    assert [share["value"] for share in same["right_at"]] == [1, 0, 0, 0]
    assert (knowing["accuracy"]["value"], knowing["lead"]["value"]) == (1.0, 0.75)
    assert [share["value"] for share in knowing["chosen"]] == [0.25] * 4
    assert (last["accuracy"]["value"], last["chosen"][3]["value"], last["lead"]["value"]) == (0.25, 1.0, 0.0)
    assert (prose["accuracy"]["value"], prose["unreadable"]["value"], prose["lead"]["value"]) == (0.0, 1.0, -0.25)
    assert same["lead"] is None
    assert (same["tokens"], same["computed"]) == (1.0, 1.0)


def test_questions_in_another_order_of_rows_give_the_same_to_the_last_digit(exam, tmp_path):
    def rule(prompt: Prompt) -> str:
        return "ABCDE"[int(prompt.id[:4], 16) % 5]

    here = exam(rule)
    here.ask()
    turned = read_personal_questions(personal_file(tmp_path / "b.json", [3, 1, 5, 0, 4, 2]))
    there = Exam(here.field.entrants, drawn(turned, None, 1), tmp_path / "there", chunk_size=7, seed=1)
    there.ask()
    assert list(there.rows()) == list(here.rows())
    one, other = ({**test.summary()["policies"][0], "seconds": 0} for test in (here, there))
    assert one == other
    assert 0 < one["accuracy"]["value"] < 1


def test_fewer_questions_are_the_first_of_all(tmp_path):
    asked = read_personal_questions(personal_file(tmp_path / "a.json", range(9)))
    assert drawn(asked, 4, seed=2) == drawn(asked, None, seed=2)[:4]
    assert drawn(asked, 4, seed=2) != drawn(asked, 4, seed=3)


# ---------------------------------------------------------------- policies


def test_figures_are_those_of_the_answers_that_are_stored(finished, questions):
    outcome, output = finished
    report = summary(output)
    assert (report["questions"], report["items"], report["chance"]) == (5, 20, 0.25)
    assert [policy["label"] for policy in report["policies"]] == ["plain", "told", "steered", "still"]
    items = [item for question in read_personal_questions(questions) for item in items_of(question, 1)]
    for policy in report["policies"]:
        said = texts(output, policy["label"])
        assert len(said) == 20
        right = [read_choice(said[item.prompt.id]) == item.right for item in items]
        assert policy["accuracy"]["value"] == pytest.approx(sum(right) / 20)
        assert policy["unreadable"]["value"] == pytest.approx(
            sum(read_choice(text) is None for text in said.values()) / 20
        )
        assert f"{policy['accuracy']['value']:.3f}" in outcome.output
        assert policy["seconds"] > 0
    assert "chance is 0.250" in outcome.output


def test_the_person_is_told_to_some_and_steered_by_nothing_is_to_be_told(finished):
    _, output = finished
    plain, knowing, steered, still = (texts(output, label) for label in ("plain", "told", "steered", "still"))
    by_question: dict[str, set[str]] = {}
    for prompt, text in plain.items():
        by_question.setdefault(prompt.partition("-")[0], set()).add(text)
    assert [len(answers) for answers in by_question.values()] == [1] * 5  # the same whoever asks
    assert knowing != plain
    assert steered != knowing
    assert still == knowing
    costs = {policy["label"]: policy for policy in summary(output)["policies"]}
    assert costs["plain"]["computed"] == costs["plain"]["tokens"] <= 10
    assert costs["steered"]["computed"] == 2 * costs["steered"]["tokens"]


def test_what_is_interrupted_goes_on_to_the_same_end_and_asks_nothing_twice(finished, command, tmp_path, monkeypatch):
    _, output = finished
    copy = tmp_path / "personal"
    shutil.copytree(output / "answers", copy / "answers")
    (copy / "answers" / "told" / "outputs-00001.parquet").unlink()
    again = evaluate(*command, f"output={copy}")
    assert again.status == 0, again.errors
    assert pq.read_table(copy / "choices.parquet").equals(pq.read_table(output / "choices.parquet"))
    monkeypatch.setattr("sparring.policy.sampler.decode", None)
    monkeypatch.setattr("sparring.policy.linear_alignment.decode", None)
    kept = summary(copy)
    once_more = evaluate(*command, f"output={copy}")
    assert once_more.status == 0, once_more.errors
    assert once_more.output == again.output
    assert summary(copy) == kept


def test_a_model_without_a_template_continues_the_question(plain_model, questions, tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(plain_model, directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1024}))
    outcome = evaluate(
        *(f"policies=a={directory},b={directory}+linear_alignment", f"suite.questions={questions}", "suite.limit=1"),
        f"output={tmp_path / 'out'}",
    )
    assert outcome.status == 0, outcome.errors
    assert summary(tmp_path / "out")["items"] == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["policies={model}"], "suite.questions must be given: add suite.questions=VALUE."),
        (["policies={model}", "suite.questions=no/such.json"], "no/such.json does not exist; give a file of personal"),
        (["policies=teacher", "{questions}"], "teacher cannot be told who asks; name runs and models"),
        (["policies=endpoint", "{questions}"], "endpoint cannot be told who asks"),
        (["policies=gpt4.json", "{questions}"], "gpt4.json cannot be told who asks"),
        (["policies={model}+magic", "{questions}"], "is to decode by +magic, which is none of linear_alignment, princ"),
        (["policies={model}", "{questions}", "suite.limit=6"], "suite.limit is 6, but there are 5 questions"),
        (["policies={model}", "{questions}", "suite.chunk_size=0"], "suite.chunk_size is 0; it must be 1 or more."),
        (["policies={model}", "{questions}", "suite.limit=many"], "suite.limit is 'many'; it must be a whole number"),
        (["policies={small}", "{questions}"], "exceeds the model's context of 128"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_sentence(
    roomy_model, chat_model, questions, tmp_path, arguments, sentence
):
    filled = {"{model}": roomy_model, "{small}": chat_model, "{questions}": f"suite.questions={questions}"}
    for name, value in filled.items():
        arguments = [argument.replace(name, str(value)) for argument in arguments]
    assert sentence in evaluate(*arguments, f"output={tmp_path / 'out'}").sentence
    assert not (tmp_path / "out" / "summary.json").exists()


def test_every_letter_is_in_the_tables(finished):
    outcome, _ = finished
    assert all(f"chosen {letter}" in outcome.output and f"right at {letter}" in outcome.output for letter in LETTERS)
