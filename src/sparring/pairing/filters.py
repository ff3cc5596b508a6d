"""Reasons not to train on a proposed pair. Each says True if the pair may stay.

The name that a configuration gives a rule is the one the funnel counts it under. A pair without a rejected response has
nothing to be equal or to lose to, and passes the rules that compare two.
"""

import math
from dataclasses import dataclass

from sparring.core.errors import ConfigError
from sparring.core.preference import TOLERANCE
from sparring.core.types import Candidates, Judgement, Pair


class Duplicate:
    """Drops a response paired with itself, by text or by tokens: its log-ratios would cancel."""

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        if pair.rejected is None:
            return True
        chosen, rejected = candidates.responses[pair.chosen], candidates.responses[pair.rejected]
        return chosen.text != rejected.text and chosen.ids != rejected.ids


class Tie:
    """Drops a pair that is undecided twice over: no margin on the strategy's scale, and P = 1/2 directly."""

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        return pair.rejected is None or abs(pair.margin) > TOLERANCE or abs(pair.win - 0.5) > TOLERANCE


class LosesDirectly:
    """Drops a pair whose chosen response loses the direct comparison, P < 1/2.

    Averages can disagree with a comparison where preferences run in a circle, or where ratings and probabilities come
    from different questions. A filter and not part of the strategies, because what theory compares *is* the average:
    how many circles there are should be seen, and leaving them in should be one override away.
    """

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        return pair.rejected is None or pair.win >= 0.5 - TOLERANCE


class DefectMayOnlyLose:
    """Drops a pair whose chosen response is flagged, however well it was judged (arXiv 2404.03715, section 5.1)."""

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        return candidates.responses[pair.chosen].defect is None


@dataclass(frozen=True)
class MinPositive:
    """Drops a pair whose chosen response scores below `threshold`: the best of a bad lot is no example."""

    threshold: float

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        return pair.score >= self.threshold - TOLERANCE


@dataclass(frozen=True)
class Margin:
    """Drops a pair whose margin is below what its kind must reach (arXiv 2404.03715, section 5.1).

    The paper asks less of a student's positive than of the teacher's and does not say whether that holds against
    another student; here that is a knob. An infinite margin forbids a kind: with both student margins infinite this is
    the paper's DNO-Restrictive.
    """

    teacher_positive: float
    student_positive: float  # against the teacher
    student_vs_student: float

    def __post_init__(self) -> None:
        margins = (self.teacher_positive, self.student_positive, self.student_vs_student)
        if not all(margin >= 0 for margin in margins):
            raise ConfigError(f"The margins of pairs are {margins}, but no pair has less than 0: give 0 or more.")

    @property
    def needs_teacher(self) -> bool:
        """Whether only pairs with the teacher can pass."""
        return math.isinf(self.student_vs_student)

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        return pair.rejected is None or pair.margin >= self._least(pair.chosen, pair.rejected, candidates) - TOLERANCE

    def _least(self, chosen: int, rejected: int, candidates: Candidates) -> float:
        if candidates.responses[chosen].origin == "teacher":
            return self.teacher_positive
        against_teacher = candidates.responses[rejected].origin == "teacher"
        return self.student_positive if against_teacher else self.student_vs_student


@dataclass(frozen=True)
class MinMargin:
    """Drops a pair whose margin is below `threshold`, whoever wrote the two."""

    threshold: float

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        return pair.rejected is None or pair.margin >= self.threshold - TOLERANCE


@dataclass(frozen=True)
class MaxLength:
    """Drops a pair that would not fit: prompt and response, either side, in tokens. Nothing is ever truncated."""

    max_tokens: int

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        sides = [index for index in (pair.chosen, pair.rejected) if index is not None]
        longest = max(len(candidates.responses[index].ids) for index in sides)
        return len(candidates.prompt_ids) + longest <= self.max_tokens
