"""`sparring calibrate` as it is called: recorded raters, and a recorded annotator beside them."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from sparring.cli.calibrate import main
from sparring.cli.calibration_judges import ask, comparisons_of, raters_of
from sparring.core.preference import symmetrised
from sparring.core.types import Candidates, Judgement, Prompt
from sparring.data.judged_formats import Ballot, JudgedPair

torch.set_num_threads(1)


@dataclass(frozen=True)
class Outcome:
    status: int
    output: str
    errors: str

    @property
    def sentence(self) -> str:
        assert self.status == 2, self.errors
        [line] = self.errors.splitlines()
        return line.removeprefix("sparring: ")

    def row(self, *starts: str) -> list[str]:
        """The cells of the row that begins so, intervals left out."""
        [line] = [line for line in self.output.splitlines() if line.split()[: len(starts)] == list(starts)]
        return [cell for cell in line.split()[len(starts) :] if cell[0] not in "[" and cell[-1] != "]"]


def calibrate(*arguments: object) -> Outcome:
    output, errors, status = StringIO(), StringIO(), 0
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            GlobalHydra.instance().clear()
    return Outcome(status, output.getvalue(), errors.getvalue())


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """Four prompts, two raters who differ on the last one."""
    verdicts = [("a", "a"), ("b", "b"), ("tie", "tie"), ("a", "b")]
    return lines(
        tmp_path / "judged.jsonl",
        (
            {"prompt": f"q{n}", "response_a": "long one", "response_b": "short", "raters": {"ann": one, "bob": two}}
            for n, (one, two) in enumerate(verdicts)
        ),
    )


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """What the annotator says: right with 0.9, wrong with 0.6, a tie, and nothing on the last."""
    wins = [0.9, 0.6, 0.5]
    return lines(
        tmp_path / "answers.jsonl",
        (
            {"prompt": f"q{n}", "response_a": "long one", "response_b": "short", "win": win}
            for n, win in enumerate(wins)
        ),
    )


def test_an_annotator_is_measured_beside_the_raters(judged, answers):
    found = calibrate("annotator=recorded", f"annotator.path={answers}", f"data={judged}")
    assert found.status == 0, found.errors
    assert found.row("recorded", "majority", "of", "raters") == ["3", "0.667", "0.500", "0.500"]
    assert found.row("one", "rater,", "mean", "another", "rater")[:3] == ["4", "0.750", "0.667"]
    assert found.row("longer", "wins") == ["0.833", "0.625", "0.375", "0.500"]
    assert found.row("ties")[:2] == ["0.333", "0.250"]
    assert found.row("first", "shown", "wins") == ["-", "-", "-", "-"]
    assert "Brier 0.185" in found.output  # of 0.1 and 0.6
    assert "recorded: no verdict on 1 of 4 comparisons, reason: not recorded" in found.output


def test_raters_are_measured_among_themselves_without_an_annotator(judged):
    found = calibrate("annotator=null", f"data={judged}")
    assert found.output == calibrate(f"data={judged}").output
    assert found.output.startswith("judged.jsonl: 4 comparisons, 4 prompts, raters: 2")
    assert found.row("ann", "majority", "of", "others")[:2] == ["4", "0.750"]
    assert "Brier" not in found.output


def test_a_limit_takes_the_first_prompts_with_all_their_comparisons(judged):
    found = calibrate("limit=2", f"data={judged}")
    assert found.output.startswith("judged.jsonl: 2 comparisons, 2 prompts")


def test_a_plot_is_drawn_of_an_annotator(judged, answers, tmp_path):
    picture = tmp_path / "new" / "plot.png"
    found = calibrate("annotator=recorded", f"annotator.path={answers}", f"data={judged}", f"plot={picture}")
    assert found.status == 0, found.errors
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_position_bias_of_an_annotator_is_read_off_its_ordered_logits(judged, tmp_path):
    texts = ("long one", "short")
    rows = (
        {"prompt": f"q{n}", "response_a": a, "response_b": b, "logit": logit}
        for n in range(4)
        for a, b, logit in ((*texts, 2.0), (*texts[::-1], 1.0 if n < 3 else -1.0))
    )
    answers = lines(tmp_path / "logits.jsonl", rows)
    found = calibrate("annotator=recorded", f"annotator.path={answers}", f"data={judged}")
    assert found.row("first", "shown", "wins")[0] == "0.875"  # seven of eight
    assert found.row("reversed", "by", "the", "order")[0] == "0.750"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["annotator=panel"], "there is nothing to compare with; give data=PATH, a file of recorded preferences."),
        (["data=x.jsonl"], "x.jsonl does not exist; check the path."),
        (["data=x.jsonl", "format=xml"], "format is 'xml'; it must be auto or one of sparring, pandalm, alpaca_eval, "),
        (["data=x.jsonl", "limit=0"], "limit is '0'; it must be a number of prompts, 1 or more."),
        (["data=x.jsonl", "plot=x.png"], "a plot shows how far an annotator's probabilities can be trusted; "),
        (["data=x.jsonl", "seed=3"], "the argument 'seed=3' cannot be read; give annotator=NAME, annotator.KEY=VALUE"),
        (["data=x.jsonl", "annotator.path=y"], "annotator.path=y configures no annotator; add annotator=NAME."),
        (["data=DATA", "annotator=nobody"], "there is no annotator=nobody; choose one of "),
        (["data=DATA", "annotator=recorded"], "annotator.path must be given: add annotator.path=VALUE."),
        (
            ["data=DATA", "annotator=self"],
            "annotator=self judges with the policy of a run, and here is none; use another.",
        ),
        (["data=DATA", "annotator=panel", "annotator.x=1"], "annotator has no key 'x'"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_sentence(arguments, sentence, judged):
    assert calibrate(*(argument.replace("DATA", str(judged)) for argument in arguments)).sentence.startswith(sentence)


def test_nothing_is_drawn_of_an_annotator_that_judged_nothing(judged, tmp_path):
    answers = lines(
        tmp_path / "other.jsonl", [{"prompt": "?", "response_a": "long one", "response_b": "short", "win": 1.0}]
    )
    picture = tmp_path / "plot.png"
    found = calibrate("annotator=recorded", f"annotator.path={answers}", f"data={judged}", f"plot={picture}")
    assert found.sentence.startswith("there is nothing to draw for recorded")
    assert not picture.exists()


def pair(prompt: str, a: str, b: str, win: float = 1.0) -> JudgedPair:
    return JudgedPair(Prompt(prompt, ()), a, b, (Ballot("ann", win),))


class Alphabet:
    """The earlier text wins, by logits that favour whoever is shown first; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, batch: list[Candidates]) -> list[Judgement]:
        self.asked += [[response.text for response in each.responses] for each in batch]
        return [self._judge(each) for each in batch]

    def _judge(self, candidates: Candidates) -> Judgement:
        texts = [response.text for response in candidates.responses]
        places = np.array([ord(text) for text in texts], dtype=float)
        logits = places[None, :] - places[:, None] + 1.5
        np.fill_diagonal(logits, 0)
        return Judgement(symmetrised(logits), logits=logits, status="broken" if "z" in texts else "ok")


def test_responses_are_asked_together_where_most_of_them_are_compared():
    annotator = Alphabet()
    pairs = [pair("p", "b", "a"), pair("p", "a", "c"), pair("q", "a", "b"), pair("q", "c", "d"), pair("r", "a", "z")]
    found = ask(annotator, "alphabet", pairs)
    assert annotator.asked == [["b", "a", "c"], ["a", "b"], ["c", "d"], ["a", "z"]]
    assert (found.judge.win > 0.5).tolist() == [False, True, True, True, False]
    assert np.isnan(found.judge.win).tolist() == [False] * 4 + [True]
    assert found.unjudged == {"broken": 1}
    # b against a: b shown first has 1.5 - 1, a shown first has 1.5 + 1; so with either first the first one wins.
    assert found.judge.ordered[0] == pytest.approx([1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(2.5))])
    assert np.isnan(found.judge.ordered[4]).all()


def test_a_judge_that_compares_two_by_two_is_measured_by_its_readings():
    record = {
        "protocol": "pairwise/1",
        "questions": [{"order": [1, 0], "reading": [1.0]}, {"order": [0, 1], "reading": [0.5]}],
    }

    def annotator(batch: list[Candidates]) -> list[Judgement]:
        return [Judgement(np.array([[0.5, 0.25], [0.75, 0.5]]), raw=json.dumps(record)) for _ in batch]

    found = ask(annotator, "pairwise", [pair("p", "a", "b")])
    assert found.judge.ordered.tolist() == [[0.5, 0.0]]


def test_responses_are_numbered_within_their_prompt_and_orders_kept_apart():
    both = JudgedPair(
        Prompt("p", ()), "b", "cc", (Ballot("ann", 1.0, "a"), Ballot("ann", 0.5, "b"), Ballot("bob", None))
    )
    pairs = [pair("p", "a", "b"), both, pair("q", "c", "a", 0.0)]
    found = comparisons_of(pairs)
    assert [each.tolist() for each in (found.prompt, found.a, found.b)] == [[0, 0, 1], [0, 1, 0], [1, 2, 1]]
    assert found.longer.tolist() == [0, -1, 0]
    ann, bob = raters_of(pairs)
    assert ann.win.tolist() == [1, 0.75, 0]
    assert ann.ordered[1].tolist() == [1, 0.5]
    assert np.isnan(ann.ordered[0]).all()
    assert np.isnan(bob.win).all()


def test_the_command_measures_recorded_raters_in_seconds(shared):
    path = shared / "data" / "preference" / "pandalm_three_annotators.jsonl.gz"
    command = [sys.executable, "-m", "sparring.cli.main", "calibrate", f"data={path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("pandalm_three_annotators.jsonl.gz: 500 comparisons, 165 prompts, raters: 3")
    assert "0.916 [" in done.stdout  # two raters of three


def test_no_model_library_is_imported_to_compare_raters(judged):
    code = (
        "import sys; from sparring.cli.main import main;"
        "sys.argv[1:] = ['calibrate', f'data={sys.argv[1]}'];"
        "main(); print({'torch', 'transformers', 'lightning'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(judged)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
