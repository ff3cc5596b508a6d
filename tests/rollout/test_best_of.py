"""Best-of-n keeps what its annotator prefers of what its sampler draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from sparring.core.errors import ConfigError, RoundError
from sparring.core.protocols import Ask
from sparring.core.types import Candidates, Judgement, Prompt
from sparring.policy.linear_alignment import LinearAlignmentSampler
from sparring.policy.policy import Policy
from sparring.policy.principled import PrincipledSampler
from sparring.policy.sampler import Sampler
from sparring.rollout.best_of import BestOfSampler, best_of

torch.set_num_threads(1)

SETTINGS = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8, "token_budget": 10_000}
SAMPLER = Sampler(1, **SETTINGS)  # type: ignore
STEERED = LinearAlignmentSampler(1, **SETTINGS, principle="be kind.", ratio=1.0, mode="official")  # type: ignore
PROMPTED = PrincipledSampler(1, **SETTINGS, principle="be kind.")  # type: ignore


@pytest.fixture
def prompts(ask: Callable[..., Prompt]) -> list[Prompt]:
    return [ask(text, f"p{number}") for number, text in enumerate(["the cat", "one day", "hello"])]


def largest(ids: Sequence[int]) -> int:
    return max(ids)


def by_largest_token(batch: Sequence[Candidates]) -> list[Judgement]:
    """Prefers, with certainty, the response with the largest token id."""
    judgements = []
    for candidates in batch:
        marks = np.array([largest(response.ids) for response in candidates.responses])
        judgements.append(Judgement((np.sign(marks[:, None] - marks[None, :]) + 1) / 2))
    return judgements


@pytest.mark.parametrize("sampler", [SAMPLER, PROMPTED, STEERED], ids=["plain", "principle", "steered"])
@pytest.mark.parametrize("kept", [1, 2])
def test_each_response_is_the_best_of_its_own_draws(
    sampler: Sampler, kept: int, chat_policy: Policy, prompts: list[Prompt]
) -> None:
    best = BestOfSampler(replace(sampler, num_generations=kept), by_largest_token, 5)
    told: list[int] = []
    drawing: list[int] = []
    drawn = replace(sampler, num_generations=5 * kept)(chat_policy, prompts, seed=2, on_tokens=drawing.append)
    for chosen, group in zip(best(chat_policy, prompts, seed=2, on_tokens=told.append), drawn, strict=True):
        assert (chosen.prompt, chosen.prompt_ids) == (group.prompt, group.prompt_ids)
        assert len(chosen.responses) == kept
        for place, response in enumerate(chosen.responses):
            draws = group.responses[5 * place : 5 * place + 5]
            assert response.ids == max(draws, key=lambda each: largest(each.ids)).ids
    assert told == drawing


def test_the_best_wins_most_on_average_and_the_first_of_equals_is_kept(
    chat_policy: Policy, prompts: list[Prompt]
) -> None:
    [candidates] = replace(SAMPLER, num_generations=4)(chat_policy, prompts[:1], seed=0)
    # 1 beats 0 narrowly and nobody else, 2 beats 0 and 1 clearly, 3 is as good as 2 against all others.
    win = [[0.5, 0.4, 0.1, 0.1], [0.6, 0.5, 0.1, 0.1], [0.9, 0.9, 0.5, 0.5], [0.9, 0.9, 0.5, 0.5]]
    assert best_of(candidates, Judgement(np.array(win))) is candidates.responses[2]
    cycle = [[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]]
    three = replace(candidates, responses=candidates.responses[:3])
    assert best_of(three, Judgement(np.array(cycle))) is candidates.responses[0]


@dataclass
class Asking:
    """An annotator that asks the policy itself."""

    lent: list[Ask] = field(default_factory=list)

    def bind(self, ask: Ask) -> None:
        self.lent.append(ask)

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        assert self.lent
        return by_largest_token(batch)


def test_an_annotator_that_asks_the_policy_is_lent_the_one_that_draws(chat_policy: Policy, prompts: list) -> None:
    judge = Asking()
    BestOfSampler(SAMPLER, judge, 2)(chat_policy, prompts, seed=0)
    assert len(judge.lent) == 1


def test_draws_without_a_verdict_are_an_error_that_names_the_prompt(chat_policy: Policy, prompts: list) -> None:
    def silent(batch: Sequence[Candidates]) -> list[Judgement]:
        return [replace(judgement, status="refused") for judgement in by_largest_token(batch)]

    with pytest.raises(RoundError, match=r"no verdict on the draws for prompt p0 \(refused\).*; drop the prompt"):
        BestOfSampler(SAMPLER, silent, 2)(chat_policy, prompts, seed=0)


def test_one_draw_is_no_choice() -> None:
    with pytest.raises(ConfigError, match="n of a best-of-n sampler is 1; it must be 2 or more"):
        BestOfSampler(SAMPLER, by_largest_token, 1)
