import math
from functools import partial

import pytest
import torch

from sparring.objectives.dno import dno_loss
from sparring.objectives.dno_soft import dno_soft_loss

torch.set_num_threads(1)

near = partial(pytest.approx, abs=1e-6)


def soft(r1, r2, eta, rho1, rho2, scale=1.0):
    """Loss of one pair and its gradient with respect to the first log-ratio and the second."""
    logp = torch.tensor([rho1, rho2], dtype=torch.float64, requires_grad=True)
    reference, rate = torch.zeros(2, dtype=torch.float64), torch.tensor([r1, r2], dtype=torch.float64)
    [loss] = dno_soft_loss(
        *logp.split(1), *reference.split(1), *rate.split(1), dno_eta=float(eta), reward_scale=float(scale)
    )
    return loss.item(), *torch.autograd.grad(loss, logp)[0].tolist()


def hard(eta, rho_chosen, rho_rejected):
    logp = torch.tensor([rho_chosen, rho_rejected], dtype=torch.float64, requires_grad=True)
    reference = torch.zeros(2, dtype=torch.float64)
    [loss] = dno_loss(*logp.split(1), *reference.split(1), dno_eta=float(eta))
    return loss.item(), *torch.autograd.grad(loss, logp)[0].tolist()


@pytest.mark.parametrize(
    ("inputs", "loss", "gradient"),
    [
        ((0.8, 0.3, 0.1, 2, -1), 0.66761745, -0.00480168),
        ((0.8, 0.3, 1.0, 2, -1), 1.18120936, +0.33011480),  # over-shot: pulls back, where a hard label would push on
        ((0.8, 0.3, 0.1, 0, 0), 0.69314718, -0.01224593),
        ((0.8, 0.3, 0.1, 5, 0), 0.66284732, 0.0),  # the entropy of the target: eta * 5 is 0.8 - 0.3
        ((1, 0, 0.1, 10, 0), 0.58220311, 0.0),
        ((0.2, 0.9, 0.05, -3, 4), 0.64951644, +0.00407851),
    ],
)
def test_soft_loss_and_gradient(inputs, loss, gradient):
    assert soft(*inputs) == near((loss, gradient, -gradient))


@pytest.mark.parametrize(("scale", "loss"), [(5, 0.31520055), (10, 0.06866590), (20, 0.00274807)])
def test_the_scale_multiplies_win_rates_and_eta_alike(scale, loss):
    assert soft(0.8, 0.3, 0.1, 2, -1, scale)[0] == near(loss)
    assert soft(0.8, 0.3, 0.1, 5, 0, scale)[1] == near(0.0)  # the stationary point stays


def test_a_growing_scale_tends_to_hard_labels():
    gaps = [soft(0.8, 0.3, 0.1, 2, -1, scale)[0] - hard(0.1 * scale, 2, -1)[0] for scale in (5, 10, 20, 40)]
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < gaps[-1] < 1e-7


def test_the_soft_loss_is_symmetric():
    assert soft(0.8, 0.3, 0.1, 2, -1)[0] == near(soft(0.3, 0.8, 0.1, -1, 2)[0])


def test_equal_win_rates_are_a_target_too():
    assert soft(0.4, 0.4, 0.5, 1, 1) == near((math.log(2), 0.0, 0.0))
    assert soft(0.4, 0.4, 0.5, 3, 1)[1] > 0


@pytest.mark.parametrize(
    ("inputs", "loss", "gradient"),
    [
        ((0.1, 1.5, -0.5), 0.59813887, -0.04501660),
        ((0.05, 1.5, -0.5), 0.64439666, -0.02375104),
        ((0.1, 0, 0), 0.69314718, -0.05),
        ((0.05, 0, 0), 0.69314718, -0.025),
        ((0.1, -12, -40), 0.05903283, -0.00573242),  # both fell, and the loss is content
        ((0.1, -40, -12), 2.85903283, -0.09426758),
        ((0.1, 3, -2), 0.47407698, None),  # DPO's values on SPPO's test pair
        ((0.01, 3, -2), 0.66845965, None),
    ],
)
def test_hard_loss_and_gradient(inputs, loss, gradient):
    value, chosen, rejected = hard(*inputs)
    assert value == near(loss)
    assert chosen == -rejected
    if gradient is not None:
        assert chosen == near(gradient)


def test_the_reference_is_subtracted_from_its_own_response():
    logp, reference = (torch.tensor([-10.0]), torch.tensor([-30.0])), (torch.tensor([-11.5]), torch.tensor([-29.5]))
    assert dno_loss(*logp, *reference, dno_eta=0.1).item() == near(0.59813887)  # rho = 1.5 and -0.5
    rates = torch.tensor([0.8]), torch.tensor([0.3])
    shifted = (torch.tensor([-9.5]), torch.tensor([-30.5]))  # rho = 2 and -1
    assert dno_soft_loss(*shifted, *reference, *rates, dno_eta=0.1, reward_scale=1.0).item() == near(0.66761745)


def test_a_hopeless_pair_has_a_finite_loss():
    assert hard(1.0, -5000, 0) == near((5000.0, -1.0, 1.0))
    assert math.isfinite(soft(1, 0, 1.0, -5000, 0)[0])


def test_there_is_one_loss_per_pair():
    logp = torch.randn(4, 7)
    assert dno_loss(*logp, dno_eta=0.1).shape == (7,)
    assert dno_soft_loss(*logp, *torch.rand(2, 7), dno_eta=0.1, reward_scale=1.0).shape == (7,)
