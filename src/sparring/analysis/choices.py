"""Multiple choice: how often the right answer is chosen, and which place the chosen answers stand at.

Items of one question are anything but independent, so questions are what is resampled.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sparring.analysis.resampling import Estimate, Resampling


@dataclass(frozen=True, slots=True)
class Choices:
    """Shares, each of all items but `right_at[k]`, which is the accuracy where the right answer stands at place k.

    `lead` is the accuracy less that of another policy on the same items. What could not be read counts as wrong, so
    `chosen` and `unreadable` add up to 1. Intervals are of 95% over questions, and a point if there is only one.
    """

    accuracy: Estimate
    lead: Estimate | None
    unreadable: Estimate
    chosen: tuple[Estimate, ...]
    right_at: tuple[Estimate | None, ...]


def measure_choices(
    chosen: Float[np.ndarray, "items places"],
    right: Int[np.ndarray, " items"],
    draw: Resampling,
    *,
    other: Float[np.ndarray, "items places"] | None,
) -> Choices:
    """`chosen[i, k]`: the share of responses to item i that chose place k; what is left to 1 could not be read.

    `other` is the same of the policy that this one is compared with.
    """
    hits = correct(chosen, right)
    places = range(chosen.shape[1])
    return Choices(
        accuracy=_mean(draw, hits),
        lead=None if other is None else _mean(draw, hits - correct(other, right)),
        unreadable=_mean(draw, 1 - chosen.sum(axis=1)),
        chosen=tuple(_mean(draw, chosen[:, place]) for place in places),
        right_at=tuple(draw.mean(np.where(right == place, hits, np.nan)) for place in places),
    )


def correct(chosen: Float[np.ndarray, "items places"], right: Int[np.ndarray, " items"]) -> Float[np.ndarray, " items"]:
    """The share of responses to each item that are right."""
    return chosen[np.arange(len(right)), right]


def _mean(draw: Resampling, values: Float[np.ndarray, " items"]) -> Estimate:
    found = draw.mean(values)
    assert found is not None  # there are items, and each has a value
    return found
