import math

import torch

from sparring.core.logprobs import sequence_logp


def test_uniform_logits_give_minus_log_of_the_vocabulary_per_token() -> None:
    ids = torch.tensor([[0, 3, 1], [2, 2, 0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    logp = sequence_logp(torch.zeros(2, 3, 4), ids, mask)
    assert torch.allclose(logp, torch.tensor([-3 * math.log(4), -math.log(4)]))


def test_one_token_by_hand() -> None:
    # Odds 1 : 3, so the second word has probability 3/4.
    logits = torch.tensor([[[0.0, math.log(3)]]])
    logp = sequence_logp(logits, torch.tensor([[1]]), torch.tensor([[True]]))
    assert math.isclose(logp.item(), math.log(0.75), rel_tol=1e-6)


def test_the_gradient_is_one_hot_minus_probability_and_zero_where_masked() -> None:
    logits = torch.tensor([[[0.0, math.log(3)], [1.0, 2.0]]], requires_grad=True)
    sequence_logp(logits, torch.tensor([[1, 0]]), torch.tensor([[True, False]])).sum().backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, torch.tensor([[[-0.25, 0.25], [0.0, 0.0]]]))


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    # In bf16, 500 * log 2 would round to a multiple of 2.
    logits = torch.zeros(1, 500, 2, dtype=torch.bfloat16)
    logp = sequence_logp(logits, torch.zeros(1, 500, dtype=torch.long), torch.ones(1, 500, dtype=torch.bool))
    assert logp.dtype == torch.float32
    assert math.isclose(logp.item(), -500 * math.log(2), rel_tol=1e-5)


def test_a_row_that_is_all_padding_counts_zero() -> None:
    logits = torch.full((1, 2, 3), 1e4)
    logp = sequence_logp(logits, torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, dtype=torch.bool))
    assert logp.item() == 0.0
