"""A way of decoding as a LightningModule: what it answers is what its sampler draws, and nothing can be trained."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden

from sparring.core.answers import Expense
from sparring.core.errors import ConfigError
from sparring.core.seeding import derive_seed
from sparring.core.types import Candidates, Judgement, Prompt
from sparring.data.prompt_chunks import PromptChunk, PromptChunks
from sparring.objectives.decoding import Decoding, Drawn
from sparring.policy.linear_alignment import LinearAlignmentSampler
from sparring.policy.policy import Policy
from sparring.policy.principled import PrincipledSampler
from sparring.policy.sampler import Sampler
from sparring.rollout.best_of import BestOfSampler

torch.set_num_threads(1)

SETTINGS = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8, "token_budget": 10_000}
PLAIN = Sampler(2, **SETTINGS)  # type: ignore
TOLD = PrincipledSampler(2, **SETTINGS, principle="be kind.")  # type: ignore
STEERED = LinearAlignmentSampler(2, **SETTINGS, principle="be kind.", ratio=1.0, mode="official")  # type: ignore


@pytest.fixture
def prompts(ask: Callable[..., Prompt]) -> list[Prompt]:
    return [ask(text, f"p{number}") for number, text in enumerate(["the cat", "one day", "hello", "return"])]


class Steps(L.Callback):
    """What the steps of a trainer gave."""

    def __init__(self) -> None:
        self.drawn: list[Drawn] = []

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.drawn.append(outputs["drawn"])

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.drawn.append(outputs)


def steps(way: str, objective: Decoding, prompts: Sequence[Prompt], *answered: int) -> list[Drawn]:
    seen = Steps()
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, callbacks=[seen], max_epochs=1,
    )  # fmt: skip
    data = PromptChunks(prompts, [range(0, 3), range(3, len(prompts))], answered=answered.__contains__)
    if way == "test":
        trainer.test(objective, datamodule=data, verbose=False)
    else:
        trainer.predict(objective, datamodule=data, return_predictions=False)
    return seen.drawn


def ids(candidates: Sequence[Candidates]) -> list:
    return [(group.prompt.id, [response.ids for response in group.responses]) for group in candidates]


@pytest.mark.parametrize("way", ["test", "predict"])
@pytest.mark.parametrize("sampler", [PLAIN, TOLD, STEERED], ids=["plain", "principle", "linear alignment"])
def test_a_chunk_is_answered_as_its_sampler_does_with_the_chunks_own_seed(
    way: str, sampler: Sampler, chat_policy: Policy, prompts: list[Prompt]
) -> None:
    drawn = steps(way, Decoding(chat_policy, sampler, chunk_size=3, seed=5), prompts)
    for number, chunk in enumerate((prompts[:3], prompts[3:])):
        told: list[int] = []
        seed = derive_seed(5, number)
        assert ids(drawn[number].candidates) == ids(sampler(chat_policy, chunk, seed=seed, on_tokens=told.append))
        assert (drawn[number].seed, drawn[number].tokens, drawn[number].expense) == (seed, sum(told), Expense())
        assert drawn[number].seconds > 0


def test_a_chunk_that_was_answered_before_is_not_answered_and_changes_no_other(
    chat_policy: Policy, prompts: list[Prompt]
) -> None:
    objective = Decoding(chat_policy, STEERED, chunk_size=3, seed=5)
    both, rest = steps("test", objective, prompts), steps("test", objective, prompts, 0)
    assert (rest[0].candidates, rest[0].tokens) == ([], 0)
    assert ids(rest[1].candidates) == ids(both[1].candidates)


def test_what_choosing_takes_is_told(chat_policy: Policy, prompts: list[Prompt]) -> None:
    def judge(batch: Sequence[Candidates]) -> list[Judgement]:
        win = np.full((3, 3), 0.5)
        return [Judgement(win, calls=3, prompt_tokens=7, cost=0.25, cached=1) for _ in batch]

    best = BestOfSampler(replace(STEERED, num_generations=2), judge, 3)
    first, _ = steps("test", Decoding(chat_policy, best, chunk_size=3, seed=5), prompts)
    assert first.expense == Expense(calls=18, prompt_tokens=42, cost=1.5, cached=6)  # two of each of three prompts
    told: list[int] = []
    assert ids(first.candidates) == ids(best(chat_policy, prompts[:3], seed=derive_seed(5, 0), on_tokens=told.append))
    assert first.tokens == sum(told)


def test_it_has_neither_a_loss_nor_an_optimiser(chat_policy: Policy) -> None:
    objective = Decoding(chat_policy, PLAIN, chunk_size=1, seed=0)
    assert not any(is_overridden(name, objective) for name in ("training_step", "configure_optimizers"))
    assert {name for name, _ in objective.named_parameters()} == {
        f"policy.{n}" for n, _ in chat_policy.named_parameters()
    }


def test_a_chunk_holds_something(chat_policy: Policy) -> None:
    with pytest.raises(ConfigError, match=r"objective\.chunk_size is 0; it must be 1 or more"):
        Decoding(chat_policy, PLAIN, chunk_size=0, seed=0)


def test_prompts_are_not_moved_to_a_device(ask: Callable[..., Prompt]) -> None:
    chunk = PromptChunk(0, (ask("a"),))
    assert PromptChunks([], [], answered=bool).transfer_batch_to_device(chunk, torch.device("meta"), 0) is chunk
