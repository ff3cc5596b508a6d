"""Prompts as Lightning sees them where nothing is trained: chunk by chunk, and not again what was answered before."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import lightning as L

from sparring.core.types import Prompt


class PromptChunk(NamedTuple):
    """Chunk `number` of a run's prompts; it comes without any where it was answered before."""

    number: int
    prompts: tuple[Prompt, ...]


class PromptChunks(L.LightningDataModule):
    """Serves `prompts` by the positions of their chunks; `answered` says of a chunk whether to leave its prompts out.

    Such a chunk comes all the same, for Lightning calls no hook of a run without batches.
    """

    def __init__(self, prompts: Sequence[Prompt], chunks: Sequence[range], *, answered: Callable[[int], bool]) -> None:
        super().__init__()
        self.prompts, self.chunks, self.answered = prompts, chunks, answered

    def test_dataloader(self) -> "PromptChunks":
        return self

    def predict_dataloader(self) -> "PromptChunks":
        return self

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[PromptChunk]:
        for number, positions in enumerate(self.chunks):
            asked = () if self.answered(number) else tuple(self.prompts[place] for place in positions)
            yield PromptChunk(number, asked)

    def transfer_batch_to_device(self, batch: PromptChunk, device: object, dataloader_idx: int) -> PromptChunk:
        """As it is: prompts are text."""
        return batch
