"""Each response by itself: what pointwise losses regress on (SPPO, arXiv 2405.00675, Algorithm 1, all K kept)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparring.core.preference import Opponents, win_rates
from sparring.core.types import Candidates, Judgement, Pair
from sparring.pairing.pair import side


@dataclass(frozen=True, kw_only=True)
class EveryResponse:
    """Every policy sample, without a rejected one; its score, and for want of an opponent its win, is its win rate.

    Defective and repeated samples stay: they are draws from the policy like the others, whose low or equal win rates
    say what they are worth. The teacher's answer joins them only where `teacher` is true.
    """

    paired: ClassVar[bool] = False

    opponents: Opponents = "policy"
    teacher: bool = False

    def __call__(self, candidates: Candidates, judgement: Judgement) -> list[Pair]:
        if judgement.status != "ok":
            return []
        is_policy = np.array([response.origin == "policy" for response in candidates.responses])
        rates = win_rates(judgement.win, is_policy, opponents=self.opponents)
        return [
            Pair(chosen=index, rejected=None, win=rate, score=rate, margin=0.0, kind=side(candidates, index))
            for index, rate in enumerate(rates.tolist())
            if self.teacher or is_policy[index]
        ]
