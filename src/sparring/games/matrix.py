"""Preference games with known answers: finitely many responses, P(row beats column), and the exact solution.

The algorithms are DNO's (arXiv 2404.03715) and SPPO's (2405.00675), without model, samples or gradients. What policies
learn is measured against them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog, minimize
from scipy.special import expit, log_expit

from sparring.core.errors import ConfigError, DataError, SparringError
from sparring.core.preference import TOLERANCE

Mixture = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class MatrixGame:
    """A symmetric game of sum 1 between two players who name one of `labels`; `win[i, j]` is P(i beats j).

    Rounding is mended: `win + win.T` is 1 to the last bit. A table that is no game is refused.
    """

    labels: tuple[str, ...]
    win: Float[np.ndarray, "..."]  # n x n, which is checked

    def __post_init__(self) -> None:
        object.__setattr__(self, "win", checked_table(self.win, self.labels, "a matrix game"))

    def win_rates(self, mixture: Mixture) -> Mixture:
        """P(each response beats one drawn from `mixture`)."""
        return self.win @ mixture

    def exploitability(self, mixture: Mixture) -> float:
        """The duality gap, max P(pi beats mixture) - min P(mixture beats pi): 0 at a Nash equilibrium, at most 1."""
        return max(0.0, 2.0 * float(self.win_rates(mixture).max()) - 1.0)

    def nash(self) -> Mixture:
        """A mixture that no response beats: the vertex of the linear program at which the dual simplex method ends.

        Where there are several equilibria it is one of them, always the same.
        """
        n = len(self.win)
        solution = linprog(
            np.append(np.zeros(n), -1.0),  # the least win rate, to be raised
            A_ub=np.column_stack([-self.win.T, np.ones(n)]),
            b_ub=np.zeros(n),
            A_eq=np.append(np.ones(n), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0.0, None)] * n + [(None, None)],
            method="highs-ds",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
        if not solution.success:
            raise SparringError(f"the linear program of a game with {n} responses was not solved: {solution.message}")
        mixture = np.clip(solution.x[:n], 0.0, None)
        return mixture / mixture.sum()

    def update(self, policy: Mixture, *, step: float, anchor: float = 0.0, initial: Mixture | None = None) -> Mixture:
        """policy^(1 - anchor) * initial^anchor * exp(step * win rate against policy) / Z.

        One exact round of DNO (step = 1 / eta) and of SPPO (step = eta); with an `anchor` of tau / eta, of DNO's
        regularised variant (arXiv 2404.03715, appendix A).
        """
        return _normalised(_base(policy, anchor, initial) + step * self.win_rates(policy))

    def hard_label_update(self, policy: Mixture, *, step: float) -> Mixture:
        """What cross-entropy on single draws of P, not filtered, converges to: policy * exp(step * s) / Z.

        s are the scores of the Bradley-Terry model that fits `win` best where both responses come from `policy`; they
        are not the win rates, so this is another update. Entries of 0 or 1 have no finite scores and are refused.
        """
        if not self.interior:
            raise ConfigError("a game with a certain winner has no finite hard-label update; soften its entries.")
        weight = np.outer(policy, policy)

        def loss(scores: Mixture) -> tuple[float, Mixture]:
            gaps = scores[:, None] - scores[None, :]
            return -float((weight * self.win * log_expit(gaps)).sum()), (weight * (expit(gaps) - self.win)).sum(axis=1)

        scores = minimize(loss, np.zeros(len(policy)), jac=True, method="BFGS", options={"gtol": 1e-12}).x
        return _normalised(_base(policy, 0.0, None) + step * scores)

    @property
    def interior(self) -> bool:
        """Whether every response has a chance against every other, so that log-odds are finite."""
        return bool(((self.win > 0) & (self.win < 1)).all())


def self_play(
    game: MatrixGame, initial: Mixture, *, rounds: int, step: float, anchor: float = 0.0
) -> Float[np.ndarray, "rounds_and_1 n"]:
    """The policies of `rounds` exact updates, `initial` first."""
    policies = [initial]
    for _ in range(rounds):
        policies.append(game.update(policies[-1], step=step, anchor=anchor, initial=initial))
    return np.stack(policies)


def average_bound(initial: Mixture, *, step: float, rounds: int) -> float:
    """What theory promises of the average of `rounds` policies of exact updates: its exploitability is at most this.

    Regret of multiplicative weights, twice, for payoffs in [0, 1] (Freund and Schapire 1999, Theorem 1; Theorem 4.1 of
    arXiv 2405.00675). At step = c / sqrt(rounds) it falls with 1 / sqrt(rounds).
    """
    return float(2.0 * (-np.log(initial.min()) / (step * rounds) + step / 8.0))


def total_variation(one: Mixture, other: Mixture) -> float:
    return float(np.abs(one - other).sum() / 2.0)


def checked_table(table: Float[np.ndarray, "..."], labels: Sequence[str], where: str) -> Float[np.ndarray, "n n"]:
    """`table` with `table + table.T == 1` to the last bit."""
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not len(table):
        raise DataError(f"{where} has shape {table.shape}; a payoff table is square.")
    if len(labels) != len(table):
        raise ConfigError(f"{where} has {len(table)} rows and {len(labels)} labels; give one label per row.")
    if len({label.strip() for label in labels}) != len(labels):
        raise ConfigError(f"The labels of {where} are not unique when stripped; name every row once.")
    if not ((table >= 0) & (table <= 1)).all():  # false for NaN too
        raise DataError(f"{where} has entries outside [0, 1]; entries are probabilities that the row wins.")
    gaps = np.abs(table + table.T - 1)
    if gaps.max() > TOLERANCE:
        i, j = np.unravel_index(gaps.argmax(), gaps.shape)
        raise DataError(
            f"{where} is not complementary: row {i + 1} beats {j + 1} with {table[i, j]:g} and is beaten with "
            f"{table[j, i]:g}; the two must add up to 1, and a row ties with itself."
        )
    return (table + 1 - table.T) / 2


def _base(policy: Mixture, anchor: float, initial: Mixture | None) -> Mixture:
    """Logarithm of the geometric mixture; -inf where a response is never given."""
    with np.errstate(divide="ignore"):
        if not anchor:
            return np.log(policy)
        if initial is None:
            raise ConfigError(f"the anchor is {anchor}, which draws towards an initial policy; give one.")
        return (1.0 - anchor) * np.log(policy) + anchor * np.log(initial)


def _normalised(logits: Mixture) -> Mixture:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()
