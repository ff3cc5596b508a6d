"""Win rate of one policy against another, with an interval over prompts.

Responses to one prompt are judged against each other and are anything but independent, so the prompt is the unit that
is resampled (percentile bootstrap, Efron 1979).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sparring.core.errors import DataError
from sparring.core.preference import TOLERANCE


@dataclass(frozen=True, slots=True)
class WinRate:
    """`win_rate` counts a comparison as won above 1/2 and as half won at 1/2; `mean_probability` averages P itself.

    The interval belongs to `win_rate` and collapses to a point for one prompt, or where every prompt has the same
    result: a bootstrap cannot see what it has not drawn.
    """

    win_rate: float
    ci95: tuple[float, float]
    mean_probability: float
    prompts: int


def cross_win_rate(win: Float[np.ndarray, "k k"], n_current: int) -> Float[np.ndarray, "current opponent"]:
    """P(current beats opponent), where the first `n_current` of the K candidates are the current policy's."""
    if not 0 < n_current < len(win):
        raise DataError(f"{n_current} of {len(win)} candidates are current: both sides need at least one response.")
    return win[:n_current, n_current:]


def measure_win_rate(blocks: Iterable[Float[np.ndarray, "..."]], *, seed: int, resamples: int = 2_000) -> WinRate:
    """One block of P(current beats opponent) per prompt, of any shape. Every prompt weighs the same."""
    probabilities = [np.ravel(block) for block in blocks]
    if not probabilities or any(block.size == 0 for block in probabilities):
        raise DataError("A win rate needs at least one comparison for every prompt: leave out prompts that have none.")
    if not all(((block >= 0) & (block <= 1)).all() for block in probabilities):  # false for NaN too
        raise DataError("A comparison has a win probability outside [0, 1]: check the judgements it was read from.")
    wins = np.array([won(block).mean() for block in probabilities])
    rng = np.random.default_rng(seed)
    means = [wins[rng.integers(len(wins), size=len(wins))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return WinRate(
        win_rate=float(wins.mean()),
        ci95=(float(low), float(high)),
        mean_probability=float(np.mean([block.mean() for block in probabilities])),
        prompts=len(wins),
    )


def won(probability: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """1 above 1/2, 0 below, 1/2 for a tie."""
    return np.where(np.abs(probability - 0.5) <= TOLERANCE, 0.5, (probability > 0.5).astype(float))
