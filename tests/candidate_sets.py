"""Candidates and judgements for the pairing tests: students first, then the teacher if it has a score."""

from collections.abc import Mapping, Sequence

import numpy as np

from sparring.core.preference import bradley_terry
from sparring.core.types import Candidates, Judgement, Message, Prompt, Response


def candidate_set(students: int, *, teacher: bool = False, defects: Mapping[int, str] | None = None) -> Candidates:
    """Response i has text "response i" and i + 1 tokens; the prompt has ten."""
    responses = tuple(
        Response(
            text=f"response {index}",
            ids=tuple(range(index + 1)),
            origin="policy" if index < students else "teacher",
            finish="stop",
            logp=-1.0,
            defect=(defects or {}).get(index),
        )
        for index in range(students + teacher)
    )
    return Candidates(Prompt("p", (Message("user", "Tell."),)), tuple(range(10)), responses)


def rated(scores: Sequence[float]) -> Judgement:
    scores = tuple(float(score) for score in scores)
    return Judgement(win=bradley_terry(np.array(scores), 1.0), scores=scores)


def judged(win: Sequence[Sequence[float]]) -> Judgement:
    return Judgement(win=np.array(win, dtype=float))
