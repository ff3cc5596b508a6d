"""Every two candidates as a pair, chosen by the comparison of these two alone, whatever others say of them.

With an annotator that draws its answers these are the unfiltered hard labels whose minimiser is not DNO's update.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from sparring.core.preference import TOLERANCE
from sparring.core.types import Candidates, Judgement, Pair
from sparring.pairing.pair import make_pair


@dataclass(frozen=True)
class EveryComparison:
    """All K (K - 1) / 2 unordered pairs but those that tie; the score is the probability to win.

    Of two orders that contradict each other (`win_rate_mode=pairwise_single_order`) it reads the one in which the
    earlier candidate is shown first: one question per comparison.
    """

    def __call__(self, candidates: Candidates, judgement: Judgement) -> list[Pair]:
        if judgement.status != "ok":
            return []
        asked = judgement.win
        win = np.triu(asked, 1) + np.tril(1.0 - asked.T, -1) + np.eye(len(asked)) / 2
        return [
            make_pair(candidates, replace(judgement, win=win), win[:, rejected], chosen, rejected)
            for one, other in combinations(range(len(win)), 2)
            if abs(win[one, other] - 0.5) > TOLERANCE
            for chosen, rejected in [(one, other) if win[one, other] > 0.5 else (other, one)]
        ]
