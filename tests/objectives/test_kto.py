import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.objectives.kto import kto_loss, reference_point, sides

torch.set_num_threads(1)

near = partial(pytest.approx, abs=1e-6)

# Three good responses and three bad ones.
RATIO = torch.tensor([3, 1, -2, -2, 0.5, -6], dtype=torch.float64)
SIDE = torch.tensor([1, 1, 1, -1, -1, -1], dtype=torch.float64)


def test_reference_points_are_the_mean_ratio_of_a_pool_and_never_negative():
    assert reference_point(RATIO, SIDE > 0).item() == near(0.6666667)
    assert reference_point(RATIO, SIDE < 0).item() == 0.0
    assert reference_point(RATIO, SIDE > 1).item() == 0.0  # nobody is in it


def test_values_are_those_of_the_pair_form():
    losses = kto_loss(RATIO, SIDE, beta=0.1)
    assert losses.tolist() == near([0.425557, 0.475021, 0.549834, 0.433726, 0.495833, 0.339244])
    assert losses.mean().item() == near(0.45320249)


def test_no_gradient_goes_through_the_reference_points():
    ratio = RATIO.clone().requires_grad_()
    [gradient] = torch.autograd.grad(kto_loss(ratio, SIDE, beta=0.1).sum(), ratio)
    losses = kto_loss(RATIO, SIDE, beta=0.1)
    assert gradient.tolist() == near((-0.1 * SIDE * losses * (1 - losses)).tolist())


def test_good_responses_are_raised_and_bad_ones_lowered():
    ratio = torch.zeros(4, requires_grad=True)
    side = torch.tensor([1.0, 1.0, -1.0, 0.0])
    losses = kto_loss(ratio, side, beta=0.1)
    assert losses.tolist() == near([0.5, 0.5, 0.5, 0.0])
    assert torch.autograd.grad(losses.sum(), ratio)[0].tolist() == near([-0.025, -0.025, 0.025, 0.0])


def test_a_side_is_a_win_rate_above_or_below_one_half():
    rates = torch.tensor([0.9, 0.5, 0.1, 0.5 + 1e-7, 0.5001, float("nan")])
    assert sides(rates)[:5].tolist() == [1, 0, -1, 0, 1]
    assert math.isnan(sides(rates)[5])


def test_a_missing_win_rate_is_no_tie():
    assert kto_loss(torch.zeros(1), torch.tensor([float("nan")]), beta=0.1).isnan().all()


@given(st.lists(st.tuples(st.floats(-100, 100), st.sampled_from([-1.0, 0.0, 1.0])), min_size=1, max_size=8))
def test_losses_lie_between_0_and_1_and_ties_have_none(drawn):
    ratio, side = torch.tensor(drawn, dtype=torch.float64).T
    losses = kto_loss(ratio, side, beta=0.1)
    assert ((losses >= 0) & (losses <= 1)).all()
    assert (losses[side == 0] == 0).all()
