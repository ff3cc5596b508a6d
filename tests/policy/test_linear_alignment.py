"""Steered samples: the same as from two uncached contexts, one response at a time, whatever the batch."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList

from sparring.cli.check import check_targets
from sparring.core.collate import pad
from sparring.core.errors import ConfigError, DataError
from sparring.core.seeding import derive_seed
from sparring.core.types import Candidates, Prompt
from sparring.policy.linear_alignment import LinearAlignmentSampler
from sparring.policy.loading import load_policy
from sparring.policy.policy import Policy
from sparring.policy.principled import PrincipledSampler, with_principle
from sparring.policy.sampler import Sampler
from sparring.policy.speaking import speak
from sparring.policy.steering import Steering, combine_logits

torch.set_num_threads(1)

PRINCIPLE = "the girl said hello."
SETTINGS: dict[str, Any] = {"temperature": 0.7, "top_p": 0.8, "top_k": 0, "max_new_tokens": 14, "token_budget": 10_000}
SAMPLER = LinearAlignmentSampler(3, **SETTINGS, principle=PRINCIPLE, ratio=1.5, mode="official")
GREEDY = replace(SAMPLER, num_generations=1, top_k=1, max_new_tokens=30)
WORDS = ["the cat", "one day a small bird found a big ball, and", "hello", "return the first word of", "the girl said"]

Ids = list[list[tuple[int, ...]]]


@pytest.fixture
def prompts(ask: Callable[..., Prompt]) -> list[Prompt]:
    return [ask(text, f"p{number}") for number, text in enumerate(WORDS)]


@pytest.fixture
def policy(chat_policy: Policy) -> Policy:
    """In float64, for in float32 rounding alone can change a draw; responses end at many different steps."""
    head = chat_policy.base.get_output_embeddings()
    assert head is not None

    def favour_ends(module: torch.nn.Module, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        logits[..., list(chat_policy.eos_ids)] += 2.0
        return logits

    head.register_forward_hook(favour_ends)
    return chat_policy.double()


def ids_of(candidates: Sequence[Candidates]) -> Ids:
    return [[response.ids for response in group.responses] for group in candidates]


@torch.no_grad()
def one_by_one(policy: Policy, sampler: LinearAlignmentSampler, prompts: Sequence[Prompt], seed: int) -> Ids:
    """The definition: no cache, no padding, no batch."""
    policy.eval()

    def last(ids: Sequence[int]) -> torch.Tensor:
        return policy.model(torch.tensor([ids])).logits[:, -1]

    def response(place: int, copy: int) -> tuple[int, ...]:
        plain, told = (policy.render(prompt) for prompt in (prompts[place], with_principle(prompts[place], PRINCIPLE)))
        said: list[int] = []
        for number in np.random.default_rng(derive_seed(seed, place, copy)).random(sampler.max_new_tokens):
            scores = [last([*ids, *said]) for ids in (told, plain)]
            if len(said) < sampler.min_new_tokens:
                scores = [each.index_fill(1, torch.tensor(policy.eos_ids), -torch.inf) for each in scores]
            settings = {"ratio": sampler.ratio, "temperature": sampler.temperature, "top_p": sampler.top_p}
            weights = combine_logits(*scores, **settings, mode=sampler.mode).exp().double()[0]  # type: ignore
            if sampler.top_k == 1:
                weights = (weights == weights.max()).double()
            cumulative = weights.cumsum(0)
            said.append(int((cumulative <= number * cumulative[-1]).sum()))
            if said[-1] in policy.eos_ids:
                break
        return tuple(said)

    return [[response(place, copy) for copy in range(sampler.num_generations)] for place in range(len(prompts))]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mode": "demo", "ratio": 3.0},
        {"mode": "none", "ratio": 0.5},
        {"top_k": 1, "ratio": 4.0},
        {"min_new_tokens": 5},
        {"ratio": -1.0},
    ],
)
def test_a_batch_is_what_two_contexts_say_one_response_at_a_time(
    changes: dict, policy: Policy, prompts: list[Prompt]
) -> None:
    sampler = replace(SAMPLER, **changes)
    expected = one_by_one(policy, sampler, prompts, seed=3)
    assert ids_of(sampler(policy, prompts, seed=3)) == expected
    lengths = {len(row) for group in expected for row in group}
    assert len(lengths) > 2  # rows left the batch at different steps
    assert min(lengths) > sampler.min_new_tokens


@pytest.mark.parametrize("budget", [1, 250])
def test_samples_do_not_depend_on_batches(budget: int, policy: Policy, prompts: list[Prompt]) -> None:
    together = ids_of(SAMPLER(policy, prompts, seed=5))
    assert ids_of(replace(SAMPLER, token_budget=budget)(policy, prompts, seed=5)) == together
    assert together != ids_of(SAMPLER(policy, prompts, seed=6))
    assert len({row for group in together for row in group}) > 10  # copies draw numbers of their own


def test_a_model_without_a_chat_template_is_steered_too(plain_policy: Policy, prompts: list[Prompt]) -> None:
    policy = plain_policy.double()
    assert ids_of(SAMPLER(policy, prompts, seed=2)) == one_by_one(policy, SAMPLER, prompts, seed=2)


def test_at_ratio_zero_it_is_principle_prompting(policy: Policy, prompts: list[Prompt]) -> None:
    plain = Sampler(1, **SETTINGS)
    told = [policy.render(with_principle(prompt, PRINCIPLE)) for prompt in prompts]
    spoken = speak(policy, plain, told, [derive_seed(8, place, 0) for place in range(len(prompts))])
    steered = ids_of(replace(SAMPLER, ratio=0.0, num_generations=1)(policy, prompts, seed=8))
    assert steered == [[response.ids] for response in spoken if response is not None]
    prompting = replace(PrincipledSampler(1, **SETTINGS, principle=PRINCIPLE), top_k=1)
    greedy = replace(SAMPLER, ratio=0.0, num_generations=1, top_k=1)
    assert ids_of(greedy(policy, prompts, seed=0)) == ids_of(prompting(policy, prompts, seed=0))


def test_at_ratio_minus_one_without_a_nucleus_it_is_plain_decoding(policy: Policy, prompts: list[Prompt]) -> None:
    plain = replace(Sampler(1, **SETTINGS), top_p=1.0)
    spoken = speak(policy, plain, [policy.render(p) for p in prompts], [derive_seed(8, p, 0) for p in range(5)])
    steered = ids_of(replace(SAMPLER, ratio=-1.0, num_generations=1, mode="none")(policy, prompts, seed=8))
    assert steered == [[response.ids] for response in spoken if response is not None]


def test_greedy_steering_is_that_of_the_librarys_loop(chat_policy: Policy, prompts: list[Prompt]) -> None:
    told = [chat_policy.render(with_principle(prompt, PRINCIPLE)) for prompt in prompts]
    ids, mask = pad(told + [chat_policy.render(p) for p in prompts], pad_id=chat_policy.pad_id, left=True)
    processor = Steering(ratio=1.5, temperature=0.7, top_p=0.8, mode="official")
    output = chat_policy.base.eval().generate(  # type: ignore
        input_ids=ids,
        attention_mask=mask.long(),
        do_sample=False,
        max_new_tokens=30,
        eos_token_id=list(chat_policy.eos_ids),
        pad_token_id=chat_policy.pad_id,
        logits_processor=LogitsProcessorList([processor]),
    )[:, ids.shape[1] :]
    assert torch.equal(output[:5], output[5:])
    steered = [group[0] for group in ids_of(GREEDY(chat_policy, prompts, seed=0))]
    assert [tuple(row[: len(ids)]) for row, ids in zip(output[:5].tolist(), steered, strict=True)] == steered


def test_a_token_costs_two_rows_of_one_forward(policy: Policy, prompts: list[Prompt]) -> None:
    calls: list[tuple[int, ...]] = []
    policy.base.register_forward_pre_hook(
        lambda module, arguments, named: calls.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    sampled = replace(GREEDY, num_generations=1, max_new_tokens=7, min_new_tokens=6)(policy, prompts[:1], seed=0)
    assert len(sampled[0].responses[0].ids) == 7
    width = len(policy.render(with_principle(prompts[0], PRINCIPLE)))
    assert calls == [(2, width)] + [(2, 1)] * 6


def test_candidates_are_those_of_the_plain_prompts_and_progress_counts_the_tokens_of_both_contexts(
    policy: Policy, prompts: list[Prompt]
) -> None:
    told: list[int] = []
    sampled = replace(SAMPLER, token_budget=300)(policy, prompts, seed=0, on_tokens=told.append)
    assert [group.prompt for group in sampled] == prompts
    assert [group.prompt_ids for group in sampled] == [policy.render(prompt) for prompt in prompts]
    assert len(told) > 1
    assert sum(told) == 2 * sum(len(row) for group in ids_of(sampled) for row in group)
    for response in (response for group in sampled for response in group.responses):
        assert (response.finish == "stop") == (response.ids[-1] in policy.eos_ids)


def test_every_prompt_can_be_steered_by_a_principle_of_its_own(policy: Policy, prompts: list[Prompt]) -> None:
    own = [replace(prompts[0], meta={"principle": PRINCIPLE}), replace(prompts[1], meta={"principle": "the dog ran"})]
    first, second = ids_of(replace(SAMPLER, principle=None)(policy, own, seed=1))
    assert first == ids_of(SAMPLER(policy, own, seed=1))[0]
    assert second == ids_of(replace(SAMPLER, principle="the dog ran")(policy, own, seed=1))[1]
    assert second != ids_of(SAMPLER(policy, own, seed=1))[1]


def test_torchs_generator_is_not_touched(chat_policy: Policy, prompts: list[Prompt]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    SAMPLER(chat_policy, prompts, seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_a_ratio_that_leaves_no_probability_stops_with_the_reason(chat_policy: Policy, prompts: list[Prompt]) -> None:
    with pytest.raises(ConfigError, match=r"at ratio 3e\+38 no token has a probability .* lower sampler.ratio"):
        replace(SAMPLER, ratio=3e38, mode="none")(chat_policy, prompts, seed=0)
    for ratio in ("inf", "nan", "1e+39"):  # float32 ends at 3.4e38
        with pytest.raises(ConfigError, match=rf"sampler.ratio is {re.escape(ratio)}; it must be a finite number"):
            replace(SAMPLER, ratio=float(ratio))


def test_a_principle_that_overflows_the_context_is_an_error(chat_policy: Policy, prompts: list[Prompt]) -> None:
    with pytest.raises(DataError, match=r"prompt p0 has .* tokens with its principle, .*; shorten the principle"):
        replace(SAMPLER, principle="the cat sat " * 60)(chat_policy, prompts, seed=0)


def test_an_unknown_mode_is_refused_by_its_key() -> None:
    node = {"_target_": "sparring.policy.linear_alignment.LinearAlignmentSampler", "mode": "bold"}
    with pytest.raises(ConfigError, match=r"sampler.mode is 'bold'; it must be 'official' or 'demo' or 'none'"):
        check_targets({"sampler": node})


def test_a_pretrained_model_is_steered_as_by_definition(stories260k: Path, ask: Callable[..., Prompt]) -> None:
    policy = load_policy(str(stories260k)).double()
    prompts = [ask("Once upon a time"), ask("Lily and Ben went to the park. They saw")]
    sampler = replace(SAMPLER, max_new_tokens=40, num_generations=2)
    assert ids_of(sampler(policy, prompts, seed=0)) == one_by_one(policy, sampler, prompts, seed=0)
