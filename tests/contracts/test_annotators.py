"""What every annotator promises: one valid win matrix per candidate set, in order."""

import json
from collections.abc import Callable
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest

from sparring.annotators.payoff_table import PayoffTable
from sparring.annotators.recorded import Recorded
from sparring.core.preference import check_win_matrix
from sparring.core.protocols import Annotator
from sparring.core.types import Candidates, Message, Prompt, Response

TEXTS = ["red", "green", "blue", "grey"]


def payoff_table(_: Path) -> Annotator:
    upper = np.triu(np.random.default_rng(0).random((4, 4)), 1)
    return PayoffTable(TEXTS, (upper + np.tril(1 - upper.T, -1) + np.eye(4) / 2).tolist())


def recorded_scores(directory: Path) -> Annotator:
    rows = [{"prompt_id": "0", "response": text, "score": 40.0 * i} for i, text in enumerate(TEXTS)]
    return recorded(directory, rows)


def recorded_wins(directory: Path) -> Annotator:
    rows = [
        {"prompt_id": "0", "response_a": a, "response_b": b, "win": round(0.1 * i, 1)}
        for i, (a, b) in enumerate(combinations(TEXTS, 2))
    ]
    return recorded(directory, rows)


def recorded_logits(directory: Path) -> Annotator:
    rows = [
        {"prompt_id": "0", "response_a": a, "response_b": b, "logit": float(i - 4)}
        for i, (a, b) in enumerate(permutations(TEXTS, 2))
    ]
    return recorded(directory, rows)


def recorded(directory: Path, rows: list[dict[str, object]]) -> Annotator:
    path = directory / "recorded.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Recorded(str(path))


def candidates(*texts: str) -> Candidates:
    prompt = Prompt("0", (Message("user", "Which colour?"),))
    return Candidates(prompt, (), tuple(Response(text, (), "policy", "stop", 0.0) for text in texts))


@pytest.mark.parametrize("make", [payoff_table, recorded_scores, recorded_wins, recorded_logits])
def test_every_candidate_set_gets_a_valid_win_matrix_of_its_size(
    make: Callable[[Path], Annotator], tmp_path: Path
) -> None:
    batch = [candidates(*TEXTS), candidates("red", "red", "blue"), candidates("purple", "red"), candidates("grey")]
    judgements = make(tmp_path)(batch)
    assert [len(judgement.win) for judgement in judgements] == [4, 3, 2, 1]
    for judgement in judgements:
        check_win_matrix(judgement.win)
        assert judgement.scores is None or len(judgement.scores) == len(judgement.win)
    assert judgements[1].win[0, 1] == 0.5  # the same text twice
    assert judgements[2].status != "ok"  # purple is unknown
    assert (judgements[2].win == 0.5).all()


@pytest.mark.parametrize("make", [payoff_table, recorded_scores, recorded_wins, recorded_logits])
def test_the_order_of_candidates_only_reorders_the_matrix(make: Callable[[Path], Annotator], tmp_path: Path) -> None:
    annotator, order = make(tmp_path), [2, 0, 3, 1]
    straight, reordered = annotator([candidates(*TEXTS), candidates(*(TEXTS[i] for i in order))])
    np.testing.assert_allclose(reordered.win, straight.win[np.ix_(order, order)], atol=1e-12)
