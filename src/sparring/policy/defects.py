"""What is wrong with a sample, whatever it says. A defective sample may lose a comparison but not win one."""

from collections.abc import Sequence

from sparring.core.types import Finish


def find_defect(ids: Sequence[int], finish: Finish, *, ngram: int, max_repeat_share: float) -> str | None:
    """Name "no_end" a sample that was cut off, "repeats" one with more than `max_repeat_share` repeated n-grams."""
    if finish == "length":
        return "no_end"
    return "repeats" if repeat_share(ids, ngram) > max_repeat_share else None


def repeat_share(ids: Sequence[int], ngram: int) -> float:
    """The share of n-grams that are equal to an earlier one; 0 for a text shorter than one n-gram."""
    total = len(ids) - ngram + 1
    if total < 1:
        return 0.0
    return 1 - len({tuple(ids[i : i + ngram]) for i in range(total)}) / total
