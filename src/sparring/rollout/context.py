"""Where a rollout works: which round, which rank, which directory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from sparring.core.protocols import PromptSource
from sparring.data.rounds import Chunks, RoundStore
from sparring.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class RoundContext:
    """`policies[t]` is a file of the trainable weights after t rounds, for t from 0 to `index`."""

    store: RoundStore
    index: int
    seed: int
    rank: int = 0
    world_size: int = 1
    policies: tuple[Path, ...] = ()
    engine: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def chunks(self) -> Chunks:
        return self.store.chunks(self.index)

    def owns(self, chunk: int) -> bool:
        """Whether this rank makes chunk `chunk`."""
        return chunk % self.world_size == self.rank


@runtime_checkable
class Rollout(Protocol):
    """Makes the data of a round: `collect` on every rank, then `assemble` on rank 0."""

    @property
    def prompts(self) -> PromptSource: ...

    def collect(self, policy: Policy, context: RoundContext) -> None: ...

    def assemble(self, context: RoundContext) -> None: ...
