import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LogitsProcessorList, MistralConfig, TopKLogitsWarper

from sparring.core.errors import ConfigError, DataError
from sparring.core.types import Candidates, Prompt
from sparring.policy.decoding import decode, draw
from sparring.policy.loading import load_policy
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler

Ask = Callable[..., Prompt]
SAMPLER = Sampler(4, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=12, token_budget=10_000)
GREEDY = replace(SAMPLER, num_generations=1, top_k=1, max_new_tokens=40)
WORDS = ["the cat", "one day a small bird found a big ball, and", "hello", "return the first word of", "the girl said"]


@pytest.fixture
def prompts(ask: Ask) -> list[Prompt]:
    return [ask(text, f"p{number}") for number, text in enumerate(WORDS)]


def ids_of(candidates: list[Candidates]) -> list[list[tuple[int, ...]]]:
    return [[response.ids for response in group.responses] for group in candidates]


@pytest.fixture
def ending_policy(chat_policy: Policy) -> Policy:
    """Its end tokens are more likely by one nat, so that rows of a batch end at many different steps."""

    def favour_ends(module: torch.nn.Module, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        logits[..., list(chat_policy.eos_ids)] += 1.0
        return logits

    head = chat_policy.base.get_output_embeddings()
    assert head is not None
    head.register_forward_hook(favour_ends)
    return chat_policy


@torch.no_grad()
def generated(policy: Policy, prompt: Prompt, max_new_tokens: int) -> tuple[int, ...]:
    """Greedy decoding by the library, one prompt alone."""
    ids = torch.tensor([policy.render(prompt)])
    output = policy.base.generate(  # type: ignore
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(policy.eos_ids),
        pad_token_id=policy.pad_id,
    )
    return tuple(output[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize("budget", [1, 200, 10_000])
def test_greedy_samples_are_those_of_generate(budget: int, ending_policy: Policy, prompts: list[Prompt]) -> None:
    sampled = replace(GREEDY, token_budget=budget)(ending_policy, prompts, seed=0)
    assert ids_of(sampled) == [[generated(ending_policy, prompt, 40)] for prompt in prompts]


def test_a_temperature_near_zero_is_greedy(plain_policy: Policy, prompts: list[Prompt]) -> None:
    cold = replace(GREEDY, top_k=0, temperature=1e-6, num_generations=2)
    expected = [[generated(plain_policy, prompt, 40)] * 2 for prompt in prompts]
    assert ids_of(cold(plain_policy, prompts, seed=0)) == expected


def test_greedy_stories_end_at_either_end_token(stories260k: Path, ask: Ask) -> None:
    policy = load_policy(str(stories260k))
    prompts = [ask(text) for text in ("Once upon a time, there was a dog.", "The end. They were happy")]
    sampled = replace(GREEDY, max_new_tokens=300)(policy, prompts, seed=0)
    assert ids_of(sampled) == [[generated(policy, prompt, 300)] for prompt in prompts]
    finished = [group.responses[0] for group in sampled if group.responses[0].finish == "stop"]
    assert finished  # stories of this model end with token 1, not with the tokenizer's end token 2
    assert all(response.ids[-1] == 1 for response in finished)


def test_a_cache_with_a_sliding_window_is_sampled_correctly(chat_policy: Policy, prompts: list[Prompt]) -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=4,
        initializer_range=0.25,
    )
    policy = Policy(AutoModelForCausalLM.from_config(config).eval(), chat_policy.tokenizer)
    sampled = GREEDY(policy, prompts, seed=0)
    assert ids_of(sampled) == [[generated(policy, prompt, 40)] for prompt in prompts]


def test_candidates_stand_in_the_order_of_the_prompts(chat_policy: Policy, prompts: list[Prompt]) -> None:
    sampled = replace(SAMPLER, token_budget=120)(chat_policy, prompts, seed=0)
    assert [group.prompt for group in sampled] == prompts
    assert [group.prompt_ids for group in sampled] == [chat_policy.render(prompt) for prompt in prompts]
    assert all(len(group.responses) == 4 for group in sampled)


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(
    chat_policy: Policy, prompts: list[Prompt]
) -> None:
    first = ids_of(SAMPLER(chat_policy, prompts, seed=1))
    torch.manual_seed(99)
    assert ids_of(SAMPLER(chat_policy, prompts, seed=1)) == first
    assert ids_of(SAMPLER(chat_policy, prompts, seed=2)) != first
    assert len({row for group in first for row in group}) > 10  # copies of a prompt draw their own numbers


def test_equal_prompts_in_different_batches_get_different_samples(chat_policy: Policy, ask: Ask) -> None:
    sampled = replace(SAMPLER, token_budget=1)(chat_policy, [ask("the cat"), ask("the cat")], seed=0)
    assert sampled[0].responses != sampled[1].responses


def test_samples_end_at_their_first_end_token_or_at_the_limit(chat_policy: Policy, prompts: list[Prompt]) -> None:
    head = chat_policy.base.get_output_embeddings()
    assert head is not None

    def end_often(module: torch.nn.Module, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        logits[..., list(chat_policy.eos_ids)] = logits.logsumexp(-1, keepdim=True) - 2.5  # one in seven steps
        return logits

    head.register_forward_hook(end_often)
    responses = [
        r for group in replace(SAMPLER, num_generations=20)(chat_policy, prompts, seed=0) for r in group.responses
    ]
    assert {response.finish for response in responses} == {"stop", "length"}
    assert {response.ids[-1] for response in responses if response.finish == "stop"} == {2, 3}
    for response in responses:
        ended = [token in chat_policy.eos_ids for token in response.ids]
        assert not any(ended[:-1])
        assert ended[-1] == (response.finish == "stop")
        assert (response.defect == "no_end") == (response.finish == "length")
        assert response.finish == "stop" or len(response.ids) == 12
        assert not {"<|end|>", "</s>"} & set(response.text.split())


def test_sampled_words_have_the_probabilities_of_the_model(chat_policy: Policy, ask: Ask) -> None:
    """Pearson's statistic of 6000 first words, at temperature 0.5 and top-k 20: 19 degrees of freedom."""
    prompt, count = ask("the cat"), 6000
    sampler = replace(SAMPLER, num_generations=count, max_new_tokens=1, temperature=0.5, top_k=20, token_budget=10**6)
    sampled = torch.tensor([r.ids[0] for r in sampler(chat_policy, [prompt], seed=0)[0].responses])
    with torch.no_grad():
        logits = chat_policy.model(torch.tensor([chat_policy.render(prompt)])).logits[0, -1] / 0.5
    best, words = logits.topk(20)
    expected = count * best.softmax(-1)
    observed = (sampled[:, None] == words).sum(0)
    assert observed.sum() == count  # nothing outside the 20
    assert expected.min() > 5
    assert ((observed - expected) ** 2 / expected).sum() < 43.8  # exceeded by chance once in a thousand


def test_top_p_keeps_the_fewest_words_that_reach_it(chat_policy: Policy, ask: Ask) -> None:
    sampler = replace(SAMPLER, num_generations=500, max_new_tokens=1, top_p=0.5)
    sampled = {r.ids[0] for r in sampler(chat_policy, [ask("the cat")], seed=0)[0].responses}
    with torch.no_grad():
        probabilities, words = (
            chat_policy.model(torch.tensor([chat_policy.render(ask("the cat"))]))
            .logits[0, -1]
            .softmax(-1)
            .sort(descending=True)
        )
    needed = int((probabilities.cumsum(0) < 0.5).sum()) + 1
    assert sampled <= set(words[:needed].tolist())


def test_a_word_without_probability_is_never_drawn() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]]).expand(2000, -1)
    assert set(draw(logits, LogitsProcessorList()).tolist()) == {1, 3}
    assert set(draw(torch.arange(5.0).expand(100, -1), LogitsProcessorList([TopKLogitsWarper(1)])).tolist()) == {4}


def test_rows_that_end_do_not_change_the_others(ending_policy: Policy) -> None:
    prompts = [(1, *range(7, 20)), *((1, 5, word) for word in range(10, 25))]
    greedy = LogitsProcessorList([TopKLogitsWarper(1)])
    with ending_policy.evaluating():
        together = decode(ending_policy, prompts, copies=1, max_new_tokens=30, warpers=greedy)
        alone = [decode(ending_policy, [p], copies=1, max_new_tokens=30, warpers=greedy)[0] for p in prompts]
    assert together == alone
    assert len({len(row) for row in together}) > 5


def test_progress_is_told_of_every_sampled_token(chat_policy: Policy, prompts: list[Prompt]) -> None:
    told: list[int] = []
    sampled = replace(SAMPLER, token_budget=150)(chat_policy, prompts, seed=0, on_tokens=told.append)
    assert len(told) > 1
    assert sum(told) == sum(len(row) for group in ids_of(sampled) for row in group)


def test_sampling_leaves_mode_and_generator_alone(chat_policy: Policy, prompts: list[Prompt]) -> None:
    chat_policy.train()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    SAMPLER(chat_policy, prompts, seed=0)
    assert torch.equal(torch.rand(1), expected)
    assert chat_policy.training
    assert chat_policy.model.training


def test_no_prompts_give_no_candidates(chat_policy: Policy) -> None:
    assert SAMPLER(chat_policy, [], seed=0) == []


def test_a_prompt_without_room_for_its_samples_is_not_sampled(chat_policy: Policy, ask: Ask) -> None:
    prompt = ask("the dog ran to the red door " * 10, "long")
    room = 128 - len(chat_policy.render(prompt))
    assert len(replace(SAMPLER, max_new_tokens=room)(chat_policy, [prompt], seed=0)) == 1
    with pytest.raises(DataError, match=r"prompt long .* max_new_tokens"):
        replace(SAMPLER, max_new_tokens=room + 1)(chat_policy, [prompt], seed=0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_generations", 0),
        ("temperature", 0.0),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("max_new_tokens", 0),
    ],
)
def test_settings_that_cannot_sample_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"sampler.{setting} is {value}"):
        replace(SAMPLER, **{setting: value})
