"""A study: runs of several arms and seeds that share what they are measured by, compared prompt by prompt.

Pure: records in, estimates out. Two runs of one seed answered the same held-out prompts against the same samples of the
base policy, so the difference of two arms is taken on each prompt before anything is averaged.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sparring.core.errors import DataError

Which = Literal["first", "second"]
Outcomes = Mapping[str, float]
"""Prompt id -> share of the prompt's comparisons with the base policy that were won."""

PAID = ("judge_tokens", "answered_before", "cost", "evaluation_cost")
"""Of judges with a price or a count of tokens: tokens read and written, how many calls' answers were kept before, and
what all answers are worth, whoever paid for them."""

RESOURCES = ("pairs", "steps", "tokens", "judge_calls", "evaluation_calls", "seconds", *PAID)


@dataclass(frozen=True, slots=True)
class Stage:
    """A run after one of its rounds; `spent` is what it took so far, by `RESOURCES`."""

    outcomes: Mapping[Which, Outcomes]
    length: float  # tokens per response
    kl: float | None  # against the base policy, nats per response; None where nobody knows
    spent: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """`shared` must be the same in all runs that are compared, `shared_by_seed` in those of one seed; see `check`."""

    name: str
    arm: str
    seed: int
    shared: Mapping[str, Any]
    shared_by_seed: Mapping[str, Any]
    stages: Mapping[int, Stage]


@dataclass(frozen=True, slots=True)
class Estimate:
    mean: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Row:
    arm: str
    seeds: tuple[int, ...]
    rounds: tuple[int, int]  # the fewest and the most of its runs
    win_rate: Estimate
    difference: Estimate | None  # to the baseline arm
    length: float
    kl: float | None
    spent: Mapping[str, float]  # per run


@dataclass(frozen=True, slots=True)
class Point:
    """Where an arm's runs are, on average, after a round."""

    spent: float
    win_rate: Estimate


def check(runs: Sequence[Run]) -> None:
    """Raise DataError unless a comparison of `runs` is one of their arms alone."""
    names: dict[tuple[str, int], str] = {}
    for run in runs:
        other = names.setdefault((run.arm, run.seed), run.name)
        if other != run.name:
            raise DataError(
                f"{other} and {run.name} are both arm {run.arm} with seed {run.seed}; leave one out, "
                "or give one an arm_name of its own."
            )
    for run in runs[1:]:
        _same(runs[0], run, runs[0].shared, run.shared)
    first_of: dict[int, Run] = {}
    for run in runs:
        other = first_of.setdefault(run.seed, run)
        _same(other, run, other.shared_by_seed, run.shared_by_seed)
    seeds = {arm: {run.seed for run in each} for arm, each in by_arm(runs).items()}
    for (one, its), (other, others) in itertools.permutations(seeds.items(), 2):
        if lacking := sorted(its - others):
            raise DataError(
                f"arm {other} has no run with seed {lacking[0]}, which arm {one} has; "
                f"run it, or leave the runs of seed {lacking[0]} out."
            )


def _same(one: Run, other: Run, ones: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    differing = [what for what in ones if ones[what] != others[what]]
    if differing:
        raise DataError(
            f"{one.name} and {other.name} do not belong together, because they differ in their {differing[0]}; "
            "report them apart."
        )


def by_arm(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each arm in the order of their seeds; arms in the order in which they come."""
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    return {arm: sorted(each, key=lambda run: run.seed) for arm, each in arms.items()}


def stage_of(run: Run, index: int | None) -> Stage:
    """After round `index`, or after the last."""
    chosen = max(run.stages) if index is None else index
    if chosen not in run.stages:
        raise DataError(f"{run.name} has rounds 0 to {max(run.stages)}, not {chosen}; choose another round=N.")
    return run.stages[chosen]


def outcomes_of(run: Run, which: Which, index: int | None) -> Outcomes:
    outcomes = stage_of(run, index).outcomes
    if which not in outcomes:
        raise DataError(
            f"{run.name} was measured by one annotator only; measure with callbacks.win_rate.second_annotator, "
            "or choose annotator=first."
        )
    return outcomes[which]


def estimate(values: Sequence[Outcomes], *, resamples: int = 2_000) -> Estimate:
    """Mean over seeds of the mean over prompts, with a percentile interval of a two-level bootstrap.

    Each resample draws seeds, then prompts within each seed drawn; where all seeds have the same prompts, they are
    drawn once for all of them. One seed leaves the prompts alone: the interval then says nothing of other seeds. A few
    seeds say little of their spread: of three, a bootstrap sees two thirds of the variance.
    """
    if not values or not all(values):
        raise DataError("There is no prompt that all compared runs have a verdict on; see the judgements' status.")
    marks = [np.array([value for _, value in sorted(each.items())]) for each in values]
    crossed = all(each.keys() == values[0].keys() for each in values)
    rng = np.random.default_rng(0)
    seeds = rng.integers(len(marks), size=(resamples, len(marks)))
    drawn = rng.integers(len(marks[0]), size=(resamples, len(marks[0])))  # where the prompts are crossed with seeds
    means = np.empty(seeds.shape)
    for slot, seed in itertools.product(range(len(marks)), range(len(marks))):
        which = np.flatnonzero(seeds[:, slot] == seed)
        own = rng.integers(len(marks[seed]), size=(len(which), len(marks[seed]))) if not crossed else drawn[which]
        means[which, slot] = marks[seed][own].mean(1)
    low, high = np.quantile(means.mean(1), [0.025, 0.975])
    return Estimate(float(np.mean([each.mean() for each in marks])), (float(low), float(high)))


def difference(runs: Sequence[Run], baseline: Sequence[Run], *, which: Which, index: int | None) -> Estimate:
    """How much more `runs` win than `baseline`, paired by seed and prompt; both in the order of their seeds."""
    values: list[dict[str, float]] = []
    for run, other in zip(runs, baseline, strict=True):
        mine, theirs = outcomes_of(run, which, index), outcomes_of(other, which, index)
        values.append({prompt: mine[prompt] - theirs[prompt] for prompt in mine.keys() & theirs.keys()})
    return estimate(values)


def compare(runs: Sequence[Run], *, baseline: str | None, which: Which, index: int | None) -> list[Row]:
    """One row per arm, the highest win rate first."""
    arms = by_arm(runs)
    if baseline is not None and baseline not in arms:
        raise DataError(f"there is no arm {baseline!r} to be the baseline; choose among {', '.join(sorted(arms))}.")
    others = None if baseline is None else arms[baseline]
    rows = []
    for arm, each in arms.items():
        stages = [stage_of(run, index) for run in each]
        apart = None if others is None or arm == baseline else difference(each, others, which=which, index=index)
        rows.append(
            Row(
                arm=arm,
                seeds=tuple(run.seed for run in each),
                rounds=_rounds(each, index),
                win_rate=estimate([outcomes_of(run, which, index) for run in each]),
                difference=apart,
                length=_mean(stage.length for stage in stages),
                kl=_mean_if_known([stage.kl for stage in stages]),
                spent={name: _mean(stage.spent[name] for stage in stages) for name in RESOURCES},
            )
        )
    return sorted(rows, key=lambda row: -row.win_rate.mean)


def _rounds(runs: Iterable[Run], index: int | None) -> tuple[int, int]:
    counts = [1 + (max(run.stages) if index is None else index) for run in runs]
    return min(counts), max(counts)


def curve(runs: Sequence[Run], *, resource: str, which: Which) -> list[Point]:
    """One arm's way over its rounds, as far as all its seeds have come."""
    common = set.intersection(*(set(run.stages) for run in runs))
    return [
        Point(
            spent=_mean(run.stages[index].spent[resource] for run in runs),
            win_rate=estimate([outcomes_of(run, which, index) for run in runs]),
        )
        for index in sorted(common)
    ]


def verdict(found: Estimate) -> str:
    """Of a claim that a difference is positive."""
    low, high = found.ci95
    return "holds" if low > 0 else "does not hold" if high < 0 else "undecided"


def _mean_if_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if len(known) == len(values) else None


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
