"""The decode loop: a prompt is computed once and its cache repeated, and rows that have ended leave the batch.

These are the two reasons not to call `model.generate`, which repeats prompts first and carries ended rows to the end.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList

from sparring.core.collate import pad
from sparring.policy.cache import roomy_cache, select_rows
from sparring.policy.logp import positions
from sparring.policy.memory import Memory
from sparring.policy.policy import Policy

COMPACT_BELOW = 0.8  # share of living rows below which ended ones leave: selecting rows copies the cache
STEPS_BETWEEN_CHECKS = 8  # on an accelerator: to ask how many rows live, the host has to wait for it


def decode(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    *,
    copies: int,
    max_new_tokens: int,
    warpers: LogitsProcessorList,
    min_new_tokens: int = 0,
    uniforms: Float[Tensor, "rows steps"] | None = None,
    memory: Memory | None = None,
) -> list[tuple[int, ...]]:
    """Sampled ids, end token included, of `copies` rows per prompt; the rows of a prompt are adjacent.

    Call it in `policy.evaluating()`. Torch's generator of the policy's device decides the samples, or `uniforms`,
    float64 from 0 to 1: a row then does not depend on the others of its batch. None ends before `min_new_tokens`. With
    a `memory` only what is new in a prompt is read, and the prompts are remembered.
    """
    eos = torch.tensor(policy.eos_ids, device=policy.device)
    check_every = 1 if policy.device.type == "cpu" else STEPS_BETWEEN_CHECKS
    uniforms = None if uniforms is None else uniforms.to(policy.device)

    cache, logits, prompt_mask, padded = read(policy, prompts, room=max_new_tokens, memory=memory)
    width = prompt_mask.shape[1]
    group = torch.arange(len(prompts), device=policy.device).repeat_interleave(copies)
    if copies > 1:
        select_rows(cache, group)
    logits, position = logits[group], prompt_mask.sum(1)[group]
    mask = torch.nn.functional.pad(prompt_mask[group], (0, max_new_tokens), value=True)

    tokens = torch.full((len(group), max_new_tokens), policy.pad_id, device=policy.device)
    row = torch.arange(len(group), device=policy.device)  # which row of `tokens` each row of the batch writes
    alive = torch.ones_like(row, dtype=torch.bool)
    for step in range(max_new_tokens):
        if step < min_new_tokens:
            logits = logits.index_fill(1, eos, float("-inf"))
        token = draw(logits, warpers, None if uniforms is None else uniforms[row, step, None])
        tokens[row, step] = token
        alive = alive & ~torch.isin(token, eos)
        if step + 1 == max_new_tokens:
            break
        if step % check_every == 0:
            living = int(alive.sum())
            if living == 0:
                break
            if living < COMPACT_BELOW * len(alive):
                kept = alive.nonzero().squeeze(1)
                select_rows(cache, kept)
                token, row, position, mask, alive = (part[kept] for part in (token, row, position, mask, alive))
        logits = policy.model(
            input_ids=token[:, None],
            attention_mask=attention_mask(policy, mask[:, : width + step + 1]) if padded else None,
            position_ids=(position + step)[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
    return [upto_end(row, policy.eos_ids) for row in tokens.tolist()]


def read(
    policy: Policy, prompts: Sequence[Sequence[int]], *, room: int, memory: Memory | None
) -> tuple[DynamicCache, Float[Tensor, "prompts vocab"], Bool[Tensor, "prompts time"], bool]:
    """Cache, logits after the last token, which places of the cache hold a token, and whether some hold none."""
    rows, shared = ([], [0] * len(prompts)) if memory is None else memory.match(prompts)
    rest = [prompt[known:] for prompt, known in zip(prompts, shared, strict=True)]
    ids, mask = (part.to(policy.device) for part in pad(rest, pad_id=policy.pad_id, left=True))
    begun = max(shared)
    cache = roomy_cache(policy.config, room=begun + ids.shape[1] + room)
    if memory is not None and begun:
        memory.recall(cache, rows, shared)
        recalled = torch.arange(begun, device=policy.device) < torch.tensor(shared, device=policy.device)[:, None]
        mask = torch.cat([recalled, mask], dim=1)
    logits = policy.model(
        input_ids=ids,
        attention_mask=mask.long(),
        position_ids=positions(mask)[:, begun:],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    if memory is not None:
        memory.keep(prompts, cache, mask)
    return cache, logits, mask, any(len({len(part) for part in parts}) > 1 for parts in (rest, prompts))


def draw(
    logits: Float[Tensor, "rows vocab"], warpers: LogitsProcessorList, uniform: Float[Tensor, "rows 1"] | None = None
) -> Int[Tensor, " rows"]:
    """One token of each row, by the inverse of the cumulative distribution: one random number a row.

    `torch.multinomial` takes one per word of the vocabulary, a fifth of a tiny model's step. In float64, because the
    sum of 100k probabilities in float32 drowns the rare ones. The warpers used here do not look at earlier tokens.
    """
    no_ids = torch.empty(len(logits), 0, dtype=torch.long, device=logits.device)
    scores: Tensor = warpers(no_ids, logits.float())  # pyright: ignore[reportArgumentType]
    cumulative = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
    if uniform is None:
        uniform = torch.rand(len(logits), 1, dtype=torch.float64, device=logits.device)
    point = uniform * cumulative[:, -1:]
    # The first place above the point, never one of probability 0; clamped against the rounding of the product.
    return torch.searchsorted(cumulative, point, right=True).clamp(max=logits.shape[1] - 1).squeeze(1)


def attention_mask(policy: Policy, mask: Bool[Tensor, "rows time"]) -> Tensor:
    """The mask of one new token, in the form that costs the model least."""
    if policy.plain_attention and policy.config._attn_implementation == "sdpa":
        return mask[:, None, None]  # used as it is; from two dimensions it would be built anew at every step
    return mask.long()


def upto_end(ids: list[int], eos_ids: Sequence[int]) -> tuple[int, ...]:
    """A row up to its first end token: an ended row goes on drawing until it leaves the batch."""
    end = next((place for place, token in enumerate(ids) if token in eos_ids), len(ids) - 1)
    return tuple(ids[: end + 1])
