"""Reasons not to train on a proposed pair. Each says True if the pair may stay; the funnel counts the rest by `name`.

A pair without a rejected response has nothing to be equal or to lose to, and passes the rules that compare two.
"""

from sparring.core.preference import TOLERANCE
from sparring.core.types import Candidates, Judgement, Pair


class Duplicate:
    """Drops a response paired with itself, by text or by tokens: its log-ratios would cancel."""

    name = "duplicate"

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        if pair.rejected is None:
            return True
        chosen, rejected = candidates.responses[pair.chosen], candidates.responses[pair.rejected]
        return chosen.text != rejected.text and chosen.ids != rejected.ids


class Tie:
    """Drops a pair that is undecided twice over: no margin on the strategy's scale, and P = 1/2 directly."""

    name = "tie"

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        return pair.rejected is None or abs(pair.margin) > TOLERANCE or abs(pair.win - 0.5) > TOLERANCE


class LosesDirectly:
    """Drops a pair whose chosen response loses the direct comparison, P < 1/2.

    Averages can disagree with a comparison where preferences run in a circle, or where ratings and probabilities come
    from different questions. A filter and not part of the strategies, because what theory compares *is* the average:
    how many circles there are should be seen, and leaving them in should be one override away.
    """

    name = "loses_directly"

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        return pair.rejected is None or pair.win >= 0.5 - TOLERANCE


class DefectMayOnlyLose:
    """Drops a pair whose chosen response is flagged. The strategies here propose none; another one might."""

    name = "defect_may_only_lose"

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        return candidates.responses[pair.chosen].defect is None


class MinMargin:
    """Drops a pair whose margin, on the strategy's own scale, is below `threshold`."""

    name = "min_margin"

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        return pair.margin >= self.threshold - TOLERANCE


class MaxLength:
    """Drops a pair that would not fit: prompt and response, either side, in tokens. Nothing is ever truncated."""

    name = "max_length"

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool:
        sides = [index for index in (pair.chosen, pair.rejected) if index is not None]
        longest = max(len(candidates.responses[index].ids) for index in sides)
        return len(candidates.prompt_ids) + longest <= self.max_tokens
