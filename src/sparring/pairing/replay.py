"""How much of earlier rounds is trained on again (DNO, arXiv 2404.03715, section 5.1).

Shares are of the *old* rounds' own new pairs, which is our reading of the paper. Replayed responses keep their text
and their pair; their reference log-probabilities are computed anew, because the reference has moved on.
"""

import math

import numpy as np
from jaxtyping import Int

from sparring.core.errors import ConfigError
from sparring.core.seeding import numpy_rng


def replay_shares(round_index: int, first: float = 0.30) -> dict[int, float]:
    """Share by earlier round: `first` of the last one, half of that of the one before, and so on back to round 0."""
    if not 0 <= first <= 1:
        raise ConfigError(f"The replay share is {first}: give a number between 0 and 1.")
    return {earlier: first * 0.5 ** (round_index - 1 - earlier) for earlier in range(round_index)}


def choose_replay(available: int, share: float, *seed_parts: int | str) -> Int[np.ndarray, " replayed"]:
    """Which of `available` pairs are replayed: floor(share * available) ascending indices, a function of the seed."""
    size = math.floor(share * available + 1e-9)  # 0.29 * 100 is a hair below 29
    return np.sort(numpy_rng(*seed_parts).choice(available, size=size, replace=False))
