from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.analysis.payoff import Player, estimate_payoff, find_cycles, payoff_on_prompt, players_of
from sparring.core.errors import DataError
from sparring.core.preference import check_win_matrix

ROCK = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]])

# P(row beats column), judged by PairRM: figure 3 of arXiv 2405.00675, whose order is kept.
SYSTEMS = ["IPO3", "SPPO3", "Snorkel", "DPO3", "SPPO2", "IPO2", "DPO2", "SPPO1", "DPO1", "IPO1", "base"]
PUBLISHED = np.array(
    [
        [0.500, 0.552, 0.572, 0.577, 0.631, 0.656, 0.664, 0.719, 0.713, 0.741, 0.809],
        [0.448, 0.500, 0.520, 0.523, 0.577, 0.601, 0.627, 0.676, 0.682, 0.706, 0.781],
        [0.428, 0.480, 0.500, 0.496, 0.568, 0.580, 0.609, 0.659, 0.652, 0.673, 0.758],
        [0.423, 0.477, 0.504, 0.500, 0.552, 0.577, 0.608, 0.636, 0.631, 0.667, 0.750],
        [0.369, 0.423, 0.432, 0.448, 0.500, 0.517, 0.551, 0.595, 0.598, 0.631, 0.722],
        [0.344, 0.399, 0.420, 0.423, 0.483, 0.500, 0.530, 0.574, 0.577, 0.613, 0.707],
        [0.336, 0.373, 0.391, 0.392, 0.449, 0.470, 0.500, 0.550, 0.562, 0.587, 0.670],
        [0.281, 0.324, 0.341, 0.364, 0.405, 0.426, 0.450, 0.500, 0.514, 0.540, 0.651],
        [0.287, 0.318, 0.348, 0.369, 0.402, 0.423, 0.438, 0.486, 0.500, 0.526, 0.633],
        [0.259, 0.294, 0.327, 0.333, 0.369, 0.387, 0.413, 0.460, 0.474, 0.500, 0.613],
        [0.191, 0.219, 0.242, 0.250, 0.278, 0.293, 0.330, 0.349, 0.367, 0.387, 0.500],
    ]
)


def named(labels):
    return [Player(label, "round", number) for number, label in enumerate(labels)]


def estimate(win, prompts=4, **changes):
    """The payoff of prompts that are all alike."""
    blocks = np.repeat(np.asarray(win)[None], prompts, axis=0)
    return estimate_payoff(blocks, named(map(str, range(len(win)))), seed=0, resamples=50, nash_resamples=5, **changes)


@st.composite
def judged_prompts(draw):
    """A win matrix over the samples of some policies and perhaps a teacher's answer, and where they stand."""
    policies, samples = draw(st.integers(2, 4)), draw(st.integers(2, 5))
    teacher = draw(st.booleans())
    size = policies * samples + teacher
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    upper = np.triu(rng.integers(0, 7, (size, size)) / 6, 1)
    win = upper + np.tril(1 - upper.T, -1) + np.eye(size) / 2
    members = [list(range(start, start + samples)) for start in range(0, policies * samples, samples)]
    return win, members, size - 1 if teacher else None


# ---------------------------------------------------------------- one prompt


@given(judged_prompts(), st.booleans())
def test_the_payoffs_of_a_prompt_are_a_win_matrix_again(case, best_of):
    win, members, teacher = case
    payoff = payoff_on_prompt(win, members, teacher, best_of=best_of)
    assert len(payoff) == len(members) * (1 + best_of) + (teacher is not None)
    check_win_matrix(payoff)


@given(judged_prompts(), st.integers(0, 2**32 - 1))
def test_payoffs_are_bilinear(case, seed):
    win, members, _ = case
    payoff = payoff_on_prompt(win, members, None, best_of=False)
    one, other = np.random.default_rng(seed).dirichlet(np.ones(len(members)), size=2)
    each = [w / len(m) for w, m in zip(one, members, strict=True) for _ in m]  # the mixture's chance of each sample
    against = [w / len(m) for w, m in zip(other, members, strict=True) for _ in m]
    direct = np.array(each) @ win[: len(each), : len(each)] @ np.array(against)
    assert one @ payoff @ other == pytest.approx(direct)


@given(judged_prompts())
def test_plain_policies_are_measured_with_all_their_samples_whether_or_not_there_is_best_of_n(case):
    win, members, teacher = case
    plain = payoff_on_prompt(win, members, teacher, best_of=False)
    assert (payoff_on_prompt(win, members, teacher, best_of=True)[: len(plain), : len(plain)] == plain).all()
    assert plain[0, 1] == pytest.approx(win[np.ix_(members[0], members[1])].mean())


def test_the_best_sample_is_chosen_on_one_half_and_measured_on_the_other():
    # Policies a = samples 0 to 3 and b = 4 to 7, halves 0 1 | 2 3 and 4 5 | 6 7. Sample 0 wins its half and loses the
    # other; sample 2 wins within its half only; b's samples are all alike.
    win = np.full((8, 8), 0.5)

    def beats(winner, losers, probability):
        win[winner, losers], win[losers, winner] = probability, 1 - probability

    beats(0, [4, 5], 1.0)
    beats(0, [6, 7], 0.0)
    beats(2, [6, 7], 0.9)
    payoff = payoff_on_prompt(win, [range(4), range(4, 8)], None, best_of=True)
    # Row 2 is a's best. From the first half that is sample 0, measured against 6 and 7: 0. From the second it is
    # sample 2, measured against 4 and 5, which it draws with: 1/2.
    assert payoff[2, 1] == pytest.approx((0.0 + 0.5) / 2)
    # Measured on what it was chosen by, it would seem to win (1.0 + 0.9) / 2.


def test_best_of_n_of_a_policy_with_luck_only_is_no_better_than_the_policy():
    rng = np.random.default_rng(0)
    blocks = []
    for _ in range(4_000):  # pure chance: nothing about a sample foretells its next comparison
        upper = np.triu(rng.integers(0, 2, (8, 8)), 1)
        win = upper + np.tril(1 - upper.T, -1) + np.eye(8) / 2
        blocks.append(payoff_on_prompt(win, [range(4), range(4, 8)], None, best_of=True))
    assert np.mean(blocks, axis=0) == pytest.approx(np.full((4, 4), 0.5), abs=0.02)


def test_best_of_n_needs_two_samples_of_each_policy():
    with pytest.raises(DataError, match="samples_per_prompt"):
        payoff_on_prompt(ROCK, [[0], [1], [2]], None, best_of=True)


def test_rows_have_names_in_the_order_of_the_payoffs():
    labels = [player.label for player in players_of(1, teacher=True, best_of=2)]
    assert labels == ["base", "round 0", "teacher", "best of 2, base", "best of 2, round 0"]
    assert [player.label for player in players_of(0, teacher=False, best_of=0)] == ["base"]


# ---------------------------------------------------------------- the game


def test_the_equilibrium_of_a_cyclic_game_is_found_and_unexploitable():
    payoff = estimate(ROCK)
    # Rows against (2, 3, 4) / 9: 1 + 2.7 + 0.8, 0.2 + 1.5 + 2.8 and 1.6 + 0.9 + 2 are all 4.5.
    nash = payoff.nash["all"].weights
    assert list(nash.values()) == pytest.approx([2 / 9, 3 / 9, 4 / 9])
    assert payoff.mixtures["nash"].exploitability["all"].value == pytest.approx(0, abs=1e-9)
    assert payoff.mixtures["nash"].win == pytest.approx([0.5] * 3)
    # The most dangerous answer to each response beats it with 0.8, 0.9 and 0.7.
    gaps = payoff.exploitability["all"]
    assert [gap.value for gap in gaps.values()] == pytest.approx([0.6, 0.8, 0.4])
    assert [gap.best_response for gap in gaps.values()] == ["2", "0", "1"]
    # Against the uniform mixture the rows win 1.6 / 3, 1.3 / 3 and 1.6 / 3.
    assert payoff.mixtures["uniform"].exploitability["all"].value == pytest.approx(2 * 1.6 / 3 - 1)
    assert payoff.mixtures["uniform"].win == pytest.approx([1.4 / 3, 1.7 / 3, 1.4 / 3])


def test_the_published_round_robin_has_a_winner_and_no_circle():
    payoff = estimate(PUBLISHED)
    assert payoff.nash["all"].weights["0"] == pytest.approx(1)
    assert payoff.exploitability["all"]["0"].value == 0
    assert payoff.exploitability["all"]["10"].value == pytest.approx(2 * 0.809 - 1)
    assert payoff.cycles["point"].components == payoff.cycles["point"].triangles == []


def test_a_teacher_who_beats_all_leaves_the_rounds_their_own_game():
    win = np.full((4, 4), 0.9)
    win[:3, :3] = ROCK
    win[:3, 3] = 0.1
    win[3, 3] = 0.5
    players = [*named("abc"), Player("teacher", "teacher", None)]
    payoff = estimate_payoff(np.stack([win] * 3), players, seed=0, resamples=50, nash_resamples=5)
    assert payoff.nash["all"].weights["teacher"] == pytest.approx(1)
    assert payoff.nash["rounds"].weights == pytest.approx({"a": 2 / 9, "b": 3 / 9, "c": 4 / 9})
    mixture = payoff.mixtures["nash"]
    assert mixture.exploitability["rounds"].value == pytest.approx(0, abs=1e-9)
    assert mixture.exploitability["all"].value == pytest.approx(0.8)
    assert mixture.exploitability["all"].best_response == "teacher"


def test_prompts_that_agree_leave_no_interval_and_prompts_that_differ_leave_one():
    sure = estimate(ROCK)
    assert np.allclose(sure.ci95_low, sure.win)
    assert np.allclose(sure.ci95_high, sure.win)
    blocks = np.stack([ROCK, 1 - ROCK] * 50)
    unsure = estimate_payoff(blocks, named("abc"), seed=0, nash_resamples=20)
    assert np.allclose(unsure.win, 0.5)
    # 100 prompts at 1/2 +- 0.4: the mean's standard error is 0.04.
    assert unsure.ci95_low[0][1] == pytest.approx(0.5 - 1.96 * 0.04, abs=0.01)
    assert unsure.ci95_high[0][1] == pytest.approx(0.5 + 1.96 * 0.04, abs=0.01)
    low, high = unsure.nash["all"].ci95["a"]
    assert high - low > 0.3


def test_the_bootstrap_depends_on_its_seed_alone():
    blocks = np.stack([ROCK, 1 - ROCK, ROCK])
    first, again, other = (
        estimate_payoff(blocks, named("abc"), seed=seed, resamples=50, nash_resamples=5) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != replace(other, players=first.players)


def test_each_round_is_measured_against_the_one_before():
    payoff = estimate(ROCK)
    assert [(step.round, step.win) for step in payoff.improvement] == [(0, 0.1), (1, 0.3)]


def test_payoffs_that_do_not_fit_the_players_are_refused():
    with pytest.raises(DataError, match="0 prompts"):
        estimate_payoff(np.zeros((0, 3, 3)), named("abc"), seed=0)
    with pytest.raises(DataError, match="2 players"):
        estimate_payoff(ROCK[None], named("ab"), seed=0)


# ---------------------------------------------------------------- circles


def test_a_circle_of_three_is_found_once_with_its_weakest_link():
    cycles = find_cycles(ROCK > 0.5, ROCK, ["rock", "paper", "scissors"])
    assert cycles.components == [["rock", "paper", "scissors"]]
    assert cycles.triangles == [(["rock", "paper", "scissors"], 0.7)]


def test_a_circle_within_the_noise_counts_by_its_entries_only():
    weak = 0.5 + (ROCK - 0.5) / 20
    rng = np.random.default_rng(0)
    noise = np.triu(rng.normal(0, 0.3, (60, 3, 3)), 1)
    noise -= noise.mean(axis=0)
    blocks = weak + noise - noise.transpose(0, 2, 1)
    payoff = estimate_payoff(blocks, named("abc"), seed=0, nash_resamples=2)
    assert len(payoff.cycles["point"].triangles) == 1
    assert payoff.cycles["significant"].triangles == payoff.cycles["significant"].components == []
    assert len(estimate(ROCK).cycles["significant"].triangles) == 1


def test_a_longer_circle_is_a_component_without_a_triangle():
    win = np.full((4, 4), 0.5)
    for i in range(4):
        win[i, (i + 1) % 4], win[(i + 1) % 4, i] = 0.6, 0.4
    cycles = find_cycles(win > 0.5, win, list("abcd"))
    assert cycles.components == [list("abcd")]
    assert cycles.triangles == []


def test_a_ranking_has_no_circles():
    cycles = find_cycles(PUBLISHED > 0.5, PUBLISHED, SYSTEMS)
    assert cycles.components == cycles.triangles == []
