"""Several answer the same prompts and are judged together: by rules, so that every figure is known."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personal_sets import RuleEntrant
from sparring.core.errors import ConfigError, DataError, RoundError
from sparring.core.types import Candidates, Judgement, Output, Prompt
from sparring.rollout.entrants import Entrant, Foreseen, RecordedEntrant, TeacherEntrant
from sparring.rollout.field import Field


class Longest:
    """The longer text wins; `asked` are the texts of all that was judged, and `refused` prompts have no verdict."""

    def __init__(self, refused: Sequence[str] = ()) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.refused = refused

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        self.asked += [tuple(each.text for each in one.responses) for one in batch]
        return [self._judge(one) for one in batch]

    def _judge(self, candidates: Candidates) -> Judgement:
        length = np.array([len(each.text) for each in candidates.responses])
        win = (np.sign(length[:, None] - length[None, :]) + 1) / 2
        if candidates.prompt.id in self.refused:
            return Judgement(np.full(win.shape, 0.5), status="refused", calls=1)
        return Judgement(win, aspects={"length": tuple(map(float, length))}, calls=1, cost=0.5)


@pytest.fixture
def prompts(ask: Callable[..., Prompt]) -> list[Prompt]:
    return [ask("x" * number, f"p{number}", teacher="t" * 3) for number in range(1, 6)]


@pytest.fixture
def field(prompts: list[Prompt], tmp_path: Path) -> Callable[..., Field]:
    def of(*entrants: Entrant, **changes: Any) -> Field:
        return Field(entrants, **({"prompts": prompts, "output": tmp_path, "chunk_size": 2, "seed": 1} | changes))

    return of


def twice(prompts: Sequence[Prompt]) -> RecordedEntrant:
    """One response of no letters and one of nine."""
    outputs = {prompt.id: [Output(prompt, "n" * size, "file", size, 0.5) for size in (0, 9)] for prompt in prompts}
    return RecordedEntrant("file", "file.json", outputs)


ECHO = RuleEntrant("echo", lambda prompt: prompt.text)


def test_everybody_s_responses_to_a_prompt_are_judged_at_once_and_told_apart(field, prompts):
    judge, made = Longest(), field(ECHO, twice(prompts), TeacherEntrant("teacher"))
    made.answer()
    found = made.judge("longest", judge, {})
    assert judge.asked == [("x" * n, "", "n" * 9, "ttt") for n in range(1, 6)]
    assert [(each.members, each.lengths) for each in found.judged] == [
        (((0,), (1, 2), (3,)), (n, 0, 9, 3)) for n in range(1, 6)
    ]
    assert found.judged[0].aspects == {"length": (1.0, 0.0, 9.0, 3.0)}
    assert (found.unjudged, found.expense.calls, found.expense.cost) == ({}, 5, 2.5)


def test_outcomes_are_each_ones_wins_against_the_baseline(field, prompts):
    made = field(ECHO, twice(prompts), TeacherEntrant("teacher"))
    made.answer()
    rows = list(made.judge("longest", Longest(), {}).outcomes(made.players, "teacher", "longest"))
    assert {(row["annotator"], row["against"]) for row in rows} == {("longest", "teacher")}
    # Three letters of the teacher's against one to five, and against none and nine.
    assert [row["win"] for row in rows if row["policy"] == "echo"] == [0, 0, 0.5, 1, 1]
    assert [row["win"] for row in rows if row["policy"] == "file"] == [0.5] * 5
    assert [row["prompt_id"] for row in rows if row["policy"] == "file"] == ["p1", "p2", "p3", "p4", "p5"]


def test_answers_are_described_by_what_is_known_of_them(field, prompts):
    made = field(ECHO, twice(prompts), TeacherEntrant("teacher"))
    made.answer()
    echo, file, teacher = map(made.described, made.entrants)
    assert (echo["responses"], echo["characters"], echo["tokens"], echo["computed"]) == (5, 3.0, 1.0, 1.0)
    assert echo["seconds"] > 0
    assert (file["responses"], file["characters"], file["tokens"], file["computed"]) == (10, 4.5, 4.5, None)
    assert (file["seconds"], file["ended"]) == (0.5, None)
    unknown = ("tokens", "computed", "seconds", "ended", "tokenizer", "rounds")
    assert all(teacher[name] is None for name in unknown)
    assert teacher["expense"] == {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0, "cached": 0}


def test_what_is_foreseen_of_a_prompt_is_everybody_s(field, prompts):
    made = field(ECHO, twice(prompts), TeacherEntrant("teacher"))
    assert made.foreseen() == [Foreseen(1 + 2 + 1, 1 + 3 + 1)] * 5


def test_rows_say_what_was_asked_and_are_of_these_prompts_alone(field, prompts):
    more = field(ECHO, twice(prompts))
    more.answer()
    assert Counter(row["policy"] for row in more.rows()) == {"echo": 5, "file": 10}
    fewer = field(ECHO, twice(prompts), prompts=prompts[:2])
    fewer.answer()
    rows = list(fewer.rows())
    assert [(row["policy"], row["prompt_id"], row["index"], row["text"]) for row in rows] == [
        ("echo", "p1", 0, "x"),
        ("echo", "p2", 0, "xx"),
        *(("file", name, place, "n" * size) for name in ("p1", "p2") for place, size in enumerate((0, 9))),
    ]
    assert rows[1]["messages"] == [{"role": "user", "content": "xx"}]
    assert json.loads(rows[1]["meta"]) == {}
    assert fewer.described(ECHO)["responses"] == 2


def test_nobody_answers_where_one_is_known_to_have_no_answer(field, prompts, tmp_path):
    with pytest.raises(DataError, match=r"file.json has no output of 'file' for prompt p5"):
        field(ECHO, twice(prompts[:4])).answer()
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- doing it again


def test_what_was_judged_is_not_judged_again_unless_an_answer_or_the_judge_is_another(field, prompts):
    judge, two = Longest(), field(ECHO, TeacherEntrant("teacher"))
    two.answer()
    first = two.judge("longest", judge, {"scale": 1})
    again = two.judge("longest", judge, {"scale": 1})
    assert len(judge.asked) == 5
    assert [each.win.tolist() for each in again.judged] == [each.win.tolist() for each in first.judged]
    two.judge("longest", judge, {"scale": 2})
    two.judge("other", judge, {"scale": 1})
    assert len(judge.asked) == 15
    said: list[str] = []

    def rule(prompt: Prompt) -> str:
        said.append(prompt.id)
        return "late"

    three = field(ECHO, TeacherEntrant("teacher"), RuleEntrant("late", rule))
    three.answer()
    three.answer()
    three.judge("longest", judge, {"scale": 1})
    assert said == ["p1", "p2", "p3", "p4", "p5"]
    assert len(judge.asked) == 20
    assert judge.asked[-1] == ("xxxxx", "ttt", "late")


def test_judging_that_was_interrupted_goes_on(field, tmp_path):
    judge, made = Longest(), field(ECHO, TeacherEntrant("teacher"))
    made.answer()
    first = made.judge("longest", judge, {})
    [path] = (tmp_path / "judgements").rglob("judgements-00001.parquet")
    path.unlink()
    again = made.judge("longest", judge, {})
    assert len(judge.asked) == 5 + 2
    assert [each.prompt for each in again.judged] == [each.prompt for each in first.judged]
    assert again.expense == first.expense


# ---------------------------------------------------------------- what cannot be compared


def test_prompts_without_a_verdict_are_counted_and_left_out(field):
    made = field(ECHO, TeacherEntrant("teacher"))
    made.answer()
    found = made.judge("longest", Longest(["p2", "p5"]), {})
    assert [each.prompt for each in found.judged] == ["p1", "p3", "p4"]
    assert (found.unjudged, found.expense.calls) == ({"refused": 2}, 5)


def test_no_verdict_at_all_is_refused(field, prompts):
    made = field(ECHO, TeacherEntrant("teacher"))
    made.answer()
    with pytest.raises(RoundError, match=r"^annotator longest gave no verdict on any prompt; see the status column in"):
        made.judge("longest", Longest([prompt.id for prompt in prompts]), {})


def test_a_prompt_that_is_there_twice_and_chunks_of_nothing_are_refused(field, prompts):
    with pytest.raises(DataError, match=r"^prompt p3 is there 2 times; ask every prompt once.$"):
        field(ECHO, prompts=[*prompts, replace(prompts[2])])
    with pytest.raises(ConfigError, match=r"^suite.chunk_size is 0; it must be 1 or more.$"):
        field(ECHO, chunk_size=0)


def test_labels_that_are_no_file_names_have_places_of_their_own(field, tmp_path):
    names = ["a/b", "a b", "a+b", "ä", "a%2Fb"]
    made = field(*(RuleEntrant(name, lambda prompt: "x") for name in names))
    made.answer()
    assert len(list((tmp_path / "answers").iterdir())) == 5
    assert [row["policy"] for row in made.rows()][::5] == names


@pytest.mark.parametrize("name", ["", ".", "..", "n" * 201, "日" * 23])
def test_labels_that_no_directory_can_have_are_refused(field, name):
    with pytest.raises(ConfigError, match=r"cannot give its name to a directory; name it otherwise, as LABEL=PLACE.$"):
        field(RuleEntrant(name, lambda prompt: "x"))
