"""Several players' answers to the same prompts, judged by one annotator: win rates, payoffs, length control, aspects.

All responses to a prompt are judged together, so every figure of two players is of the same prompts, and the prompt is
the unit that is resampled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from sparring.analysis.length_control import (
    LengthControl,
    SizedComparisons,
    estimate_difficulty,
    fit_length_control,
    sized_comparisons,
)
from sparring.analysis.payoff import Interval, Payoff, Player, estimate_payoff, payoff_on_prompt
from sparring.analysis.win_rate import WinRate, measure_win_rate
from sparring.core.errors import DataError

RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Judged:
    """One prompt under one annotator: all players' responses together, K in number.

    `members` are for each player the places of its responses among the K, in the order of the players; `lengths` are
    the responses' characters. `aspects` has a value for each response, of which more is better.
    """

    prompt: str
    win: Float[np.ndarray, "k k"]
    members: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]
    aspects: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Versus:
    """One player against the baseline.

    `length_controlled` is None where the lengths cannot tell: of one prompt, or where every response differs from the
    baseline's by the same length, which might then be all there is to it.
    """

    win_rate: WinRate
    length_controlled: LengthControl | None


@dataclass(frozen=True, slots=True)
class Mean:
    """One aspect of one player, and its lead over the baseline on the same prompts, 0 for the baseline itself.

    A prompt counts once, whatever the number of its responses; the intervals are over prompts, and the difference's is
    that of paired differences. `prompts` are those on which the annotator reported the aspect, for all players.
    """

    value: float
    ci95: Interval
    difference: float
    difference_ci95: Interval
    prompts: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one annotator says of all players. `versus` has all but the baseline; `aspects` are by aspect, then player.

    Every interval resamples prompts; the players' responses are taken as given.
    """

    payoff: Payoff
    baseline: str
    versus: dict[str, Versus]
    aspects: dict[str, dict[str, Mean]]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
        return asdict(self)


def compare(judged: Sequence[Judged], players: list[Player], *, baseline: str, seed: int) -> Comparison:
    labels = [player.label for player in players]
    _check(judged, labels, baseline)
    base = labels.index(baseline)
    others = [place for place in range(len(labels)) if place != base]
    blocks = np.stack([payoff_on_prompt(each.win, each.members, None, best_of=False) for each in judged])
    controlled = _length_controlled({place: _against(judged, place, base) for place in others})
    return Comparison(
        payoff=estimate_payoff(blocks, players, seed=seed, resamples=RESAMPLES),
        baseline=baseline,
        versus={
            labels[place]: Versus(
                measure_win_rate([_block(each, place, base) for each in judged], seed=seed, resamples=RESAMPLES),
                controlled[place],
            )
            for place in others
        },
        aspects=_aspects(judged, labels, base, seed),
    )


def _check(judged: Sequence[Judged], labels: list[str], baseline: str) -> None:
    if baseline not in labels:
        raise DataError(f"the baseline {baseline!r} is none of the players: name one of {', '.join(labels)}.")
    if not judged:
        raise DataError("no prompt was judged, so there is nothing to compare: see the statuses of the judgements.")
    for each in judged:
        for label, places in zip(labels, each.members, strict=True):
            if not places:
                raise DataError(f"prompt {each.prompt} has no response of {label}: let every player answer it.")


# ---------------------------------------------------------------- against the baseline


def _block(judged: Judged, place: int, base: int) -> Float[np.ndarray, "player baseline"]:
    return judged.win[np.ix_(judged.members[place], judged.members[base])]


def _against(judged: Sequence[Judged], place: int, base: int) -> SizedComparisons:
    def lengths(player: int) -> list[list[int]]:
        return [[each.lengths[response] for response in each.members[player]] for each in judged]

    return sized_comparisons([_block(each, place, base) for each in judged], lengths(place), lengths(base))


def _length_controlled(comparisons: Mapping[int, SizedComparisons]) -> dict[int, LengthControl | None]:
    """Each player's, with difficulties from all other players' comparisons with the baseline, where there are others.

    As AlpacaEval has it (arXiv 2404.04475): difficulties are a property of prompts, by a joint regression of models
    that the measured one is not among. AlpacaEval's come from more than a hundred models, ours from those at hand, so
    that a rate depends on the company; a player that says the same as another is measured by its own noise. And there
    is no brief and verbose baseline to hold the length coefficient, which is unsure where nearly all responses differ
    from the baseline's in the same direction. For GPT-4's judgements of eleven models that mostly lose to AlpacaEval's
    baseline, rates were off the published ones by 9 points on average without others, by 5 with three and by 4 with
    ten.
    """
    tellable = {place: each for place, each in comparisons.items() if _lengths_tell(each)}

    def fitted(place: int) -> LengthControl:
        others = [each for other, each in tellable.items() if other != place]
        return fit_length_control(tellable[place], estimate_difficulty(others) if others else None)

    return {place: fitted(place) if place in tellable else None for place in comparisons}


def _lengths_tell(comparisons: SizedComparisons) -> bool:
    """Whether there are two prompts, and not one difference in length that all comparisons share."""
    differences = comparisons.model_length - comparisons.baseline_length
    return bool(comparisons.prompt.max() > 0 and (np.ptp(differences) > 0 or not differences.any()))


# ---------------------------------------------------------------- aspects


def _aspects(judged: Sequence[Judged], labels: list[str], base: int, seed: int) -> dict[str, dict[str, Mean]]:
    found: dict[str, dict[str, Mean]] = {}
    for name in dict.fromkeys(name for each in judged for name in each.aspects):
        reported = [each for each in judged if name in each.aspects]
        found[name] = dict(zip(labels, _means(reported, name, base, seed), strict=True))
    return found


def _means(judged: Sequence[Judged], aspect: str, base: int, seed: int) -> list[Mean]:
    """Of each player."""
    table = np.array(
        [[np.mean([each.aspects[aspect][place] for place in places]) for places in each.members] for each in judged]
    )
    count, players = table.shape
    both = np.hstack([table, table - table[:, [base]]])
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
    low, high = np.quantile(drawn @ both, [0.025, 0.975], axis=0)
    found = both.mean(axis=0).tolist()
    intervals = list(zip(low.tolist(), high.tolist(), strict=True))
    return [
        Mean(found[player], intervals[player], found[players + player], intervals[players + player], count)
        for player in range(players)
    ]
