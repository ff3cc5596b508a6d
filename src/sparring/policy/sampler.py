"""Sampling K responses per prompt with the model in memory.

Log-probabilities are not recorded here but computed by the training forward (`scoring.py`), for in bf16 the two differ.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from sparring.core.collate import cut_batches
from sparring.core.errors import ConfigError
from sparring.core.seeding import derive_seed
from sparring.core.torch_seeding import torch_seed
from sparring.core.types import Candidates, Prompt, Response
from sparring.policy.decoding import decode
from sparring.policy.defects import find_defect
from sparring.policy.policy import Policy
from sparring.policy.room import check_prompts


def ignore(tokens: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Sampler:
    """Draws `num_generations` responses per prompt; `top_k` 0 and `top_p` 1 are off, and `top_k` 1 is greedy.

    A batch holds at most `token_budget` tokens: its rows times the longest prompt and `max_new_tokens`. Samples are
    scored in batches of at most `scoring_budget` tokens. A sample is marked defective when it does not end, or when
    more than `max_repeat_share` of its `repeat_ngram`-grams repeat.
    """

    num_generations: int
    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    token_budget: int
    min_new_tokens: int = 0
    scoring_budget: int = 16384
    repeat_ngram: int = 8
    max_repeat_share: float = 0.2

    def __post_init__(self) -> None:
        for name in ("num_generations", "max_new_tokens", "token_budget", "scoring_budget", "repeat_ngram"):
            if getattr(self, name) < 1:
                raise ConfigError(f"sampler.{name} is {getattr(self, name)}; it must be 1 or more.")
        if not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"sampler.temperature is {self.temperature}; it must be above 0 and finite: for greedy decoding set "
                "top_k=1."
            )
        if not 0 <= self.min_new_tokens <= self.max_new_tokens:
            raise ConfigError(
                f"sampler.min_new_tokens is {self.min_new_tokens}; it must be from 0 to sampler.max_new_tokens, "
                f"which is {self.max_new_tokens}."
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"sampler.top_p is {self.top_p}; it must be above 0 and at most 1.")
        if self.top_k < 0:
            raise ConfigError(f"sampler.top_k is {self.top_k}; it must be 0 (off) or more.")

    @property
    def single(self) -> "Sampler":
        """What samples the policy as it is, with these settings; a mixture samples others, a principle steers it."""
        if type(self) is Sampler:
            return self
        return Sampler(**{each.name: getattr(self, each.name) for each in fields(Sampler)})

    def check_room(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        """Refuse prompts that leave no room for `max_new_tokens`, as sampling would."""
        check_prompts(policy, prompts, max_new_tokens=self.max_new_tokens, teacher=False)

    def __call__(
        self, policy: Policy, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object] = ignore
    ) -> list[Candidates]:
        """Candidates in the order of `prompts`, `logp` not yet known. `on_tokens` hears of each batch's new tokens."""
        rendered = check_prompts(policy, prompts, max_new_tokens=self.max_new_tokens, teacher=False)
        lengths = [len(ids) + self.max_new_tokens for ids in rendered]
        batches = cut_batches(lengths, [self.num_generations] * len(prompts), self.token_budget)
        candidates: dict[int, Candidates] = {}
        with policy.evaluating():
            for number, batch in enumerate(batches):
                with torch_seed(derive_seed(seed, number), policy.device):
                    rows = decode(
                        policy,
                        [rendered[i] for i in batch],
                        copies=self.num_generations,
                        max_new_tokens=self.max_new_tokens,
                        min_new_tokens=self.min_new_tokens,
                        warpers=self.warpers(),
                    )
                on_tokens(sum(len(row) for row in rows))
                for place, i in enumerate(batch):
                    samples = rows[place * self.num_generations : (place + 1) * self.num_generations]
                    responses = tuple(self.response(policy, rendered[i], ids) for ids in samples)
                    candidates[i] = Candidates(prompts[i], rendered[i], responses)
        return [candidates[i] for i in range(len(prompts))]

    def response(self, policy: Policy, prompt_ids: tuple[int, ...], ids: tuple[int, ...]) -> Response:
        finish = "stop" if ids[-1] in policy.eos_ids else "length"
        defect = find_defect(ids, finish, ngram=self.repeat_ngram, max_repeat_share=self.max_repeat_share)
        return Response(policy.decode(prompt_ids, ids), ids, "policy", finish, float("nan"), defect)

    def warpers(self) -> LogitsProcessorList:
        warpers = LogitsProcessorList()
        if self.temperature != 1:
            warpers.append(TemperatureLogitsWarper(self.temperature))
        if self.top_k:
            warpers.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            warpers.append(TopPLogitsWarper(self.top_p))
        return warpers
