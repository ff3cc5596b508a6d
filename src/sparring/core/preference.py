"""Win matrices: where they come from, what makes one valid, and the win rates that DNO and SPPO regress on."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from sparring.core.errors import ConfigError, RoundError

Opponents = Literal["policy", "all_others"]

# Two probabilities or scores this close are equal: means of sixths, or of float32, are not exact.
TOLERANCE = 1e-6


def win_rates(
    win: Float[np.ndarray, "k k"], is_policy: Bool[np.ndarray, " k"], *, opponents: Opponents
) -> Float[np.ndarray, " k"]:
    """Mean probability that candidate i beats its opponents.

    "policy" estimates P(y beats the round's policy): the mean over the policy's samples, a sample's tie with itself
    included (SPPO, arXiv 2405.00675, Algorithm 1). A teacher is scored so too, but is never an opponent.
    "all_others" is the mean over every other candidate, the teacher among them (DNO, arXiv 2404.03715, section 4).
    """
    if opponents not in get_args(Opponents):
        raise ConfigError(
            f"The opponents of a win rate are {opponents!r}: choose one of {', '.join(get_args(Opponents))}."
        )
    if opponents == "policy":
        if not is_policy.any():
            raise RoundError(
                "Win rates against the policy need a policy sample among the candidates: sample at least one."
            )
        return win[:, is_policy].mean(axis=1)
    others = len(win) - 1
    if others < 1:
        raise RoundError("Win rates against all others need two candidates: sample more responses per prompt.")
    return (win.sum(axis=1) - win.diagonal()) / others


def logistic(gaps: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """The logistic function, by tanh: it cannot overflow and is odd to the last bit, so that win + win.T is 1."""
    return 0.5 * (1.0 + np.tanh(gaps / 2.0))


def bradley_terry(scores: Float[np.ndarray, " k"], temperature: float) -> Float[np.ndarray, "k k"]:
    """Win matrix sigmoid((s_i - s_j) / temperature) of scores that live on one scale."""
    if not temperature > 0:
        raise ConfigError(f"The Bradley-Terry temperature is {temperature}: give a positive number.")
    return logistic((scores[:, None] - scores[None, :]) / temperature)


def symmetrised(logits: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """Win matrix of a pair ranker's ordered logits: in logits, the mean of what the two orders say."""
    return logistic((logits - logits.T) / 2.0)


def check_win_matrix(win: Float[np.ndarray, "..."], where: str = "a judgement") -> None:
    """Raise RoundError unless `win` is square, within [0, 1], 1/2 on its diagonal, and win + win.T is 1."""
    if win.ndim != 2 or win.shape[0] != win.shape[1]:
        problem = f"has shape {win.shape}, not K x K"
    elif not ((win >= -TOLERANCE) & (win <= 1 + TOLERANCE)).all():  # false for NaN too
        problem = "has entries that are no probabilities"
    elif not np.allclose(win.diagonal(), 0.5, rtol=0, atol=TOLERANCE):
        problem = "does not have 1/2 on its diagonal"
    elif not np.allclose(win + win.T, 1.0, rtol=0, atol=TOLERANCE):
        problem = "has P(i beats j) + P(j beats i) other than 1"
    else:
        return
    raise RoundError(f"The win matrix of {where} {problem}: mend the annotator that wrote it.")
