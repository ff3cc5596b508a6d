"""A panel of critics: each prefers by its own score, and the share of critics is the probability to win.

Majorities of critics can be cyclic (Condorcet), so there need not be a score that explains the matrix: the case that
DNO and SPPO are made for. Not here: weights, or any use of how far apart two scores are.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from sparring.core.errors import ConfigError
from sparring.core.types import Candidates, Judgement, Prompt, Response

Critic = Callable[[Prompt, Response], float]
"""What one reader thinks of one response: in [0, 1], higher is better, deterministic."""


class Panel:
    """P(i beats j) is the share of critics that score i above j, a tie counting half.

    The native score is the sum over critics: with six critics it has the 0-6 scale of DNO's thresholds. A candidate
    that no critic tells from another draws with it; a panel of one critic can only say 0, 1/2 or 1.
    """

    def __init__(self, critics: Mapping[str, Critic]) -> None:
        if not critics:
            raise ConfigError("A panel needs at least one critic; name one under annotator.critics.")
        self._critics = dict(critics)

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [self._judge(candidates) for candidates in batch]

    def _judge(self, candidates: Candidates) -> Judgement:
        aspects = {
            name: tuple(critic(candidates.prompt, response) for response in candidates.responses)
            for name, critic in self._critics.items()
        }
        marks = np.array(list(aspects.values()))
        count = len(candidates.responses)
        return Judgement(
            win=vote(marks), scores=tuple(marks.sum(0).tolist()), aspects=aspects, calls=count * (count - 1) // 2
        )


def vote(marks: Float[np.ndarray, "critics k"]) -> Float[np.ndarray, "k k"]:
    """The win matrix of critics that each vote by their marks."""
    ahead = marks[:, :, None] > marks[:, None, :]
    level = marks[:, :, None] == marks[:, None, :]
    return (ahead + level / 2).mean(0)
