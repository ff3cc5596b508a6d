from collections.abc import Callable

import pytest

from sparring.core.errors import DataError
from sparring.core.types import Candidates, Prompt
from sparring.policy.policy import Policy
from sparring.policy.room import check_prompts
from sparring.policy.scoring import score, with_teacher

Ask = Callable[..., Prompt]
CONTEXT = 128  # of the small models of these tests


def test_a_prompt_without_room_for_its_response_is_named(chat_policy: Policy, ask: Ask) -> None:
    prompts = [ask("the cat"), ask("the dog ran to the red door " * 10, "long")]
    length = len(chat_policy.render(prompts[1]))
    rendered = check_prompts(chat_policy, prompts, max_new_tokens=CONTEXT - length, teacher=True)
    assert rendered == [chat_policy.render(prompt) for prompt in prompts]
    with pytest.raises(
        DataError, match=rf"prompt long \('the dog ran to the red door the' ...\) has {length} tokens"
    ) as error:
        check_prompts(chat_policy, prompts, max_new_tokens=CONTEXT + 1 - length, teacher=False)
    assert f"max_new_tokens={CONTEXT + 1 - length}" in str(error.value)
    assert "context of 128" in str(error.value)


def answered(policy: Policy, ask: Ask, tokens: int) -> Prompt:
    """A prompt whose teacher's answer makes both together exactly `tokens` long."""
    prompt = ask("the cat", "p")
    words = tokens - len(policy.render(prompt)) - 1  # the end token
    text = "9" * words  # a byte that was never merged
    assert len(policy.encode_response(text)) == words + 1
    return ask("the cat", "p", teacher=text)


@pytest.mark.parametrize("max_new_tokens", [0, 100])
def test_a_teachers_answer_may_fill_the_context_and_not_a_token_more(
    max_new_tokens: int, chat_policy: Policy, ask: Ask
) -> None:
    check_prompts(chat_policy, [answered(chat_policy, ask, CONTEXT)], max_new_tokens=max_new_tokens, teacher=True)
    longer = answered(chat_policy, ask, CONTEXT + 1)
    check_prompts(chat_policy, [longer], max_new_tokens=max_new_tokens, teacher=False)
    length = len(chat_policy.render(longer))
    with pytest.raises(DataError, match=f"prompt p .* has {length} tokens, .* context of {CONTEXT}") as error:
        check_prompts(chat_policy, [longer], max_new_tokens=max_new_tokens, teacher=True)
    assert f"its teacher's answer of {CONTEXT + 1 - length} tokens" in str(error.value)


def test_a_prompt_that_fills_the_context_alone_is_named(chat_policy: Policy, ask: Ask) -> None:
    with pytest.raises(DataError, match="prompt long"):
        check_prompts(chat_policy, [ask("9" * 200, "long")], max_new_tokens=0, teacher=True)


def test_a_teachers_answer_that_cannot_be_scored_is_not_made_a_candidate(chat_policy: Policy, ask: Ask) -> None:
    fitting, longer = (answered(chat_policy, ask, tokens) for tokens in (CONTEXT, CONTEXT + 1))
    groups = [Candidates(prompt, chat_policy.render(prompt), ()) for prompt in (fitting, longer)]
    [scored] = score(chat_policy, [with_teacher(chat_policy, groups[0])], token_budget=1000)
    assert scored.responses[0].logp < 0
    with pytest.raises(DataError, match="its teacher's answer"):
        with_teacher(chat_policy, groups[1])
