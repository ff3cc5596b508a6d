"""Keys and values of prompts that were read before: a prompt that begins like one of them is computed from there on.

In a game every prompt repeats the whole history, and reading it anew would be most of the work of a short answer.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import DynamicCache

from sparring.core.collate import pad

Prompts = Sequence[Sequence[int]]


class Memory:
    """Of the last batch that was read, whatever its order. Good for one state of one policy's weights."""

    def __init__(self) -> None:
        self._ids = np.empty((0, 0), dtype=np.int64)  # right-padded with -1
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._slots = torch.empty(0, 0, dtype=torch.long)  # where in the layers a row's tokens are, in their order

    def match(self, prompts: Prompts) -> tuple[list[int], list[int]]:
        """Of each prompt the row that begins most like it, and how many tokens they share: its last is never one."""
        rows, shared = [0] * len(prompts), [0] * len(prompts)
        for number, prompt in enumerate(prompts if len(self._ids) else ()):
            begin = np.asarray(prompt[: min(len(prompt) - 1, self._ids.shape[1])])
            same = (self._ids[:, : len(begin)] == begin).cumprod(1).sum(1)
            rows[number] = int(same.argmax())
            shared[number] = int(same[rows[number]])
        return rows, shared

    def recall(self, cache: DynamicCache, rows: Sequence[int], shared: Sequence[int]) -> None:
        """Begin an empty cache with the shared tokens, right-padded."""
        row = torch.tensor(rows, device=self._slots.device)[:, None]
        slots = self._slots[row, torch.arange(max(shared), device=self._slots.device)]
        for number, (keys, values) in enumerate(self._layers):
            cache.update(keys[row, :, slots].transpose(1, 2), values[row, :, slots].transpose(1, 2), number)

    def keep(self, prompts: Prompts, cache: DynamicCache, mask: Bool[Tensor, "rows time"]) -> None:
        """Remember what `cache` holds, and nothing else. Later tokens may be written behind, for these are views."""
        ids, held = pad(prompts, pad_id=-1, left=False)
        self._ids = ids.numpy()
        self._slots = torch.argsort(~mask, dim=1, stable=True)[:, : held.shape[1]]
        self._layers = [(layer.keys, layer.values) for layer in cache.layers]  # pyright: ignore[reportAttributeAccessIssue]
