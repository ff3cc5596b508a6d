"""What all strategies share: how a pair is written down."""

import numpy as np
from jaxtyping import Float

from sparring.core.types import Candidates, Judgement, Pair

_SIDE = {"policy": "student", "teacher": "teacher"}


def make_pair(
    candidates: Candidates, judgement: Judgement, scores: Float[np.ndarray, " k"], chosen: int, rejected: int
) -> Pair:
    """`scores` are those the strategy chose by, one per candidate."""
    sides = [_SIDE[candidates.responses[index].origin] for index in (chosen, rejected)]
    return Pair(
        chosen=chosen,
        rejected=rejected,
        win=float(judgement.win[chosen, rejected]),
        score=float(scores[chosen]),
        margin=float(scores[chosen] - scores[rejected]),
        kind=">".join(sides),
    )
