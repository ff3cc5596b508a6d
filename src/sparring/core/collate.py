"""From lists of token ids to tensors: padding, and batches of limited size."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sparring.core.batch import Groups
from sparring.core.errors import DataError


def make_groups(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[Sequence[int]]],
    *,
    pad_id: int,
    device: torch.device,
) -> Groups:
    """Groups of `prompts[i]` with all of `responses[i]`; response rows keep that order, so `group` never decreases."""
    if len(prompts) != len(responses):
        raise DataError(f"{len(prompts)} prompts came with {len(responses)} lists of responses; each needs its own.")
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise DataError(f"prompt {number} of a batch has no tokens; drop it, for nothing predicts its first token.")
    rows = [response for group in responses for response in group]
    prompt_ids, prompt_mask = pad(prompts, pad_id=pad_id, left=True)
    response_ids, response_mask = pad(rows, pad_id=pad_id, left=False)
    group = torch.tensor([number for number, group in enumerate(responses) for _ in group], dtype=torch.long)
    return Groups(*(part.to(device) for part in (prompt_ids, prompt_mask, response_ids, response_mask, group)))


def pad(
    rows: Sequence[Sequence[int]], *, pad_id: int, left: bool
) -> tuple[Int[Tensor, "rows time"], Bool[Tensor, "rows time"]]:
    """Rows as wide as the longest, and which places hold a token."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    width = max((len(row) for row in rows), default=0)
    place = torch.arange(width).expand(len(rows), width)
    mask = place >= width - lengths[:, None] if left else place < lengths[:, None]
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    ids[mask] = torch.tensor([token for row in rows for token in row], dtype=torch.long)
    return ids, mask


def cut_batches(lengths: Sequence[int], rows: Sequence[int], budget: int) -> list[list[int]]:
    """Items of `rows[i]` rows, each `lengths[i]` long, in batches of at most `budget` tokens, padding included.

    The longest come first, so that a batch too large for the memory fails at once. An item above the budget is a batch
    of its own.
    """
    batches: list[list[int]] = []
    width = used = 0
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not batches or (used + rows[item]) * width > budget:
            batches.append([])
            width, used = lengths[item], 0
        batches[-1].append(item)
        used += rows[item]
    return batches
