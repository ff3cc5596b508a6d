"""Large-margin pairs of DNO in its practical form (arXiv 2404.03715, section 5.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from sparring.core.errors import ConfigError, RoundError
from sparring.core.preference import TOLERANCE, Opponents, win_rates
from sparring.core.types import Candidates, Judgement, Pair, Response
from sparring.pairing.pair import make_pair

Scale = Literal["win_rate", "rating"]


@dataclass(frozen=True, kw_only=True)
class DnoMargin:
    """Every pair whose chosen response is good and better by a margin that depends on who wrote the two.

    A response may be chosen if it reaches `min_positive` and has no defect. All thresholds are on `scale`: the
    annotator's native rating, as in the paper (0 to 6), or the win rate against `opponents`. The paper relaxes the
    margin for a student's positive and does not say whether that holds against another student; here that is a knob.
    An infinite margin forbids a kind: with both student margins infinite this is the paper's DNO-Restrictive.

    Two responses that are equal on the scale make a pair only at margin 0, once: the one that wins the direct
    comparison is chosen, else the first. A pair may still contradict the direct comparison where preferences run in
    a circle. Neither is hidden here; the filters `Tie` and `LosesDirectly` drop them, and the funnel counts them.
    """

    scale: Scale
    min_positive: float
    margin_teacher_pos: float
    margin_student_pos: float
    margin_student_vs_student: float
    opponents: Opponents = "policy"  # matters on the win-rate scale only

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scale):
            raise ConfigError(f"The scale of DnoMargin is {self.scale!r}: choose one of {', '.join(get_args(Scale))}.")
        margins = (self.margin_teacher_pos, self.margin_student_pos, self.margin_student_vs_student)
        if not all(margin >= 0 for margin in margins):
            raise ConfigError(f"The margins {margins} of DnoMargin would prefer losers: make them all 0 or more.")

    def __call__(self, candidates: Candidates, judgement: Judgement) -> list[Pair]:
        if judgement.status != "ok":
            return []
        scores = self._scores(candidates, judgement)
        orders = (
            self._order(scores, candidates.responses, judgement, *both) for both in combinations(range(len(scores)), 2)
        )
        return [
            make_pair(candidates, judgement, chosen, rejected, margin=scores[chosen] - scores[rejected])
            for chosen, rejected in filter(None, orders)
        ]

    def _order(
        self, scores: Float[np.ndarray, " k"], responses: Sequence[Response], judgement: Judgement, one: int, other: int
    ) -> tuple[int, int] | None:
        """(chosen, rejected), or None. At most one order is admissible, except on a tie: then the direct winner's."""
        orders = [(one, other), (other, one)] if judgement.win[one, other] >= 0.5 else [(other, one), (one, other)]
        return next((order for order in orders if self._admissible(scores, responses, *order)), None)

    def _scores(self, candidates: Candidates, judgement: Judgement) -> Float[np.ndarray, " k"]:
        if self.scale == "win_rate":
            is_policy = np.array([response.origin == "policy" for response in candidates.responses])
            return win_rates(judgement.win, is_policy, opponents=self.opponents)
        if judgement.scores is None:
            raise RoundError(
                f"The judgement of prompt {candidates.prompt.id} has no ratings: choose an annotator that gives scores,"
                " or set pairing.strategy.scale=win_rate."
            )
        return np.array(judgement.scores, dtype=float)

    def _admissible(
        self, scores: Float[np.ndarray, " k"], responses: Sequence[Response], chosen: int, rejected: int
    ) -> bool:
        good = responses[chosen].defect is None and scores[chosen] >= self.min_positive - TOLERANCE
        margin = self._margin(responses[chosen], responses[rejected])
        return bool(good and scores[chosen] - scores[rejected] >= margin - TOLERANCE)

    def _margin(self, chosen: Response, rejected: Response) -> float:
        if chosen.origin == "teacher":
            return self.margin_teacher_pos
        return self.margin_student_pos if rejected.origin == "teacher" else self.margin_student_vs_student
