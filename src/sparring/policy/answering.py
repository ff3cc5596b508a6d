"""A policy as one who is asked: its likeliest answer to each conversation. Training samples come from `sampler.py`."""

from collections.abc import Sequence

from transformers import LogitsProcessorList, TopKLogitsWarper

from sparring.core.answers import Answer
from sparring.core.collate import cut_batches
from sparring.core.torch_seeding import torch_seed
from sparring.core.types import Message, Prompt
from sparring.policy.decoding import decode
from sparring.policy.policy import Policy


def answer(
    policy: Policy, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int, token_budget: int
) -> list[Answer | None]:
    """Greedy answers, in order; None where a conversation leaves no room for `max_new_tokens` in the context.

    A batch holds at most `token_budget` tokens, as a sampler's does.
    """
    rendered = [policy.render(Prompt(str(place), tuple(said))) for place, said in enumerate(conversations)]
    fitting = [place for place, ids in enumerate(rendered) if len(ids) + max_new_tokens <= policy.context]
    lengths = [len(rendered[place]) + max_new_tokens for place in fitting]
    greedy = LogitsProcessorList([TopKLogitsWarper(1)])
    answers: dict[int, Answer] = {}
    with policy.evaluating(), torch_seed(0, policy.device):  # decoding draws numbers that others count on
        for batch in cut_batches(lengths, [1] * len(fitting), token_budget):
            places = [fitting[item] for item in batch]
            prompts = [rendered[place] for place in places]
            rows = decode(policy, prompts, copies=1, max_new_tokens=max_new_tokens, warpers=greedy)
            for place, prompt, ids in zip(places, prompts, rows, strict=True):
                text = policy.decode(prompt, ids)
                answers[place] = Answer(text, "the policy", len(prompt), len(ids), 0.0)
    return [answers.get(place) for place in range(len(rendered))]
