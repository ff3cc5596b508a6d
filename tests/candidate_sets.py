"""Candidates, judgements and configured pairings for the pairing tests: students first, then the teacher."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from sparring.core.preference import bradley_terry
from sparring.core.types import Candidates, Judgement, Message, Prompt, Response
from sparring.pairing.funnel import Pairing

CONF = Path(__file__).parents[1] / "conf"


def configured(option: str, *changes: str) -> Pairing:
    """What `pairing=OPTION pairing.CHANGE ...` makes."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(f"pairing/{option}", ["+seed=1", *(f"pairing.{change}" for change in changes)])
        return instantiate(config.pairing, _convert_="all")


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
