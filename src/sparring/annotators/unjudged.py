"""No judge at all: for pairings that ask for none, like SPIN's."""

from collections.abc import Sequence

import numpy as np

from sparring.core.types import Candidates, Judgement


class Unjudged:
    """Every two candidates tie, which costs nothing and says nothing; strategies that compare make no pairs of it."""

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [Judgement(np.full((len(one.responses), len(one.responses)), 0.5)) for one in batch]
