"""Best-of-n: alignment by choosing, with whatever sampler draws and whatever annotator chooses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparring.core.answers import Expense
from sparring.core.errors import ConfigError, RoundError
from sparring.core.protocols import Annotator
from sparring.core.types import Candidates, Judgement, Prompt, Response
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler, ignore
from sparring.rollout.chunks import lend


@dataclass(frozen=True)
class BestOfSampler:
    """Each of `sampler.num_generations` responses is the best of `n` draws: it wins most against the n on average.

    The first of equals is kept. What is told of tokens counts all draws, for all have been paid for.
    """

    sampler: Sampler
    annotator: Annotator
    n: int

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ConfigError(f"n of a best-of-n sampler is {self.n}; it must be 2 or more, for one is not chosen.")

    @property
    def num_generations(self) -> int:
        return self.sampler.num_generations

    def __call__(
        self, policy: Policy, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object] = ignore
    ) -> list[Candidates]:
        """Candidates in the order of `prompts`, `logp` not yet known."""
        return self.choose(policy, prompts, seed=seed, on_tokens=on_tokens)[0]

    def choose(
        self, policy: Policy, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object] = ignore
    ) -> tuple[list[Candidates], Expense]:
        """The candidates, and what it took to have them chosen."""
        kept = self.sampler.num_generations
        sampler = replace(self.sampler, num_generations=kept * self.n)
        drawn = sampler(policy, prompts, seed=seed, on_tokens=on_tokens)
        groups = [
            replace(candidates, responses=candidates.responses[start : start + self.n])
            for candidates in drawn
            for start in range(0, kept * self.n, self.n)
        ]
        lend(policy, self.annotator)
        judgements = self.annotator(groups)
        best = [best_of(*judged) for judged in zip(groups, judgements, strict=True)]
        chosen = [
            replace(candidates, responses=tuple(best[place * kept : (place + 1) * kept]))
            for place, candidates in enumerate(drawn)
        ]
        return chosen, sum((judgement.expense for judgement in judgements), Expense())


def best_of(candidates: Candidates, judgement: Judgement) -> Response:
    if judgement.status != "ok":
        raise RoundError(
            f"the annotator gives no verdict on the draws for prompt {candidates.prompt.id} ({judgement.status}), so "
            "none is the best; drop the prompt, or choose with another annotator."
        )
    return candidates.responses[int(judgement.win.mean(1).argmax())]


def drawing(sampler: Any) -> Sampler:
    """What draws, where another one chooses."""
    return sampler.sampler if isinstance(sampler, BestOfSampler) else sampler
