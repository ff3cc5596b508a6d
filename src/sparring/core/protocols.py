"""What can be swapped: one call method each. Hydra's `_target_` is the registry."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from sparring.core.types import Candidates, Judgement, Pair, Prompt


@runtime_checkable
class PromptSource(Protocol):
    """Prompts to train on and, disjoint from them, prompts to measure with."""

    @property
    def validation(self) -> Sequence[Prompt]: ...

    def for_round(self, index: int) -> Sequence[Prompt]:
        """The training prompts of round `index`, in a deterministic random order."""
        ...


@runtime_checkable
class Annotator(Protocol):
    """Turns candidates into preferences, never into pairs. One judgement per candidate set, in order.

    One that compares pairs by logits says so with an attribute `gives_logits = True` and fills `Judgement.logits`.
    """

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]: ...


@runtime_checkable
class PairingStrategy(Protocol):
    """Turns preferences into pairs. Never prefers the candidate that loses; deterministic.

    One that makes single responses says so with an attribute `paired = False`; one that reads no win with
    `needs_judge = False`; one that makes nothing of a prompt without a teacher's answer with `needs_teacher = True`,
    which a filter may have as well.
    """

    def __call__(self, candidates: Candidates, judgement: Judgement) -> list[Pair]: ...


@runtime_checkable
class PairFilter(Protocol):
    """One reason not to train on a proposed pair. Says True if the pair may stay; deterministic."""

    def __call__(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> bool: ...
