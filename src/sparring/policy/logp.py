"""Sequence log-probabilities of groups, differentiable, in two ways that agree.

`shared_logp` computes a prompt once for all its responses; `row_wise_logp` repeats it for each, which gradient
checkpointing and layers with a state other than keys and values need. Neither makes logits of prompt tokens.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import Module
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, PreTrainedConfig

from sparring.core.batch import Groups
from sparring.core.logprobs import sequence_logp
from sparring.policy.cache import select_rows

# Above this many logits their float32 log-softmax is computed piece by piece and again in the backward pass: with
# 128k tokens in the vocabulary it would otherwise hold four times the bytes of the bf16 logits themselves.
LARGEST_LOGITS = 2**25


def shared_logp(model: Module, config: PreTrainedConfig, groups: Groups) -> Float[Tensor, " responses"]:
    """The prompt's keys and values are computed once and expanded; gradients of its responses add up in them."""
    prompt_ids, prompt_mask, ids, mask, group = groups
    cache = DynamicCache(config=config)
    prompt = model(
        input_ids=prompt_ids,
        attention_mask=prompt_mask.long(),
        position_ids=positions(prompt_mask),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    first = logp_in_pieces(prompt.logits[group], ids[:, :1], mask[:, :1])
    if ids.shape[1] < 2:
        return first
    select_rows(cache, group)
    seen = torch.cat([prompt_mask[group], mask[:, :-1]], dim=1)
    response = model(
        input_ids=ids[:, :-1],
        attention_mask=seen.long(),
        position_ids=positions(seen)[:, prompt_mask.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    )
    return first + logp_in_pieces(response.logits, ids[:, 1:], mask[:, 1:])


def row_wise_logp(model: Module, groups: Groups) -> Float[Tensor, " responses"]:
    prompt_ids, prompt_mask, ids, mask, group = groups
    seen = torch.cat([prompt_mask[group], mask], dim=1)
    output = model(
        input_ids=torch.cat([prompt_ids[group], ids], dim=1),
        attention_mask=seen.long(),
        position_ids=positions(seen),
        use_cache=False,
        logits_to_keep=ids.shape[1] + 1,
    )
    return logp_in_pieces(output.logits[:, :-1], ids, mask)


def positions(mask: Bool[Tensor, "rows time"]) -> Int[Tensor, "rows time"]:
    """The number of tokens before each; padding repeats its neighbour, so that no position exceeds the context."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def logp_in_pieces(
    logits: Float[Tensor, "rows time vocab"],
    ids: Int[Tensor, "rows time"],
    mask: Bool[Tensor, "rows time"],
    largest: int = LARGEST_LOGITS,
) -> Float[Tensor, " rows"]:
    """`sequence_logp`, a sum over time, taken over stretches of time that hold at most `largest` logits each."""
    if logits.numel() <= largest:
        return sequence_logp(logits, ids, mask)
    stretch = max(1, largest // (logits.shape[0] * logits.shape[2]))
    # split, not slices: the backward pass of a slice writes zeros of the size of the whole tensor.
    pieces = zip(logits.split(stretch, 1), ids.split(stretch, 1), mask.split(stretch, 1), strict=True)
    return torch.stack(
        [checkpoint(sequence_logp, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
    ).sum(0)
