"""One pair per prompt: the sample that wins most often against the one that wins least (SPPO, arXiv 2405.00675)."""

from dataclasses import dataclass

import numpy as np

from sparring.core.preference import TOLERANCE, Opponents, win_rates
from sparring.core.types import Candidates, Judgement, Pair
from sparring.pairing.pair import make_pair


@dataclass(frozen=True, kw_only=True)
class BestVsWorst:
    """Highest against lowest win rate; the first of equals. No pair where the best is no better than the worst.

    Ranked by win rate, not by a pair ranker's mean logit as SPPO's experiments do: the loss regresses on win rates.
    Defective samples may be the worst, never the best. The teacher stands aside unless `teacher` lets it compete.
    """

    opponents: Opponents
    teacher: bool = False

    def __call__(self, candidates: Candidates, judgement: Judgement) -> list[Pair]:
        if judgement.status != "ok":
            return []
        responses = candidates.responses
        is_policy = np.array([response.origin == "policy" for response in responses])
        rates = win_rates(judgement.win, is_policy, opponents=self.opponents)
        entrants = [index for index in range(len(responses)) if self.teacher or is_policy[index]]
        sound = [index for index in entrants if responses[index].defect is None]
        if not sound:
            return []
        highest, lowest = rates[sound].max(), rates[entrants].min()
        if highest - lowest <= TOLERANCE:
            return []
        best = next(index for index in sound if rates[index] >= highest - TOLERANCE)
        worst = next(index for index in entrants if rates[index] <= lowest + TOLERANCE)
        return [make_pair(candidates, judgement, rates, best, worst)]
