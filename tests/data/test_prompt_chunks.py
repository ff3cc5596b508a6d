"""Chunks of prompts, of which those that were answered before come without their prompts."""

from collections.abc import Callable

from sparring.core.types import Prompt
from sparring.data.prompt_chunks import PromptChunk, PromptChunks


def test_every_chunk_comes_and_an_answered_one_without_its_prompts(ask: Callable[..., Prompt]) -> None:
    prompts = [ask(text) for text in "abcde"]
    answered = {1}
    chunks = PromptChunks(prompts, [range(0, 2), range(2, 4), range(4, 5)], answered=answered.__contains__)
    first, second, last = prompts[:2], prompts[2:4], prompts[4:]
    assert list(chunks.test_dataloader()) == [
        PromptChunk(0, tuple(first)),
        PromptChunk(1, ()),
        PromptChunk(2, tuple(last)),
    ]
    answered.clear()  # it is asked when the chunk comes
    assert list(chunks.predict_dataloader())[1] == PromptChunk(1, tuple(second))
    assert len(chunks) == 3
