"""What all strategies share: how a pair is written down."""

from sparring.core.types import Candidates, Judgement, Pair

_SIDE = {"policy": "student", "teacher": "teacher"}


def make_pair(candidates: Candidates, judgement: Judgement, chosen: int, rejected: int, margin: float) -> Pair:
    sides = [_SIDE[candidates.responses[index].origin] for index in (chosen, rejected)]
    return Pair(
        chosen=chosen,
        rejected=rejected,
        win=float(judgement.win[chosen, rejected]),
        margin=float(margin),
        kind=">".join(sides),
    )
