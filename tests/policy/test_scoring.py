import math
from collections.abc import Callable

import pytest
import torch

from sparring.core.types import Candidates, Prompt
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler
from sparring.policy.scoring import score, score_groups, with_teacher

Ask = Callable[..., Prompt]
SAMPLER = Sampler(3, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=20, token_budget=10_000)


@pytest.fixture
def candidates(chat_policy: Policy, ask: Ask) -> list[Candidates]:
    prompts = [ask("the cat", "a"), ask("one day a small bird", "b", teacher="found a big ball."), ask("hello", "c")]
    return [with_teacher(chat_policy, group) for group in SAMPLER(chat_policy, prompts, seed=0)]


@torch.no_grad()
def slow_logp(policy: Policy, prompt: tuple[int, ...], response: tuple[int, ...]) -> float:
    logits = policy.model(torch.tensor([prompt + response]), use_cache=False).logits[0].double()
    steps = torch.arange(len(response))
    return logits.log_softmax(-1)[len(prompt) - 1 + steps, torch.tensor(response)].sum().item()


@pytest.mark.parametrize("budget", [1, 100, 10_000])
def test_scores_are_those_of_one_row_at_a_time(budget: int, chat_policy: Policy, candidates: list[Candidates]) -> None:
    scored = score(chat_policy, candidates, token_budget=budget)
    assert [group.prompt.id for group in scored] == ["a", "b", "c"]
    for group in scored:
        for response in group.responses:
            assert math.isclose(
                response.logp, slow_logp(chat_policy, group.prompt_ids, response.ids), rel_tol=0, abs_tol=1e-4
            )


def test_scoring_changes_nothing_but_the_score(chat_policy: Policy, candidates: list[Candidates]) -> None:
    scored = score(chat_policy, candidates, token_budget=10_000)
    for before, after in zip(candidates, scored, strict=True):
        assert [(r.text, r.ids, r.origin, r.finish, r.defect) for r in before.responses] == [
            (r.text, r.ids, r.origin, r.finish, r.defect) for r in after.responses
        ]
        assert all(math.isnan(response.logp) for response in before.responses)


def test_the_teachers_answer_comes_last_and_ends_as_the_policy_would_end_it(candidates: list[Candidates]) -> None:
    assert [len(group.responses) for group in candidates] == [3, 4, 3]
    teacher = candidates[1].responses[-1]
    assert (teacher.text, teacher.origin, teacher.finish) == ("found a big ball.", "teacher", "stop")
    assert teacher.ids[-1] == 3


def test_prompts_without_responses_get_empty_rows(chat_policy: Policy) -> None:
    scores = score_groups(chat_policy, [[1, 5], [1, 6]], [[], [[7, 2]]], token_budget=100)
    assert scores[0] == []
    assert math.isclose(scores[1][0], slow_logp(chat_policy, (1, 6), (7, 2)), abs_tol=1e-4)
    assert score_groups(chat_policy, [], [], token_budget=100) == []


def test_the_sum_over_all_first_words_is_one(chat_policy: Policy) -> None:
    words = [[word] for word in range(len(chat_policy.tokenizer))]
    scores = score_groups(chat_policy, [[1, 5, 6]], [words], token_budget=10_000)[0]
    assert math.isclose(sum(map(math.exp, scores)), 1.0, rel_tol=1e-5)
