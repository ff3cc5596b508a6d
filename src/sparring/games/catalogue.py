"""Games to play: families with a known equilibrium, tables, and two that were measured.

Each function returns a `MatrixGame` and can be the target of a configuration node.
"""

import ast
import gzip
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sparring.core.errors import ConfigError, DataError
from sparring.core.jsonl import read_jsonl
from sparring.core.preference import bradley_terry as bradley_terry_matrix
from sparring.core.seeding import numpy_rng
from sparring.games.matrix import MatrixGame, checked_table

THROWS = 1000  # of rock, paper, scissors in one match between two bots
BOT_NOISE = 50.0  # points by which a match's two directions may differ: four standard errors, generously
VERDICTS = {1: 1.0, 2: 0.0, 3: 0.5}  # how much of the comparison the system shown first wins


def table(labels: Sequence[str], matrix: Sequence[Sequence[float]]) -> MatrixGame:
    """P(row beats column) as given."""
    where = "a game's matrix"
    return MatrixGame(tuple(labels), checked_table(numbers(matrix, where), labels, where))


def rock_paper_scissors(n: int = 3, strength: float = 0.5) -> MatrixGame:
    """On a circle of odd size every response beats the half before it with 1/2 + `strength`; Nash is uniform."""
    if n < 3 or n % 2 == 0:
        raise ConfigError(f"rock, paper, scissors with n={n} responses is no fair circle; give an odd n of at least 3.")
    if not 0 < strength <= 0.5:
        raise ConfigError(f"the strength of rock, paper, scissors is {strength}; it must be above 0 and at most 1/2.")
    ahead = (np.arange(n)[:, None] - np.arange(n)[None, :]) % n
    win = 0.5 + strength * np.select([ahead == 0, ahead <= n // 2], [0.0, 1.0], -1.0)
    labels = ("rock", "paper", "scissors") if n == 3 else _numbered(n)
    return MatrixGame(labels, win)


def random_skew(n: int, seed: int) -> MatrixGame:
    """Independent uniform probabilities above the diagonal: almost surely intransitive for large n."""
    upper = np.triu(numpy_rng("random_skew", n, seed).random((n, n)), 1)
    return MatrixGame(_numbered(n), upper + np.tril(1.0 - upper.T, -1) + np.eye(n) / 2.0)


def bradley_terry(scores: Sequence[float]) -> MatrixGame:
    """P(i beats j) = sigmoid(s_i - s_j): transitive, so the best response alone is the equilibrium."""
    return MatrixGame(_numbered(len(scores)), bradley_terry_matrix(np.asarray(scores, dtype=np.float64), 1.0))


def bots(path: str) -> MatrixGame:
    """Programs that play matches of 1000 throws of rock, paper, scissors, from lines `('a', 'b', points)`.

    `points` is a's mean lead over b at a match's end, throws won minus lost. P(a beats b) is the share of throws that a
    wins, a draw counting half: 1/2 + points / 2000. Both directions were measured apart; their mean is taken.
    """
    measured: dict[tuple[str, str], float] = {}
    for number, line in enumerate(_lines(Path(path)), start=1):
        try:
            one, other, points = ast.literal_eval(line)
            measured[str(one), str(other)] = float(points)
        except (ValueError, SyntaxError, TypeError) as error:
            raise DataError(f"{path}, line {number}, is not ('bot', 'bot', points); correct the line.") from error
    labels = tuple(sorted({one for one, _ in measured}))
    if len(measured) != len(labels) ** 2:
        raise DataError(f"{path} has {len(measured)} matches of {len(labels)} bots; give every bot against every one.")
    lead = np.array([[measured.get((one, other), np.nan) for other in labels] for one in labels])
    gap = np.abs(lead + lead.T)
    if not gap.max() <= BOT_NOISE:
        i, j = np.unravel_index(gap.argmax(), gap.shape)
        raise DataError(
            f"{path} gives {labels[i]} {lead[i, j]:g} points against {labels[j]} and {lead[j, i]:g} the other way, "
            "which is more than noise; measure that match again."
        )
    return MatrixGame(labels, 0.5 + (lead - lead.T) / (4.0 * THROWS))


def judged_systems(path: str) -> MatrixGame:
    """Systems compared by a judge, from JSON lines {first, second, score}: 1 first better, 2 second, 3 tie, -1 unread.

    P(a beats b) is the mean over questions, a tie counting half, of the verdicts with a first and those with b first;
    the two orders weigh the same, so a judge's preference for a position cancels.
    """
    verdicts: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for number, row in enumerate(read_jsonl(Path(path)), start=1):
        try:
            if row["score"] in VERDICTS:
                verdicts[row["first"], row["second"]].append(VERDICTS[row["score"]])
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}, row {number}, needs the keys first, second and score; add them.") from error
    labels = tuple(sorted({name for pair in verdicts for name in pair}))
    win = np.full((len(labels), len(labels)), 0.5)
    for i, one in enumerate(labels):
        for j, other in enumerate(labels):
            if i != j:
                for pair in ((one, other), (other, one)):
                    if pair not in verdicts:
                        raise DataError(f"{path} never shows {pair[0]} before {pair[1]}; judge both orders.")
                win[i, j] = (np.mean(verdicts[one, other]) + 1.0 - np.mean(verdicts[other, one])) / 2.0
    return MatrixGame(labels, win)


def numbers(values: object, where: str) -> Float[np.ndarray, "..."]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is not a table of numbers ({error}); give rows of equal length.") from error


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(f"action{i}" for i in range(n))


def _lines(path: Path) -> list[str]:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
            return [line for line in file if line.strip()]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); check the path.") from error
