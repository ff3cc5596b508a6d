"""Log-probabilities of whole candidate sets, without gradients; they are the reference of the losses."""

from collections.abc import Sequence
from dataclasses import replace

from sparring.core.collate import cut_batches, make_groups
from sparring.core.types import Candidates, Response
from sparring.policy.policy import Policy
from sparring.policy.room import check_teacher


def score(policy: Policy, candidates: Sequence[Candidates], *, token_budget: int) -> list[Candidates]:
    """The same candidates with `logp` filled in, a teacher's response included."""
    scores = score_groups(
        policy,
        [group.prompt_ids for group in candidates],
        [[response.ids for response in group.responses] for group in candidates],
        token_budget=token_budget,
    )
    return [
        replace(group, responses=tuple(replace(r, logp=logp) for r, logp in zip(group.responses, row, strict=True)))
        for group, row in zip(candidates, scores, strict=True)
    ]


def score_groups(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[Sequence[int]]],
    *,
    token_budget: int,
) -> list[list[float]]:
    """Sequence log-probabilities, in nats, for every response of every prompt.

    Groups stay whole and share batches with groups of similar length, at most `token_budget` tokens each.
    """
    lengths = [
        len(prompt) + max((len(ids) for ids in group), default=0)
        for prompt, group in zip(prompts, responses, strict=True)
    ]
    scores: list[list[float]] = [[] for _ in prompts]
    with policy.evaluating():
        for batch in cut_batches(lengths, [len(group) for group in responses], token_budget):
            rows = [responses[i] for i in batch]
            groups = make_groups([prompts[i] for i in batch], rows, pad_id=policy.pad_id, device=policy.device)
            logps = iter(policy.logp(groups).tolist())
            for i in batch:
                scores[i] = [next(logps) for _ in responses[i]]
    return scores


def with_teacher(policy: Policy, candidates: Candidates) -> Candidates:
    """The candidates and the prompt's teacher response, where it has one."""
    text = candidates.prompt.teacher
    if text is None:
        return candidates
    ids = policy.encode_response(text)
    check_teacher(policy, candidates.prompt, candidates.prompt_ids, ids)
    teacher = Response(text, ids, origin="teacher", finish="stop", logp=float("nan"))
    return replace(candidates, responses=(*candidates.responses, teacher))
