"""Linear Alignment (arXiv 2401.11458) and other ways of decoding, as something a run can be about like a loss.

The baseline of what is trained: nothing is, the policy answers as it is. There is no loss here and no optimiser; what
the answers are worth is measured by the callbacks that measure trained policies.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import lightning as L

from sparring.core.answers import Expense
from sparring.core.errors import ConfigError
from sparring.core.seeding import derive_seed
from sparring.core.types import Candidates, Prompt
from sparring.data.prompt_chunks import PromptChunk
from sparring.objectives.base import OptimizerFactory
from sparring.objectives.precision import decoding_precision
from sparring.policy.policy import Policy


@runtime_checkable
class Draws(Protocol):
    """A way of decoding: a `Sampler`, steered or not, or one that chooses among what another has drawn."""

    @property
    def num_generations(self) -> int: ...

    def __call__(
        self, policy: Policy, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object]
    ) -> list[Candidates]: ...


@runtime_checkable
class Chooses(Protocol):
    """A way of decoding that has an annotator choose, and says what that took."""

    def choose(
        self, policy: Policy, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object]
    ) -> tuple[list[Candidates], Expense]: ...


class Drawn(NamedTuple):
    """The answers to a chunk, `logp` not known, and what they took: `tokens` were computed in `seconds`."""

    candidates: Sequence[Candidates]
    seed: int
    tokens: int = 0
    seconds: float = 0.0
    expense: Expense = Expense()


class Decoding(L.LightningModule):
    """The policy as `sampler` decodes it, for `trainer.test` and `trainer.predict`, which are the same here.

    A batch is a chunk of at most `chunk_size` prompts, and its samples depend on `seed` and its number alone. No
    log-probabilities: those of the policy are not those of the distribution that was drawn from. `optimizer` is not
    looked at, but settings and studies give every objective one.
    """

    def __init__(
        self,
        policy: Policy,
        sampler: Draws,
        *,
        chunk_size: int,
        seed: int,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        super().__init__()
        if chunk_size < 1:
            raise ConfigError(f"objective.chunk_size is {chunk_size}; it must be 1 or more.")
        self.policy, self.sampler = policy, sampler
        self.chunk_size, self.seed = chunk_size, seed

    def test_step(self, batch: PromptChunk, batch_idx: int) -> dict[str, Drawn]:
        return {"drawn": self.predict_step(batch, batch_idx)}

    def predict_step(self, batch: PromptChunk, batch_idx: int) -> Drawn:
        seed = derive_seed(self.seed, batch.number)
        if not batch.prompts:
            return Drawn([], seed)
        told: list[int] = []
        started = time.perf_counter()
        with decoding_precision(self.trainer):
            if isinstance(self.sampler, Chooses):
                drawn, expense = self.sampler.choose(self.policy, batch.prompts, seed=seed, on_tokens=told.append)
            else:
                drawn = self.sampler(self.policy, batch.prompts, seed=seed, on_tokens=told.append)
                expense = Expense()
        return Drawn(drawn, seed, sum(told), time.perf_counter() - started, expense)
