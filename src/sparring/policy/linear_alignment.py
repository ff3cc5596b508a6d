"""Sampling under Linear Alignment (arXiv 2401.11458): twice the rows, the same weights.

The arithmetic of a token is in `steering.py`, how a principle enters a prompt in `principled.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import LogitsProcessorList, TopKLogitsWarper

from sparring.core.collate import cut_batches
from sparring.core.seeding import derive_seed
from sparring.core.types import Candidates, Prompt
from sparring.policy.decoding import decode
from sparring.policy.policy import Policy
from sparring.policy.principled import PrincipledSampler
from sparring.policy.sampler import ignore
from sparring.policy.speaking import uniforms
from sparring.policy.steering import Mode, Steering


@dataclass(frozen=True, kw_only=True)
class LinearAlignmentSampler(PrincipledSampler):
    """Draws each token from the policy told the principle, what that changes in its logits added `ratio` times more.

    Every response is two rows of one batch, with the principle and without, that are continued by the same tokens.
    `temperature` and `top_p` are those of the combination, see `steering.py`; `top_k` acts on what it leaves, 1 is
    greedy. The numbers that decide a sample depend on the seed, the prompt's place and the copy, not on batches. What
    is told of tokens counts both contexts, for both are computed.
    """

    ratio: float
    mode: Mode

    def __post_init__(self) -> None:
        super().__post_init__()
        self.warpers()  # which checks its own numbers

    def __call__(
        self, policy: Policy, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object] = ignore
    ) -> list[Candidates]:
        plain, principled = self.render(policy, prompts)
        lengths = [max(map(len, both)) + self.max_new_tokens for both in zip(plain, principled, strict=True)]
        batches = cut_batches(lengths, [2 * self.num_generations] * len(prompts), self.token_budget)
        candidates: dict[int, Candidates] = {}
        with policy.evaluating():
            for batch in batches:
                seeds = [derive_seed(seed, i, copy) for i in batch for copy in range(self.num_generations)]
                rows = decode(
                    policy,
                    [principled[i] for i in batch] + [plain[i] for i in batch],
                    copies=self.num_generations,
                    max_new_tokens=self.max_new_tokens,
                    min_new_tokens=self.min_new_tokens,
                    warpers=self.warpers(),
                    uniforms=uniforms(seeds, self.max_new_tokens).repeat(2, 1),
                )
                steered, contrast = rows[: len(seeds)], rows[len(seeds) :]
                assert steered == contrast  # both contexts held the same response at every step
                on_tokens(sum(len(row) for row in rows))
                for place, i in enumerate(batch):
                    samples = steered[place * self.num_generations : (place + 1) * self.num_generations]
                    responses = tuple(self.response(policy, plain[i], ids) for ids in samples)
                    candidates[i] = Candidates(prompts[i], plain[i], responses)
        return [candidates[i] for i in range(len(prompts))]

    def warpers(self) -> LogitsProcessorList:
        steering = Steering(ratio=self.ratio, temperature=self.temperature, top_p=self.top_p, mode=self.mode)
        return LogitsProcessorList([steering, *([TopKLogitsWarper(self.top_k)] if self.top_k else [])])
