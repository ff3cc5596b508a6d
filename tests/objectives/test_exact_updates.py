"""A game of three responses with a circle, solved: what each loss has as its minimiser over all policies."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.games.matrix import MatrixGame
from sparring.objectives.dno import dno_loss
from sparring.objectives.dno_soft import dno_soft_loss
from sparring.objectives.sppo import exact_log_z, sppo_loss

torch.set_num_threads(1)

near = partial(pytest.approx, abs=1e-6)

# Row beats column. The round's policy, and its exact win rates against itself.
GAME = torch.tensor([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]], dtype=torch.float64)
POLICY = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
WIN_RATE = GAME @ POLICY


def game_of(win: torch.Tensor) -> MatrixGame:
    return MatrixGame(tuple(map(str, range(len(win)))), win.numpy())


def minimiser(population_loss):
    """The policy over three responses that minimises a loss of their log-probabilities."""
    logits = POLICY.log().clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = population_loss(logits.log_softmax(0))
        loss.backward()
        return loss

    optimizer.step(closure)
    return logits.detach().softmax(0)


def soft_population(logp, *, mu, eta):
    """The soft loss over y1, y2 ~ mu; equal draws contribute a constant."""
    rows, columns = torch.cartesian_prod(torch.arange(3), torch.arange(3)).T
    reference = POLICY.log()
    losses = dno_soft_loss(
        logp[rows], logp[columns], reference[rows], reference[columns], WIN_RATE[rows], WIN_RATE[columns],
        dno_eta=eta, reward_scale=1.0,
    )  # fmt: skip
    return (mu[rows] * mu[columns] * losses).sum()


def hard_population(logp, *, eta):
    """The hard loss over y1, y2 ~ policy, each pair labelled by one flip of the game's coin."""
    rows, columns = torch.cartesian_prod(torch.arange(3), torch.arange(3)).T
    reference = POLICY.log()
    losses = dno_loss(logp[rows], logp[columns], reference[rows], reference[columns], dno_eta=eta)
    return (POLICY[rows] * POLICY[columns] * 2 * GAME[rows, columns] * losses).sum()


@pytest.mark.parametrize(
    ("eta", "update", "win_rate", "divergence"),
    [
        (1.0, [0.52806867, 0.25427102, 0.21766030], 0.51059018, 0.00520843),
        (0.5, [0.55213341, 0.21335642, 0.23451017], 0.52009689, 0.01937539),
        (0.1, [0.62250011, 0.04138499, 0.33611490], 0.56097875, 0.22892321),
    ],
)
def test_the_soft_loss_finds_the_exact_update_which_improves_by_its_bound(eta, update, win_rate, divergence):
    found = minimiser(partial(soft_population, mu=POLICY, eta=eta))
    assert found.tolist() == pytest.approx(update, abs=1e-6)
    assert (found @ GAME @ POLICY).item() == pytest.approx(win_rate, abs=1e-6)
    assert (found * (found / POLICY).log()).sum().item() == pytest.approx(divergence, abs=1e-6)
    assert win_rate >= 0.5 + eta * divergence


def test_the_minimiser_does_not_depend_on_who_draws_the_pairs():
    other = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    found = minimiser(partial(soft_population, mu=other, eta=0.5))
    assert found.tolist() == pytest.approx([0.55213341, 0.21335642, 0.23451017], abs=1e-6)


def test_population_loss_at_the_start_and_at_the_minimum():
    exact = torch.tensor([0.55213341, 0.21335642, 0.23451017], dtype=torch.float64)
    assert soft_population(POLICY.log(), mu=POLICY, eta=0.5).item() == near(0.69314718)
    assert soft_population(exact.log(), mu=POLICY, eta=0.5).item() == near(0.69039038)


@pytest.mark.parametrize(
    ("eta", "expected"),
    [(1.0, [0.59290806, 0.13738527, 0.26970667]), (0.5, [0.62235761, 0.05569220, 0.32195019])],
)
def test_hard_labels_without_a_filter_regress_on_something_else(eta, expected):
    found = minimiser(partial(hard_population, eta=eta))
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_exact_updates_beat_their_predecessor_round_after_round():
    game, policy, improvements = game_of(GAME), POLICY.numpy(), []
    for _ in range(6):
        updated = game.update(policy, step=1.0)
        improvements.append(float(game.win_rates(policy) @ updated))
        policy = updated
    assert improvements == near([0.51059018, 0.50990504, 0.50945215, 0.50935147, 0.50960205, 0.51009422])


def sppo_update(policy: torch.Tensor, win_rate: torch.Tensor, *, sppo_eta: float) -> torch.Tensor:
    """Where the pointwise loss is 0 for every response at once: log Z must be the exact one for that to be a policy."""
    log_z = (policy * (sppo_eta * win_rate).exp()).sum().log()
    return (policy.log() + sppo_eta * win_rate - log_z).exp()


def sppo_population(logp, *, eta, exact=False):
    """The pointwise loss over y ~ policy, with the exact normaliser or with the paper's constant."""
    log_z = (POLICY * (eta * WIN_RATE).exp()).sum().log() if exact else torch.tensor(eta / 2, dtype=torch.float64)
    losses = sppo_loss(logp - POLICY.log(), WIN_RATE, log_z.expand(3), sppo_eta=eta)
    return (POLICY * losses).sum()


EXACT = {
    1.0: [0.52806867, 0.25427102, 0.21766030],
    2.0: [0.55213341, 0.21335642, 0.23451017],
    10.0: [0.62250011, 0.04138499, 0.33611490],
}


@pytest.mark.parametrize(("sppo_eta", "update"), EXACT.items())
def test_the_etas_of_the_two_papers_are_reciprocals_given_the_exact_normaliser(sppo_eta, update):
    assert game_of(GAME).update(POLICY.numpy(), step=sppo_eta).tolist() == near(update)
    exact = minimiser(partial(sppo_population, eta=sppo_eta, exact=True))
    assert exact.tolist() == pytest.approx(update, abs=1e-5)
    assert minimiser(partial(soft_population, mu=POLICY, eta=1 / sppo_eta)).tolist() == pytest.approx(update, abs=1e-5)


@pytest.mark.parametrize(
    ("eta", "expected", "distance"),
    [
        (1.0, [0.52793969, 0.25449024, 0.21757007], 0.00022),
        (2.0, [0.55138764, 0.21473241, 0.23387995], 0.00138),
        (10.0, [0.63064301, 0.05728777, 0.31206922], 0.02405),
    ],
)
def test_with_the_constant_normaliser_it_is_off_by_more_the_larger_eta(eta, expected, distance):
    found = minimiser(partial(sppo_population, eta=eta))
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    total_variation = (found - torch.tensor(EXACT[eta], dtype=torch.float64)).abs().sum().item() / 2
    assert total_variation == pytest.approx(distance, abs=1e-5)


def test_samples_drawn_in_proportion_to_the_policy_have_the_exact_normaliser():
    samples = WIN_RATE.repeat_interleave(torch.tensor([5, 3, 2]))
    for sppo_eta, log_z in ((1.0, 0.50538176), (2.0, 1.02081840), (10.0, 5.38086429)):
        assert exact_log_z(samples[None], sppo_eta=sppo_eta).item() == near(log_z)


@st.composite
def games(draw):
    """A preference game without any order, and a policy that gives every response some weight. Plain numbers."""
    size = draw(st.integers(2, 6))
    above = draw(st.lists(st.floats(0, 1), min_size=size * (size - 1) // 2, max_size=size * (size - 1) // 2))
    weights = draw(st.lists(st.floats(0.05, 1), min_size=size, max_size=size))
    return size, above, weights


@given(games(), st.floats(0.05, 20))
@settings(deadline=None)
def test_exact_dno_and_exact_sppo_updates_coincide(game, sppo_eta):
    size, above, weights = game
    win = torch.full((size, size), 0.5, dtype=torch.float64)
    rows, columns = torch.triu_indices(size, size, offset=1)
    win[rows, columns] = torch.tensor(above, dtype=torch.float64)
    win[columns, rows] = 1 - win[rows, columns]
    policy = torch.tensor(weights, dtype=torch.float64)
    policy /= policy.sum()
    rate = win @ policy
    updated = torch.from_numpy(game_of(win).update(policy.numpy(), step=sppo_eta))
    torch.testing.assert_close(sppo_update(policy, rate, sppo_eta=sppo_eta), updated, rtol=1e-9, atol=1e-12)
    # Both losses are at rest there: the pointwise one is 0, and the soft one has no gradient.
    ratio = updated.log() - policy.log()
    log_z = (policy * (sppo_eta * rate).exp()).sum().log()
    assert sppo_loss(ratio, rate, log_z.expand(size), sppo_eta=sppo_eta).max().item() < 1e-12
    logp = updated.log().requires_grad_()
    reference = policy.log()
    soft = dno_soft_loss(
        logp[rows], logp[columns], reference[rows], reference[columns], rate[rows], rate[columns],
        dno_eta=1 / sppo_eta, reward_scale=1.0,
    )  # fmt: skip
    [gradient] = torch.autograd.grad(soft.sum(), logp)
    assert gradient.abs().max().item() < 1e-9 / min(sppo_eta, 1.0)
