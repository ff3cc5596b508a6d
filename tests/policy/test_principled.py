"""What a principle does to a prompt, and what is left of it in the candidates."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sparring.cli.check import check_targets
from sparring.core.errors import ConfigError, DataError
from sparring.core.types import Candidates, Message, Prompt
from sparring.data.stories import PRINCIPLES, StoryCorpus
from sparring.policy.policy import Policy
from sparring.policy.principled import PrincipledSampler, with_principle
from sparring.policy.sampler import Sampler

torch.set_num_threads(1)

SETTINGS = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 12, "token_budget": 10_000}
PLAIN = Sampler(3, **SETTINGS)  # type: ignore
KIND = PrincipledSampler(3, **SETTINGS, principle="the girl said hello.")  # type: ignore


@pytest.fixture
def prompts(ask: Callable[..., Prompt]) -> list[Prompt]:
    return [ask(text, f"p{number}") for number, text in enumerate(["the cat", "one day a small bird", "hello"])]


def ids_of(candidates: list[Candidates]) -> list[list[tuple[int, ...]]]:
    return [[response.ids for response in group.responses] for group in candidates]


def test_a_principle_is_a_system_message_before_the_others() -> None:
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    told = with_principle(Prompt("p", turns, "t", {"x": 1}), "Be brief.")
    assert told == Prompt("p", (Message("system", "Be brief."), *turns), "t", {"x": 1})


def test_a_prompt_that_has_a_system_message_gets_the_principle_at_its_end() -> None:
    told = with_principle(Prompt("p", (Message("system", "You are kind."), Message("user", "a"))), "Be brief.")
    assert told.messages == (Message("system", "You are kind.\n\nBe brief."), Message("user", "a"))


def test_the_tiny_policy_reads_a_principle_as_in_its_corpus() -> None:
    corpus = StoryCorpus(train=40, validation=0, split="same", rounds=1, seed=0).for_round(0)
    under = [prompt for prompt in corpus if "told_under" in prompt.meta]
    assert len(under) > 5
    for prompt in under:
        plain = replace(prompt, messages=prompt.messages[1:])
        assert with_principle(plain, PRINCIPLES[prompt.meta["told_under"]]) == prompt


def test_without_a_chat_template_a_principle_is_text_before_the_prompt(plain_policy: Policy, prompts: list) -> None:
    told = with_principle(prompts[0], "be kind.")
    assert plain_policy.decode((), plain_policy.render(told)) == "be kind.\n\nthe cat"


def test_samples_are_those_of_the_principled_prompt_and_candidates_those_of_the_plain_one(
    chat_policy: Policy, prompts: list[Prompt]
) -> None:
    told = [with_principle(prompt, "the girl said hello.") for prompt in prompts]
    sampled = KIND(chat_policy, prompts, seed=1)
    assert ids_of(sampled) == ids_of(PLAIN(chat_policy, told, seed=1)) != ids_of(PLAIN(chat_policy, prompts, seed=1))
    assert [group.prompt for group in sampled] == prompts
    assert [group.prompt_ids for group in sampled] == [chat_policy.render(prompt) for prompt in prompts]


def test_every_prompt_can_have_a_principle_of_its_own(chat_policy: Policy, prompts: list[Prompt]) -> None:
    principles = ["the girl said hello.", "the dog ran.", "return None"]
    own = [replace(prompt, meta={"principle": said}) for prompt, said in zip(prompts, principles, strict=True)]
    told = [with_principle(prompt, said) for prompt, said in zip(prompts, principles, strict=True)]
    sampled = replace(KIND, principle=None)(chat_policy, own, seed=4)
    assert ids_of(sampled) == ids_of(PLAIN(chat_policy, told, seed=4))
    assert [group.prompt for group in sampled] == own


def test_progress_and_single_form_are_those_of_a_sampler(chat_policy: Policy, prompts: list[Prompt]) -> None:
    told: list[int] = []
    sampled = KIND.single(chat_policy, prompts, seed=0, on_tokens=told.append)
    assert sum(told) == sum(len(row) for group in ids_of(sampled) for row in group)


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_an_empty_principle_is_refused(empty: str) -> None:
    with pytest.raises(ConfigError, match=r"sampler.principle is empty; say it, or set it to null"):
        replace(KIND, principle=empty)


@pytest.mark.parametrize("meta", [{}, {"principle": " "}, {"principle": 3}])
def test_a_prompt_without_a_principle_is_named(meta: dict, chat_policy: Policy, prompts: list[Prompt]) -> None:
    own = [replace(prompts[0], meta={"principle": "be kind."}), replace(prompts[1], meta=meta)]
    with pytest.raises(DataError, match="prompt p1 has no principle in its column 'principle'; give it one, or set"):
        replace(KIND, principle=None)(chat_policy, own, seed=0)


def test_a_principle_that_overflows_the_context_is_an_error_that_gives_both_lengths(
    chat_policy: Policy, prompts: list[Prompt]
) -> None:
    room = chat_policy.context - KIND.max_new_tokens
    long = replace(KIND, principle="the cat sat on the mat and " * 30)
    told, plain = (len(chat_policy.render(prompt)) for prompt in (long.told(prompts[0]), prompts[0]))
    assert told > room > plain
    with pytest.raises(
        DataError,
        match=rf"prompt p0 has {told} tokens with its principle, {plain} without, and with max_new_tokens=12 "
        rf"exceeds the model's context of {chat_policy.context}; shorten the principle",
    ):
        long(chat_policy, prompts, seed=0)


def test_a_template_without_system_messages_is_an_error(chat_policy: Policy, prompts: list[Prompt]) -> None:
    template = chat_policy.tokenizer.chat_template
    chat_policy.tokenizer.chat_template = template.replace("{% for m in messages %}", "{% for m in messages[-1:] %}")
    with pytest.raises(DataError, match="prompt p0 reads the same with its principle as without"):
        KIND(chat_policy, prompts, seed=0)


def test_a_principle_that_is_no_text_is_refused_by_its_key() -> None:
    node = {"_target_": "sparring.policy.principled.PrincipledSampler", "principle": ["a"]}
    with pytest.raises(ConfigError, match=r"sampler.principle is \['a'\]; it must be a text or null"):
        check_targets({"sampler": node})
