"""Length-controlled win rate: what the win rate would be if both responses were equally long (arXiv 2404.04475).

    logit P(model beats baseline) = length * tanh(standardised difference) + difficulty * difficulty of prompt + quality

is fitted to the judgements, and averaged over prompts with the length term left out. The penalty is that of AlpacaEval
2: |coefficients|, and comparisons of the baseline with a brief and a verbose self, where there are any (`Anchor`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import expit, logit

from sparring.core.errors import DataError

# The inverse weight of |coefficients|. AlpacaEval cross-validates over ten values; every published fit that could be
# checked had this one or the next, 21.5, which moves win rates by 0.1 points. Without an anchor, and with 60 prompts
# instead of 805, cross-validation often takes the strongest penalty, which makes any win rate 1/2; so it is not done.
STRENGTH = 10 ** (4 / 9)


@dataclass(frozen=True, slots=True)
class SizedComparisons:
    """n comparisons with a baseline, of prompts counted from 0; `win` is P(model beats baseline).

    Lengths are in characters, as AlpacaEval counts them; any other unit does as well, if it is one for all.
    """

    prompt: Int[np.ndarray, " n"]
    win: Float[np.ndarray, " n"]
    model_length: Int[np.ndarray, " n"]
    baseline_length: Int[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Anchor:
    """Comparisons of the baseline with itself, told to be brief or verbose: they hold the length coefficient.

    `features` are tanh(standardised difference) and difficulty. Of the win probabilities the fit takes only their sums
    times the features, `win @ features`. `weight` is that of a row beside a prompt's: AlpacaEval has 0.2 / 2 models.
    """

    features: Float[np.ndarray, "rows 2"]
    win_sums: Float[np.ndarray, " 2"]
    weight: float = 0.1


@dataclass(frozen=True, slots=True)
class LengthControl:
    """`standard_error` and `ci95` are of `win_rate` over prompts, the fit included; AlpacaEval's leave the fit out.

    `length`, `difficulty` and `quality` are the coefficients. A negative `length` means that longer responses win. All
    else is as the module says; `raw_win_rate` is the mean of P itself, every prompt weighing the same.
    """

    win_rate: float
    standard_error: float
    ci95: tuple[float, float]
    raw_win_rate: float
    length: float
    difficulty: float
    quality: float
    prompts: int


def sized_comparisons(
    blocks: Iterable[Float[np.ndarray, "_ _"]],
    model_lengths: Iterable[Sequence[int]],
    baseline_lengths: Iterable[Sequence[int]],
) -> SizedComparisons:
    """From one block of a win matrix per prompt, as `cross_win_rate` cuts it, and the lengths of its two sides."""
    prompt, win, model, baseline = [], [], [], []
    for number, (block, ours, theirs) in enumerate(zip(blocks, model_lengths, baseline_lengths, strict=True)):
        if block.shape != (len(ours), len(theirs)) or not block.size:
            raise DataError(
                f"Prompt {number} has comparisons of shape {block.shape} for {len(ours)} responses and {len(theirs)} "
                "of the baseline: give at least one of each, and every comparison."
            )
        prompt += [number] * block.size
        win += block.ravel().tolist()
        model += np.repeat(ours, len(theirs)).tolist()
        baseline += np.tile(theirs, len(ours)).tolist()
    whole = partial(np.array, dtype=np.int64)
    return SizedComparisons(whole(prompt), np.array(win), whole(model), whole(baseline))


def fit_length_control(
    comparisons: SizedComparisons, difficulty: Float[np.ndarray, " prompts"] | None = None, anchor: Anchor | None = None
) -> LengthControl:
    """`difficulty` is AlpacaEval's published one or `estimate_difficulty` of others; None leaves the term out."""
    weights = _prompt_weights(comparisons)
    prompts = round(weights.sum())
    hard = np.zeros(prompts) if difficulty is None else difficulty
    if len(hard) != prompts:
        raise DataError(f"There are {len(hard)} difficulties for {prompts} prompts: give one for every prompt.")
    rows = np.stack([_length_feature(comparisons), hard[comparisons.prompt], np.ones(len(weights))], axis=1)
    problem = _Problem(rows, comparisons.win, weights, anchor or Anchor(np.zeros((0, 2)), np.zeros(2)))
    coefficients = _fitted(problem)
    alike = np.stack([np.zeros(prompts), hard, np.ones(prompts)], axis=1)  # the rows of responses of one length
    win_rate = float(expit(alike @ coefficients).mean())
    error = _standard_error(problem, comparisons.prompt, alike, coefficients)
    half_width = 1.96 * error / (win_rate * (1 - win_rate))  # in logits, so that the interval stays within 0 and 1
    low, high = expit(logit(win_rate) + np.array([-half_width, half_width]))
    length, of_difficulty, quality = map(float, coefficients)
    return LengthControl(
        win_rate=win_rate,
        standard_error=error,
        ci95=(float(low), float(high)),
        raw_win_rate=float(weights @ comparisons.win / prompts),
        length=length,
        difficulty=of_difficulty,
        quality=quality,
        prompts=prompts,
    )


def estimate_difficulty(others: Sequence[SizedComparisons]) -> Float[np.ndarray, " prompts"]:
    """How much likelier other models are to beat the baseline on each prompt, in logits around 0.

    As published, a joint regression of all models, each with a length and a quality coefficient of its own; that of the
    difficulties is 1, and they have a standard normal prior. Leave the model out that is to be measured: difficulties
    taken from its own judgements would explain their noise. Those of few models are not the published ones, which rest
    on more than a hundred, so do not compare win rates across the two.
    """
    counts = {round(_prompt_weights(one).sum()) for one in others}
    if len(counts) != 1:
        raise DataError("Difficulties need judgements of other models on one set of prompts: give at least one model.")
    prompts = counts.pop()
    owner = np.repeat(np.arange(len(others)), [len(one.win) for one in others])
    prompt = np.concatenate([one.prompt for one in others])
    weights = np.concatenate([_prompt_weights(one) for one in others])
    win = np.concatenate([one.win for one in others])
    feature = np.concatenate([_length_feature(one) for one in others])

    def loss(parameters: Float[np.ndarray, " p"]) -> tuple[float, Float[np.ndarray, " p"]]:
        length, quality, hard = np.split(parameters, [len(others), 2 * len(others)])
        logits = length[owner] * feature + quality[owner] + hard[prompt]
        residual = weights * (expit(logits) - win)
        gradient = np.concatenate(
            [
                np.bincount(owner, residual * feature, len(others)),
                np.bincount(owner, residual, len(others)),
                np.bincount(prompt, residual, prompts) + hard,
            ]
        )
        return float(weights @ (np.logaddexp(0, logits) - win * logits) + hard @ hard / 2), gradient

    fit = minimize(loss, np.zeros(2 * len(others) + prompts), jac=True, method="L-BFGS-B")
    return fit.x[2 * len(others) :]


def _prompt_weights(comparisons: SizedComparisons) -> Float[np.ndarray, " n"]:
    """1 over the number of comparisons that the prompt has."""
    if not ((comparisons.win >= 0) & (comparisons.win <= 1)).all():  # false for NaN too
        raise DataError("A comparison has a win probability outside [0, 1]: check the judgements it was read from.")
    per_prompt = np.bincount(comparisons.prompt)
    if len(per_prompt) < 2 or not per_prompt.all():
        raise DataError("Length control needs two prompts or more, each with a comparison: leave out those without.")
    return 1 / per_prompt[comparisons.prompt]


def _length_feature(comparisons: SizedComparisons) -> Float[np.ndarray, " n"]:
    shorter_by = (comparisons.baseline_length - comparisons.model_length).astype(float)
    spread = shorter_by.std(ddof=1)
    if spread == 0 and shorter_by.any():
        raise DataError(
            f"Every response differs from the baseline's by {abs(shorter_by[0]):.0f} in length, so length and quality "
            "cannot be told apart: give responses of different lengths."
        )
    return np.tanh(shorter_by / (spread or 1.0))


@dataclass(frozen=True, slots=True)
class _Problem:
    """A row is length feature, difficulty and 1; the baseline against itself has 0 for the last: it is no better."""

    rows: Float[np.ndarray, "n 3"]
    win: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"]
    anchor: Anchor

    @property
    def anchored(self) -> Float[np.ndarray, "rows 3"]:
        return np.pad(self.anchor.features, ((0, 0), (0, 1)))


def _fitted(problem: _Problem) -> Float[np.ndarray, " 3"]:
    """A coefficient is the difference of two numbers that are not negative, so that |coefficient| has a gradient."""
    rows, win, weights, anchor = problem.rows, problem.win, problem.weights, problem.anchor
    anchored, sums = problem.anchored, np.pad(anchor.win_sums, (0, 1))
    total = weights.sum()

    def loss(parts: Float[np.ndarray, " 6"]) -> tuple[float, Float[np.ndarray, " 6"]]:
        coefficients = parts[:3] - parts[3:]
        logits, anchored_logits = rows @ coefficients, anchored @ coefficients
        value = weights @ (np.logaddexp(0, logits) - win * logits)
        value += anchor.weight * (np.logaddexp(0, anchored_logits).sum() - sums @ coefficients)
        gradient = rows.T @ (weights * (expit(logits) - win))
        gradient += anchor.weight * (anchored.T @ expit(anchored_logits) - sums)
        both = np.concatenate([gradient, -gradient]) + 1 / STRENGTH
        return float(value + parts.sum() / STRENGTH) / total, both / total

    precise = {"ftol": 1e-14, "gtol": 1e-9}
    fit = minimize(loss, np.zeros(6), jac=True, method="L-BFGS-B", bounds=[(0, None)] * 6, options=precise)
    return fit.x[:3] - fit.x[3:]


def _standard_error(
    problem: _Problem,
    prompt: Int[np.ndarray, " n"],
    alike: Float[np.ndarray, "prompts 3"],
    coefficients: Float[np.ndarray, " 3"],
) -> float:
    """Of the mean win probability of `alike`, from each prompt's influence on that mean, directly and by the fit.

    The sandwich of an M-estimator with prompts as clusters, the anchor taken as fixed and the difficulties as known.
    """
    fitted, anchored = expit(problem.rows @ coefficients), expit(problem.anchored @ coefficients)
    curvature = (problem.rows.T * (problem.weights * fitted * (1 - fitted))) @ problem.rows
    curvature += problem.anchor.weight * (problem.anchored.T * (anchored * (1 - anchored))) @ problem.anchored
    scores = np.zeros(alike.shape)
    np.add.at(scores, prompt, (problem.weights * (problem.win - fitted))[:, None] * problem.rows)
    controlled = expit(alike @ coefficients)
    slope = (controlled * (1 - controlled)) @ alike
    # A column of zeros has no curvature, and its coefficient no say.
    by_fit = (scores - scores.mean(axis=0)) @ np.linalg.pinv(curvature, rcond=1e-10, hermitian=True) @ slope
    return float((controlled + by_fit).std(ddof=1) / np.sqrt(len(alike)))
