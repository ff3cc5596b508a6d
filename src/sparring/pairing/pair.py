"""What all strategies share: how a pair is written down."""

import numpy as np
from jaxtyping import Float

from sparring.core.types import Candidates, Judgement, Pair

_SIDE = {"policy": "student", "teacher": "teacher"}


def make_pair(
    candidates: Candidates, judgement: Judgement, scores: Float[np.ndarray, " k"], chosen: int, rejected: int
) -> Pair:
    """`scores` are those the strategy chose by, one per candidate."""
    return Pair(
        chosen=chosen,
        rejected=rejected,
        win=float(judgement.win[chosen, rejected]),
        score=float(scores[chosen]),
        margin=float(scores[chosen] - scores[rejected]),
        kind=f"{side(candidates, chosen)}>{side(candidates, rejected)}",
    )


def side(candidates: Candidates, index: int) -> str:
    """Who wrote a candidate, in the words of the papers: student or teacher."""
    return _SIDE[candidates.responses[index].origin]
