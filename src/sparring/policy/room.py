"""Whether prompts and answers fit the model's context, which is to be known before a run begins.

Beyond it a model with learned positions fails on the device, and one without them says nothing and is wrong.
"""

from collections.abc import Sequence

from sparring.core.errors import DataError
from sparring.core.types import Prompt
from sparring.policy.policy import Policy


def check_prompts(
    policy: Policy, prompts: Sequence[Prompt], *, max_new_tokens: int, teacher: bool
) -> list[tuple[int, ...]]:
    """The rendered prompts; an error if one leaves no room for `max_new_tokens` or, with `teacher`, for its teacher."""
    rendered = [policy.render(prompt) for prompt in prompts]
    for prompt, ids in zip(prompts, rendered, strict=True):
        if len(ids) + max_new_tokens > policy.context:
            raise _too_long(policy, prompt, ids, f"max_new_tokens={max_new_tokens}", "lower max_new_tokens")
        if teacher and prompt.teacher is not None:
            check_teacher(policy, prompt, ids, policy.encode_response(prompt.teacher))
    return rendered


def check_teacher(policy: Policy, prompt: Prompt, prompt_ids: Sequence[int], answer_ids: Sequence[int]) -> None:
    if len(prompt_ids) + len(answer_ids) > policy.context:
        raise _too_long(
            policy, prompt, prompt_ids, f"its teacher's answer of {len(answer_ids)} tokens", "shorten the answer"
        )


def _too_long(policy: Policy, prompt: Prompt, ids: Sequence[int], beside: str, remedy: str) -> DataError:
    words = " ".join(prompt.text.split()[:8])
    return DataError(
        f"prompt {prompt.id} ({words!r} ...) has {len(ids)} tokens, and with {beside} exceeds the model's context of "
        f"{policy.context}; drop it or {remedy}."
    )
