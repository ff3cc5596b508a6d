import csv
import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from sparring.analysis.length_control import (
    STRENGTH,
    Anchor,
    SizedComparisons,
    estimate_difficulty,
    fit_length_control,
    sized_comparisons,
)
from sparring.analysis.win_rate import cross_win_rate
from sparring.core.errors import DataError


def comparisons(win, shorter_by, prompt=None):
    """Responses of 1000 characters and less against a baseline of 1000."""
    count = len(win)
    baseline = np.full(count, 1000)
    return SizedComparisons(
        np.arange(count) if prompt is None else prompt, np.asarray(win, dtype=float), baseline - shorter_by, baseline
    )


def feature(shorter_by):
    return np.tanh(shorter_by / shorter_by.std(ddof=1))


def drawn(seed, count=400):
    """Differences in length, mostly to the baseline's advantage, and difficulties."""
    rng = np.random.default_rng(seed)
    return rng.integers(-300, 700, size=count), rng.normal(size=count)


def test_a_judge_that_likes_nothing_but_length_gives_one_half():
    shorter_by, _ = drawn(0)
    measured = fit_length_control(comparisons(expit(-2.0 * feature(shorter_by)), shorter_by))
    assert measured.raw_win_rate < 0.35
    assert measured.win_rate == pytest.approx(0.5, abs=0.005)
    assert measured.ci95[0] < 0.5 < measured.ci95[1]


def test_a_judge_that_always_takes_the_longer_response_gives_one_half_within_its_interval():
    shorter_by, _ = drawn(1)
    measured = fit_length_control(comparisons(shorter_by < 0, shorter_by))
    assert measured.raw_win_rate == pytest.approx(0.3, abs=0.05)
    assert measured.ci95[0] < 0.5 < measured.ci95[1]


def test_coefficients_and_win_rate_are_those_that_made_the_judgements():
    shorter_by, difficulty = drawn(2, count=4000)
    win = expit(-1.5 * feature(shorter_by) + 0.8 * difficulty + 0.4)
    measured = fit_length_control(comparisons(win, shorter_by), difficulty)
    assert (measured.length, measured.difficulty, measured.quality) == pytest.approx((-1.5, 0.8, 0.4), abs=0.005)
    assert measured.win_rate == pytest.approx(expit(0.8 * difficulty + 0.4).mean(), abs=1e-3)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.booleans())
@settings(max_examples=30, deadline=None)
def test_without_a_difference_in_length_the_raw_win_rate_is_left_but_for_the_penalty(win, hard):
    # The quality coefficient is at a stationary point: what is left of the residuals is at most the penalty's slope.
    difficulty = np.linspace(-1, 1, len(win)) if hard else None
    measured = fit_length_control(comparisons(win, np.zeros(len(win), dtype=int)), difficulty)
    assert measured.length == 0
    assert abs(measured.win_rate - np.mean(win)) <= 1 / (STRENGTH * len(win)) + 1e-6


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_other_side_has_the_rest(seed):
    shorter_by, difficulty = drawn(seed, count=60)
    win = np.random.default_rng(seed).random(60)
    ours = fit_length_control(comparisons(win, shorter_by), difficulty)
    swapped = SizedComparisons(np.arange(60), 1 - win, np.full(60, 1000), 1000 - shorter_by)
    theirs = fit_length_control(swapped, -difficulty)
    assert ours.win_rate + theirs.win_rate == pytest.approx(1, abs=1e-4)
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=1e-2)


def test_lengths_in_another_unit_make_no_difference():
    shorter_by, difficulty = drawn(3)
    win = np.random.default_rng(3).random(400)
    one = comparisons(win, shorter_by)
    other = SizedComparisons(one.prompt, win, one.model_length * 7, one.baseline_length * 7)
    measured, again = fit_length_control(one, difficulty), fit_length_control(other, difficulty)
    assert (measured.win_rate, measured.length) == pytest.approx((again.win_rate, again.length))


def test_a_prompt_weighs_the_same_whatever_its_number_of_comparisons():
    shorter_by, difficulty = drawn(4, count=100)
    win = np.random.default_rng(4).random(100)
    once = fit_length_control(comparisons(win, shorter_by), difficulty)
    twice = np.repeat(np.arange(100), 2)
    repeated = fit_length_control(comparisons(win[twice], shorter_by[twice], twice), difficulty)
    # Not to the last digit: the spread of lengths divides by one less than the number of comparisons.
    assert repeated.win_rate == pytest.approx(once.win_rate, abs=1e-3)
    assert repeated.standard_error == pytest.approx(once.standard_error, rel=0.02)
    assert (repeated.prompts, repeated.raw_win_rate) == (100, pytest.approx(win.mean()))


def test_the_standard_error_is_that_of_a_bootstrap_over_prompts_which_is_more_than_the_fitted_preferences_show():
    shorter_by, difficulty = drawn(5)
    win = np.random.default_rng(5).random(400) < expit(-feature(shorter_by) + difficulty + 0.5)
    measured = fit_length_control(comparisons(win, shorter_by), difficulty)
    rng = np.random.default_rng(6)
    draws = (rng.integers(400, size=400) for _ in range(200))
    resampled = [fit_length_control(comparisons(win[i], shorter_by[i]), difficulty[i]).win_rate for i in draws]
    assert measured.standard_error == pytest.approx(np.std(resampled), rel=0.15)
    fitted = expit(measured.difficulty * difficulty + measured.quality)
    assert measured.standard_error > 1.5 * fitted.std() / np.sqrt(400)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        shorter_by, difficulty = drawn(seed, count=150)
        win = np.random.default_rng(seed).random(150) < expit(-feature(shorter_by) + difficulty + 0.5)
        low, high = fit_length_control(comparisons(win, shorter_by), difficulty).ci95
        covered += low < 0.5951 < high  # E expit(N(0.5, 1)), by quadrature
    assert 0.91 <= covered / 200 <= 0.99


def test_an_anchor_holds_the_length_coefficient():
    shorter_by, _ = drawn(7, count=50)
    judged = comparisons(expit(-2.0 * feature(shorter_by)), shorter_by)
    lengths = np.linspace(-1, 1, 2000)
    unmoved = Anchor(np.stack([lengths, np.zeros(2000)], axis=1), np.array([0.0, 0.0]))  # the judge ignores length
    assert fit_length_control(judged).length == pytest.approx(-2, abs=0.2)
    assert fit_length_control(judged, anchor=unmoved).length == pytest.approx(-0.4, abs=0.2)


def test_comparisons_are_read_from_blocks_of_win_matrices():
    win = np.array([[0.5, 0.7, 0.9], [0.3, 0.5, 0.6], [0.1, 0.4, 0.5]])
    read = sized_comparisons([cross_win_rate(win, 2), cross_win_rate(win, 1)], [[10, 20], [10]], [[30], [20, 30]])
    assert read.prompt.tolist() == [0, 0, 1, 1]
    assert read.win.tolist() == [0.9, 0.6, 0.7, 0.9]
    assert read.model_length.tolist() == [10, 20, 10, 10]
    assert read.baseline_length.tolist() == [30, 30, 20, 30]


def test_difficulties_of_other_models_stand_in_for_published_ones():
    rng = np.random.default_rng(8)
    difficulty = rng.normal(size=300)

    def model(quality, length):
        shorter_by = rng.integers(-300, 700, size=300)
        return comparisons(expit(length * feature(shorter_by) + difficulty + quality), shorter_by)

    measured, *others = (model(quality, length) for quality, length in [(0.5, -1.0), (-1.0, -2.0), (0.0, -1.0)])
    estimated = estimate_difficulty(others)
    assert np.corrcoef(estimated, difficulty)[0, 1] > 0.95
    known, found = fit_length_control(measured, difficulty), fit_length_control(measured, estimated)
    assert found.win_rate == pytest.approx(known.win_rate, abs=0.005)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda: fit_length_control(comparisons([0.5, np.nan], np.array([1, 2]))), r"outside \[0, 1\]"),
        (lambda: fit_length_control(comparisons([0.5], np.array([1]))), "two prompts or more"),
        (lambda: fit_length_control(comparisons([0.1, 0.5], np.array([1, 2]), np.array([0, 2]))), "two prompts or"),
        (lambda: fit_length_control(comparisons([0.1, 0.5], np.array([9, 9]))), "by 9 in length, so length and"),
        (lambda: fit_length_control(comparisons([0.1, 0.5], np.array([1, 2])), np.zeros(3)), "3 difficulties for 2"),
        (lambda: estimate_difficulty([]), "one set of prompts"),
        (lambda: sized_comparisons([np.zeros((0, 1))], [[]], [[3]]), r"Prompt 0 has comparisons of shape \(0, 1\)"),
    ],
)
def test_what_cannot_be_controlled_is_said_in_a_sentence(broken, sentence):
    with pytest.raises(DataError, match=sentence):
        broken()


def rows(path):
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def published(shared):
    """AlpacaEval 2's leaderboard, what GPT-4 said of each model, the difficulties, and the anchor."""
    data = shared / "data" / "alpaca_eval"
    leaderboard = {row[""]: row for row in rows(data / "leaderboard_dev_models.csv")}
    difficulty = np.array([float(row["instruction_difficulty"]) for row in rows(data / "instruction_difficulty.csv")])
    verdicts: dict[str, list[tuple[int, float, int, int]]] = {name: [] for name in leaderboard}
    for row in rows(data / "gpt4_turbo_annotations_compact.csv.gz"):
        preference = float(row["preference"])
        win = 0.5 if preference == 0 else preference - 1
        verdicts[row["model"]].append((int(row["row"]), win, int(row["len_model"]), int(row["len_reference"])))
    features = [
        (np.tanh(float(row["std_delta_len"])), float(row["instruction_difficulty"]))
        for row in rows(data / "gamed_baseline_features.csv.gz")
    ]
    regulariser = json.loads((data / "lc_regulariser.json").read_text())
    anchor = Anchor(
        np.array(features),
        np.array(list(regulariser["label_sufficient_statistics"].values())),
        regulariser["per_row_weight"],
    )
    return leaderboard, verdicts, difficulty, anchor


def judgements(verdicts):
    """Also the rows of the evaluation set that they are of."""
    place, win, model, baseline = (np.array(column) for column in zip(*verdicts, strict=True))
    return place, SizedComparisons(np.arange(len(place)), win, model, baseline)


def test_win_rates_of_alpaca_eval_are_the_published_ones(published):
    leaderboard, verdicts, difficulty, anchor = published
    assert len(leaderboard) == 12
    for name, row in leaderboard.items():
        place, judged = judgements(verdicts[name])
        measured = fit_length_control(judged, difficulty[place], anchor)
        assert 100 * measured.raw_win_rate == pytest.approx(float(row["win_rate"]), abs=1e-6)
        assert 100 * measured.win_rate == pytest.approx(float(row["length_controlled_winrate"]), abs=0.2), name


def test_the_published_standard_error_is_that_of_the_fitted_preferences_alone(published):
    leaderboard, verdicts, difficulty, anchor = published
    [(name, row)] = [(name, row) for name, row in leaderboard.items() if row["lc_standard_error"]]
    place, judged = judgements(verdicts[name])
    measured = fit_length_control(judged, difficulty, anchor)
    fitted = expit(measured.difficulty * difficulty + measured.quality)
    alone = float(row["lc_standard_error"]) / 100
    assert fitted.std(ddof=1) / np.sqrt(len(place)) == pytest.approx(alone, rel=0.01)
    assert measured.standard_error > 2 * alone


def test_difficulties_of_eleven_models_come_near_the_published_ones(published):
    _, verdicts, difficulty, _ = published
    complete = [judgements(said)[1] for said in verdicts.values() if len(said) == len(difficulty)]
    assert len(complete) == 11
    assert np.corrcoef(estimate_difficulty(complete), difficulty)[0, 1] > 0.8
