"""Which prompts a round trains on: the papers use a new split each round, small studies the same prompts."""

from typing import Literal

from sparring.core.errors import ConfigError
from sparring.core.seeding import numpy_rng

Split = Literal["disjoint", "same"]


def round_indices(size: int, index: int, *, split: Split, rounds: int, seed: int) -> list[int]:
    """Positions of round `index` among `size` training prompts, in random order.

    `disjoint` cuts one permutation of all prompts into `rounds` parts of equal size (arXiv 2404.03715 §5.1, three
    parts of UltraFeedback); up to `rounds - 1` prompts at the end stay unused. `same` gives every round all prompts.
    """
    if split == "same":
        return numpy_rng(seed, "prompts", index).permutation(size).tolist()
    if size < rounds:
        raise ConfigError(f"{size} prompts cannot be split into {rounds} disjoint rounds; set prompts.split=same.")
    part = size // rounds
    return numpy_rng(seed, "prompts").permutation(size)[index * part : (index + 1) * part].tolist()
