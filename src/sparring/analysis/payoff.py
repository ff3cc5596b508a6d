"""The game between a run's policies: payoff matrix, Nash mixture, exploitability, cycles, and improvement by the round.

The matrix estimates P(row beats column) on a fresh prompt; prompts are drawn anew by the bootstrap, the policies'
answers to them are not. All else is computed from it, and so is about these players only: a policy's exploitability is
a lower bound of its exploitability by any policy, and the more players (a teacher, best-of-n), the closer the bound.
Being a maximum over noisy entries, an exploitability near 0 is estimated too high; that of the Nash mixture, which is
chosen on the same prompts, is 0 among its own players by construction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse.csgraph import connected_components

from sparring.core.errors import DataError
from sparring.core.preference import TOLERANCE
from sparring.games.matrix import MatrixGame

Kind = Literal["round", "teacher", "best_of", "other"]
Group = Literal["rounds", "all"]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Player:
    """`rounds` is how many rounds of training the policy has seen, 0 for the base; None where that is not known."""

    label: str
    kind: Kind
    rounds: int | None


@dataclass(frozen=True, slots=True)
class Nash:
    """A Nash mixture and how far its weights move with the prompts. Where several exist it is one of them."""

    weights: dict[str, float]
    ci95: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Exploitability:
    """2 max_i P(i beats the policy) - 1: 0 where no player beats it, 1 where one always does (the duality gap)."""

    value: float
    ci95: Interval
    best_response: str


@dataclass(frozen=True, slots=True)
class Mixture:
    """A policy that draws one of the rounds' policies per response. Its payoffs follow from theirs by bilinearity."""

    weights: dict[str, float]
    win: list[float]  # P(mixture beats player)
    win_ci95: list[Interval]
    exploitability: dict[Group, Exploitability]


@dataclass(frozen=True, slots=True)
class Cycles:
    """Who beats whom in circles. `components` are sets of players that all beat each other over some way around.

    `triangles` are all circles of three, each with the probability of its weakest link.
    """

    components: list[list[str]]
    triangles: list[tuple[list[str], float]]


@dataclass(frozen=True, slots=True)
class Step:
    """A round's policy against the previous one: P(it beats the one before), above 1/2 where the round improved it."""

    round: int
    win: float
    ci95: Interval


@dataclass(frozen=True, slots=True)
class Payoff:
    """Matrices in the order of `players`. Intervals are 95 % percentile intervals over prompts.

    Equilibria and exploiters are sought among "all" players and among the "rounds" alone, for a teacher that beats
    every policy would hide how they stand to each other. `mixtures` are over the rounds, because those can be sampled:
    "uniform", what no-regret theory is about, and "nash", the equilibrium among them. Where no player is a round's
    policy, there are neither "rounds" nor mixtures. `cycles` are found twice: by the entries above 1/2 ("point"), and
    by those whose interval is ("significant"; not corrected for looking at many). `improvement` is of rounds that
    follow each other.
    """

    players: list[Player]
    prompts: int
    win: list[list[float]]
    ci95_low: list[list[float]]
    ci95_high: list[list[float]]
    nash: dict[Group, Nash]
    exploitability: dict[Group, dict[str, Exploitability]]
    mixtures: dict[str, Mixture]
    cycles: dict[str, Cycles]
    improvement: list[Step]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
        return asdict(self)


# ---------------------------------------------------------------- one prompt


def players_of(rounds: int, *, teacher: bool, best_of: int) -> list[Player]:
    """Rows of `payoff_on_prompt`: the base policy, one policy per round, the teacher, the best of `best_of` of each."""
    policies = [Player("base" if n == 0 else f"round {n - 1}", "round", n) for n in range(rounds + 1)]
    best = [Player(f"best of {best_of}, {p.label}", "best_of", p.rounds) for p in policies] if best_of > 1 else []
    return [*policies, *([Player("teacher", "teacher", None)] if teacher else []), *best]


def payoff_on_prompt(
    win: Float[np.ndarray, "k k"], samples: Sequence[Sequence[int]], teacher: int | None, *, best_of: bool
) -> Float[np.ndarray, "players players"]:
    """One prompt's payoffs between policies whose samples stand at `samples` among the K judged candidates.

    Best-of-n shares its judge with the measurement, as a best response to that judge must, but not its samples: each
    policy's samples are halved, a half's best is the one that wins most against that half of all policies, and it is
    measured against the other half. So n is half the number of samples, and nobody is praised for luck.
    """
    whole = _draws(samples, teacher, len(win))
    payoff = whole @ win @ whole.T
    if not best_of:
        return payoff
    half = min(len(members) for members in samples) // 2
    if not half:
        raise DataError(
            "Best-of-n needs two samples of every policy to halve; raise callbacks.win_rate.samples_per_prompt."
        )
    first, second = (
        np.vstack([_draws(part, teacher, len(win)), _best(win, part)])
        for part in ([m[:half] for m in samples], [m[half : 2 * half] for m in samples])
    )
    across = first @ win @ second.T
    crossed = (across + 1 - across.T) / 2  # the mean of "first against second" and "second against first"
    crossed[: len(payoff), : len(payoff)] = payoff  # plain policies need no halves
    return crossed


def _draws(samples: Sequence[Sequence[int]], teacher: int | None, k: int) -> Float[np.ndarray, "players k"]:
    """Each player as a distribution over the candidates."""
    members = [*samples, *([] if teacher is None else [[teacher]])]
    rows = np.zeros((len(members), k))
    for row, places in zip(rows, members, strict=True):
        row[list(places)] = 1 / len(places)
    return rows


def _best(win: Float[np.ndarray, "k k"], samples: Sequence[Sequence[int]]) -> Float[np.ndarray, "policies k"]:
    """Each policy's sample that wins most against all others of `samples`."""
    pool = [place for members in samples for place in members]
    rates = win[:, pool].sum(axis=1)  # own comparison, 1/2, is the same for all of them
    rows = np.zeros((len(samples), len(win)))
    for row, members in zip(rows, samples, strict=True):
        row[members[int(np.argmax(rates[list(members)]))]] = 1.0
    return rows


# ---------------------------------------------------------------- all prompts


def estimate_payoff(
    blocks: Float[np.ndarray, "prompts players players"],
    players: list[Player],
    *,
    seed: int,
    resamples: int = 2_000,
    nash_resamples: int = 200,
) -> Payoff:
    """Means over prompts and what follows from them. `nash_resamples` is less because each costs a linear programme."""
    count, size = len(blocks), len(players)
    if not count or blocks.shape[1:] != (size, size):
        raise DataError(f"{count} prompts with payoffs {blocks.shape[1:]} do not fit {size} players: judge them again.")
    win = blocks.mean(axis=0)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples) / count
    resampled = (drawn @ blocks.reshape(count, -1)).reshape(-1, size, size)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    game = _Game([player.label for player in players], win, resampled)
    rounds = [place for place, player in enumerate(players) if player.kind == "round"]
    groups: dict[Group, list[int]] = {"rounds": rounds, "all": list(range(size))}
    if not rounds:
        del groups["rounds"]
    nash: dict[Group, Nash] = {name: game.nash(members, nash_resamples) for name, members in groups.items()}
    played: dict[str, Float[np.ndarray, " rounds"]] = {}
    if rounds:
        played["uniform"] = np.full(len(rounds), 1 / len(rounds))
        played["nash"] = np.array(list(nash["rounds"].weights.values()))
    return Payoff(
        players=players,
        prompts=count,
        win=win.tolist(),
        ci95_low=low.tolist(),
        ci95_high=high.tolist(),
        nash=nash,
        exploitability={
            name: {label: game.exploitability(row, by) for label, row in zip(game.labels, np.eye(size), strict=True)}
            for name, by in groups.items()
        },
        mixtures={name: game.mixture(weights, rounds, groups) for name, weights in played.items()},
        cycles={
            "point": find_cycles(win > 0.5 + TOLERANCE, win, game.labels),
            "significant": find_cycles(low > 0.5 + TOLERANCE, win, game.labels),
        },
        improvement=[
            Step(number, float(win[after, before]), (float(low[after, before]), float(high[after, before])))
            for before, after in pairwise(rounds)
            if (number := players[before].rounds) is not None and players[after].rounds == number + 1
        ],
    )


@dataclass(frozen=True, slots=True)
class _Game:
    """The matrix and its resamples."""

    labels: list[str]
    win: Float[np.ndarray, "n n"]
    resampled: Float[np.ndarray, "resamples n n"]

    def nash(self, members: list[int], resamples: int) -> Nash:
        labels = tuple(self.labels[member] for member in members)
        inside = np.ix_(members, members)

        def solve(win: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " members"]:
            return MatrixGame(labels, win[inside].clip(0.0, 1.0)).nash()  # a mean of ones can be a hair above 1

        moved = np.array([solve(each) for each in self.resampled[:resamples]])
        return Nash(
            dict(zip(labels, solve(self.win).tolist(), strict=True)), dict(zip(labels, _intervals(moved), strict=True))
        )

    def exploitability(self, row: Float[np.ndarray, " n"], by: list[int]) -> Exploitability:
        """Of the mixture `row` over all players, by `by` or itself; the interval takes the mixture as given."""
        against = (self.win @ row)[by]
        highest = (self.resampled @ row)[:, by].max(axis=1)
        [interval] = _intervals((2 * highest - 1).clip(min=0.0)[:, None])
        best = self.labels[by[int(against.argmax())]]
        return Exploitability(max(0.0, float(2 * against.max() - 1)), interval, best)

    def mixture(
        self, weights: Float[np.ndarray, " rounds"], rounds: list[int], groups: Mapping[Group, list[int]]
    ) -> Mixture:
        row = np.zeros(len(self.labels))
        row[rounds] = weights
        return Mixture(
            weights={self.labels[place]: float(weight) for place, weight in zip(rounds, weights, strict=True)},
            win=(row @ self.win).tolist(),
            win_ci95=_intervals(row @ self.resampled),
            exploitability={name: self.exploitability(row, by) for name, by in groups.items()},
        )


def find_cycles(beats: Bool[np.ndarray, "n n"], win: Float[np.ndarray, "n n"], labels: Sequence[str]) -> Cycles:
    count, component = connected_components(beats, directed=True, connection="strong")
    members = [np.flatnonzero(component == number).tolist() for number in range(count)]
    around = beats[:, :, None] & beats[None, :, :] & beats.T[:, None, :]  # i beats j, j beats k, k beats i
    triangles = [
        ([labels[i], labels[j], labels[k]], float(min(win[i, j], win[j, k], win[k, i])))
        for i, j, k in np.argwhere(around).tolist()
        if i == min(i, j, k)  # each circle once, from its first player
    ]
    return Cycles(
        components=[[labels[i] for i in group] for group in members if len(group) > 1],
        triangles=sorted(triangles, key=lambda triangle: -triangle[1]),
    )


def _intervals(resampled: Float[np.ndarray, "resamples n"]) -> list[Interval]:
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))
