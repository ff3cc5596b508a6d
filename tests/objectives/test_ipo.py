from functools import partial

import pytest
import torch

from sparring.core.errors import ConfigError
from sparring.objectives.ipo import IPO, ipo_loss
from sparring.objectives.ipo_sppo import IPOSPPO, ipo_sppo_loss

torch.set_num_threads(1)

near = partial(pytest.approx, abs=1e-6)


def of(loss_function, chosen, rejected, beta):
    """Loss of one pair of log-ratios and its gradients."""
    logp = torch.tensor([chosen, rejected], dtype=torch.float64, requires_grad=True)
    reference = torch.zeros(2, dtype=torch.float64)
    [loss] = loss_function(*logp.split(1), *reference.split(1), beta=beta)
    return loss.item(), *torch.autograd.grad(loss, logp)[0].tolist()


@pytest.mark.parametrize(
    ("loss_function", "beta", "loss", "gradient"),
    [
        (ipo_loss, 0.1, 0.0, 0.0),  # a gap of 5 is just what is asked for
        (ipo_loss, 0.01, 2025.0, 2 * (5 - 50)),
        (ipo_sppo_loss, 0.1, 0.25, 2 * 0.1 * (0.5 - 1)),
        (ipo_sppo_loss, 0.01, 0.9025, 2 * 0.01 * (0.05 - 1)),
    ],
)
def test_loss_and_gradient(loss_function, beta, loss, gradient):
    assert of(loss_function, 3.0, -2.0, beta) == near((loss, gradient, -gradient))


def test_the_two_ask_for_gaps_that_differ_by_two():
    assert of(ipo_loss, 4.0, -1.0, 0.1) == near((0.0, 0.0, 0.0))
    assert of(ipo_sppo_loss, 7.0, -3.0, 0.1) == near((0.0, 0.0, 0.0))


@pytest.mark.parametrize("loss_function", [ipo_loss, ipo_sppo_loss])
def test_a_gap_that_is_too_wide_is_pulled_together(loss_function):
    assert of(loss_function, 20.0, 0.0, 0.1)[1] > 0


@pytest.mark.parametrize("loss_function", [ipo_loss, ipo_sppo_loss])
def test_the_reference_is_subtracted_from_its_own_response(loss_function):
    logp = torch.tensor([-10.0]), torch.tensor([-30.0])
    reference = torch.tensor([-13.0]), torch.tensor([-28.0])  # ratios 3 and -2
    assert loss_function(*logp, *reference, beta=0.01).item() == pytest.approx(of(loss_function, 3.0, -2.0, 0.01)[0])


@pytest.mark.parametrize("kind", [IPO, IPOSPPO])
def test_beta_is_positive(chat_policy, kind):
    with pytest.raises(ConfigError, match="beta is 0"):
        kind(chat_policy, partial(torch.optim.SGD, lr=1.0), beta=0.0)
