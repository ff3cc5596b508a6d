"""Sequence log-probabilities, over architectures: the prompt-sharing way, the row-wise way, and one row at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from sparring.core.batch import Groups
from sparring.core.collate import make_groups
from sparring.policy.loading import load_policy
from sparring.policy.logp import logp_in_pieces, row_wise_logp, shared_logp
from sparring.policy.policy import Policy

VOCABULARY = 320
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
LLAMA_LIKE: dict[str, Any] = SIZES | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21], [30, 31, 32, 33]]
RESPONSES = [[[40, 41, 42], [43]], [[44, 45, 46, 47, 48, 49, 50, 51], [52, 2]], [[53, 54, 55, 2]]]
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**LLAMA_LIKE),
    "qwen3": Qwen3Config(**LLAMA_LIKE, head_dim=16),
    "mistral": MistralConfig(**LLAMA_LIKE, sliding_window=4),
    "gemma3": Gemma3TextConfig(
        **LLAMA_LIKE, head_dim=8, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
    ),
    "gpt2": GPT2Config(**SIZES, n_positions=17),  # no room for padding: the longest row is 9 + 3, the widest 9 + 8
}


def policy_of(name: str, chat_policy: Policy) -> Policy:
    torch.manual_seed(0)
    CONFIGS[name].initializer_range = 0.2  # type: ignore
    return Policy(AutoModelForCausalLM.from_config(CONFIGS[name]).eval(), chat_policy.tokenizer)


def groups() -> Groups:
    return make_groups(PROMPTS, RESPONSES, pad_id=0, device=torch.device("cpu"))


@torch.no_grad()
def one_row_at_a_time(policy: Policy) -> Tensor:
    """No cache, no padding, no positions; float64 after the logits."""
    values = []
    for prompt, responses in zip(PROMPTS, RESPONSES, strict=True):
        for response in responses:
            logits = policy.model(torch.tensor([prompt + response]), use_cache=False).logits[0].double()
            logp = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            values.append(logp[torch.arange(len(response)), response].sum())
    return torch.stack(values)


@pytest.mark.parametrize("name", CONFIGS)
def test_log_probabilities_are_those_of_one_row_at_a_time(name: str, chat_policy: Policy) -> None:
    policy = policy_of(name, chat_policy)
    assert torch.allclose(policy.logp(groups()).double(), one_row_at_a_time(policy), atol=1e-4, rtol=0)
    assert torch.allclose(row_wise_logp(policy.model, groups()).double(), one_row_at_a_time(policy), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "shares"), [("llama", True), ("qwen3", True), ("gpt2", True), ("mistral", False), ("gemma3", False)]
)
def test_a_model_with_a_sliding_window_does_not_share_prompts(name: str, shares: bool, chat_policy: Policy) -> None:
    assert policy_of(name, chat_policy).shares_prompt is shares


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_sharing_a_prompt_gives_the_gradient_of_repeating_it(name: str, chat_policy: Policy) -> None:
    policy = policy_of(name, chat_policy)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0])

    def gradient(logp: Tensor) -> Tensor:
        policy.model.zero_grad()
        (weights * logp).sum().backward()
        return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]).double()

    shared = gradient(shared_logp(policy.model, policy.config, groups()))
    repeated = gradient(row_wise_logp(policy.model, groups()))
    assert torch.isfinite(shared).all()
    assert torch.cosine_similarity(shared, repeated, dim=0) > 0.99999
    assert torch.isclose(shared.norm(), repeated.norm(), rtol=1e-4)


def test_an_empty_response_counts_zero_and_spoils_no_gradient(chat_policy: Policy) -> None:
    batch = make_groups([[5, 6], [7]], [[[8, 9], []], [[]]], pad_id=0, device=chat_policy.device)
    logp = chat_policy.logp(batch)
    assert logp[1:].tolist() == [0.0, 0.0]
    logp.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in chat_policy.parameters() if p.grad is not None)


def test_responses_of_one_token_need_no_second_pass(chat_policy: Policy) -> None:
    batch = make_groups([[5, 6]], [[[8], [9]]], pad_id=0, device=chat_policy.device)
    assert torch.allclose(chat_policy.logp(batch), row_wise_logp(chat_policy.model, batch), atol=1e-5)


def test_gradient_checkpointing_repeats_prompts_and_gives_the_same_gradients(chat_model: Path) -> None:
    plain, frugal = load_policy(str(chat_model)), load_policy(str(chat_model), gradient_checkpointing=True)
    assert plain.shares_prompt
    assert not frugal.shares_prompt
    for policy in (plain, frugal):
        policy.logp(groups()).sum().backward()
    for one, other in zip(plain.parameters(), frugal.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-3)  # type: ignore


def test_pieces_of_time_add_up_to_the_whole_with_the_same_gradient() -> None:
    torch.manual_seed(0)
    whole = torch.randn(3, 7, 11, requires_grad=True)
    pieces = whole.detach().clone().requires_grad_()
    ids, mask = torch.randint(0, 11, (3, 7)), torch.rand(3, 7) < 0.7
    expected = logp_in_pieces(whole, ids, mask)
    actual = logp_in_pieces(pieces, ids, mask, largest=70)  # 2 steps of 3 * 11 logits at a time
    assert torch.allclose(actual, expected, atol=1e-6)
    (actual**2).sum().backward()
    (expected**2).sum().backward()
    assert torch.allclose(whole.grad, pieces.grad, atol=1e-6)  # type: ignore
