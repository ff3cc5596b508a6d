"""Every two candidates as a pair, the better one chosen: where both algorithms of DNO begin (arXiv 2404.03715).

Algorithm 1 regresses on all of them; Algorithm 2 keeps large margins. That choice is left to the filters, which count.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from sparring.core.errors import ConfigError, RoundError
from sparring.core.preference import TOLERANCE, Opponents, win_rates
from sparring.core.types import Candidates, Judgement, Pair
from sparring.pairing.pair import make_pair

Scale = Literal["win_rate", "rating"]


@dataclass(frozen=True, kw_only=True)
class ScoredPairs:
    """All K (K - 1) / 2 unordered pairs, each in the order of the scores.

    The score is the win rate against `opponents` or, as in the paper, the annotator's own rating. Of two equal scores
    the winner of the direct comparison is chosen, else the first. Where preferences run in a circle, the chosen
    response may lose the direct comparison: the score decides, and the filter `LosesDirectly` may object.

    `merge_identical` lets one of several responses with the same text propose pairs, the first without a defect if
    there is one; all of them still count in the win rates.
    """

    scale: Scale
    opponents: Opponents = "policy"  # matters on the win-rate scale only
    merge_identical: bool = False

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scale):
            raise ConfigError(f"The scale of scored pairs is {self.scale!r}: choose {' or '.join(get_args(Scale))}.")

    def __call__(self, candidates: Candidates, judgement: Judgement) -> list[Pair]:
        if judgement.status != "ok":
            return []
        scores = self._scores(candidates, judgement)
        return [
            make_pair(candidates, judgement, scores, *_ordered(scores, judgement, *both))
            for both in combinations(self._proposing(candidates), 2)
        ]

    def _proposing(self, candidates: Candidates) -> list[int]:
        indices = range(len(candidates.responses))
        if not self.merge_identical:
            return list(indices)
        speakers: dict[str, int] = {}
        for index in sorted(indices, key=lambda index: candidates.responses[index].defect is not None):
            speakers.setdefault(candidates.responses[index].text, index)
        return sorted(speakers.values())

    def _scores(self, candidates: Candidates, judgement: Judgement) -> Float[np.ndarray, " k"]:
        if self.scale == "win_rate":
            is_policy = np.array([response.origin == "policy" for response in candidates.responses])
            return win_rates(judgement.win, is_policy, opponents=self.opponents)
        if judgement.scores is None:
            raise RoundError(
                f"The judgement of prompt {candidates.prompt.id} has no ratings: choose an annotator that gives scores,"
                " or set pairing=dno_margin, which needs win rates only."
            )
        return np.array(judgement.scores, dtype=float)


def _ordered(scores: Float[np.ndarray, " k"], judgement: Judgement, one: int, other: int) -> tuple[int, int]:
    """(chosen, rejected)."""
    lead = scores[one] - scores[other]
    if abs(lead) <= TOLERANCE:
        lead = judgement.win[one, other] - 0.5
    return (one, other) if lead >= -TOLERANCE else (other, one)
