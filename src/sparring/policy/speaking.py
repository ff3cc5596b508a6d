"""One response per prompt, each from a seed of its own: what players of games need, whose batches shrink as games end.

`Sampler` draws K responses from one seed per batch instead, which is cheaper to say and enough where batches are fixed.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparring.core.collate import cut_batches
from sparring.core.types import Response
from sparring.policy.decoding import decode
from sparring.policy.memory import Memory
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler


def speak(
    policy: Policy,
    sampler: Sampler,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    memory: Memory | None = None,
) -> list[Response | None]:
    """Responses to rendered prompts, in order; None where a prompt and `max_new_tokens` exceed the context.

    A response is a function of its prompt and its seed, up to the rounding of floats, and not of its batch.
    `sampler.num_generations` is not used. A `memory` is used where all fits into one batch, of `sampler.token_budget`
    tokens, and then holds about as much beside it.
    """
    fitting = [place for place, ids in enumerate(prompts) if len(ids) + sampler.max_new_tokens <= policy.context]
    lengths = [len(prompts[place]) + sampler.max_new_tokens for place in fitting]
    batches = cut_batches(lengths, [1] * len(fitting), sampler.token_budget)
    responses: list[Response | None] = [None] * len(prompts)
    remembers = memory is not None and policy.plain_attention and len(batches) == 1
    with policy.evaluating():
        for batch in batches:
            places = [fitting[item] for item in batch]
            rows = decode(
                policy,
                [prompts[place] for place in places],
                copies=1,
                max_new_tokens=sampler.max_new_tokens,
                min_new_tokens=sampler.min_new_tokens,
                warpers=sampler.warpers(),
                uniforms=uniforms([seeds[place] for place in places], sampler.max_new_tokens),
                memory=memory if remembers else None,
            )
            for place, ids in zip(places, rows, strict=True):
                responses[place] = sampler.response(policy, tuple(prompts[place]), ids)
    return responses


def uniforms(seeds: Sequence[int], steps: int) -> Float[Tensor, "rows steps"]:
    """Numbers from 0 to 1, a row of them from each seed."""
    return torch.from_numpy(np.stack([np.random.default_rng(seed).random(steps) for seed in seeds]))
