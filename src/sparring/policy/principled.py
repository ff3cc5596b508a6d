"""Principle prompting: a sentence on how to answer stands before the prompt, and is not part of it afterwards.

The simplest way to align at decoding time, and what steering (`linear_alignment.py`) has to beat.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sparring.core.errors import ConfigError, DataError
from sparring.core.types import Candidates, Message, Prompt
from sparring.policy.policy import Policy
from sparring.policy.room import check_prompts
from sparring.policy.sampler import Sampler, ignore


def with_principle(prompt: Prompt, principle: str) -> Prompt:
    """The principle as a system message, or at the end of the one that the prompt begins with.

    To a policy without a chat template it is therefore a text before the prompt.
    """
    first, *rest = prompt.messages
    if first.role == "system":
        return replace(prompt, messages=(Message("system", f"{first.content}\n\n{principle}"), *rest))
    return replace(prompt, messages=(Message("system", principle), *prompt.messages))


@dataclass(frozen=True, kw_only=True)
class PrincipledSampler(Sampler):
    """A `Sampler` whose policy is told a principle: one for all prompts or, where it is None, `meta["principle"]`.

    The candidates are those of the prompt as it was asked, and their `prompt_ids` its tokens: who judges, scores or
    trains on them does not see the principle.
    """

    principle: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.principle is not None and not self.principle.strip():
            raise ConfigError("sampler.principle is empty; say it, or set it to null and give every prompt its own.")

    def check_room(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        """Refuse prompts without a principle too, and those that leave no room beside it."""
        self.render(policy, prompts)

    def __call__(
        self, policy: Policy, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object] = ignore
    ) -> list[Candidates]:
        plain, _ = self.render(policy, prompts)
        told = [self.told(prompt) for prompt in prompts]
        sampled = super().__call__(policy, told, seed=seed, on_tokens=on_tokens)
        return [
            replace(candidates, prompt=prompt, prompt_ids=ids)
            for candidates, prompt, ids in zip(sampled, prompts, plain, strict=True)
        ]

    def told(self, prompt: Prompt) -> Prompt:
        principle = prompt.meta.get("principle") if self.principle is None else self.principle
        if not isinstance(principle, str) or not principle.strip():
            raise DataError(
                f"prompt {prompt.id} has no principle in its column 'principle'; give it one, or set its "
                "sampler's principle to one for all."
            )
        return with_principle(prompt, principle)

    def render(self, policy: Policy, prompts: Sequence[Prompt]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Tokens of the prompts without their principles, and with them; both leave room for `max_new_tokens`."""
        plain = check_prompts(policy, prompts, max_new_tokens=self.max_new_tokens, teacher=False)
        principled = [policy.render(self.told(prompt)) for prompt in prompts]
        for prompt, without, ids in zip(prompts, plain, principled, strict=True):
            if ids == without:
                raise DataError(
                    f"prompt {prompt.id} reads the same with its principle as without, for the model's chat template "
                    "leaves system messages out; use a template that has them."
                )
            if len(ids) + self.max_new_tokens > policy.context:
                raise DataError(
                    f"prompt {prompt.id} has {len(ids)} tokens with its principle, {len(without)} without, and with "
                    f"max_new_tokens={self.max_new_tokens} exceeds the model's context of {policy.context}; shorten "
                    "the principle, or lower max_new_tokens."
                )
        return plain, principled
