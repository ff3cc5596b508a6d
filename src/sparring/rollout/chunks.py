"""Sampling and judging in chunks: what a rollout does for training rounds, and a callback for held-out prompts.

A chunk is a fixed set of prompts with a seed of its own, sampled by one rank; so a round does not depend on how many
ranks made it, and a killed run loses one chunk at most.
"""

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from sparring.core.errors import RoundError
from sparring.core.preference import check_win_matrix
from sparring.core.protocols import Annotator, NeedsPolicy
from sparring.core.seeding import derive_seed
from sparring.core.types import Candidates, Prompt
from sparring.data.rounds import Chunks
from sparring.data.schema import CANDIDATES, JUDGEMENTS, candidate_rows, judgement_row, to_candidates
from sparring.policy.answering import Answering
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler
from sparring.policy.scoring import score, with_teacher


def chunk_ranges(prompts: int, chunk_size: int) -> list[range]:
    return [range(start, min(start + chunk_size, prompts)) for start in range(0, prompts, chunk_size)]


def sample_chunk(
    policy: Policy,
    sampler: Sampler,
    prompts: Sequence[Prompt],
    chunks: Chunks,
    number: int,
    *,
    seed: int,
    fingerprint: str,
    teacher: bool,
    bar: "tqdm[Any]",
) -> list[Candidates]:
    """The candidates of chunk `number`, read back if an earlier process has sampled it with the same policy."""
    if chunks.has("candidates", number):
        check_sampled(chunks, number, fingerprint, prompts)
        return list(to_candidates(chunks.rows("candidates", number)))
    started = time.perf_counter()
    sampled = sampler(policy, prompts, seed=derive_seed(seed, number), on_tokens=bar.update)
    if teacher:
        sampled = [with_teacher(policy, candidates) for candidates in sampled]
    between = time.perf_counter()
    scored = score(policy, sampled, token_budget=sampler.scoring_budget)
    _require_finite(scored)
    facts = {
        "policy": fingerprint,
        "prompts": prompts_hash(prompts),
        "seed": derive_seed(seed, number),
        "seconds": {"sample": between - started, "reference": time.perf_counter() - between},
    }
    rows = [row for candidates in scored for row in candidate_rows(candidates)]
    chunks.write("candidates", number, CANDIDATES, rows, facts)
    return list(to_candidates(chunks.rows("candidates", number)))


def check_sampled(chunks: Chunks, number: int, fingerprint: str, prompts: Sequence[Prompt]) -> None:
    """Refuse a chunk that an earlier process sampled with another policy or for other prompts."""
    facts = chunks.facts("candidates", number)
    for what, stored, now in (
        ("policy", facts["policy"], fingerprint),
        ("prompts", facts["prompts"], prompts_hash(prompts)),
    ):
        if stored != now:
            raise RoundError(
                f"{chunks.path('candidates', number)} was sampled with {what} {stored}, but now they are {now}; "
                "bring back what it was sampled with, or start over with resume=never overwrite=true."
            )


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    return hashlib.sha256("".join(prompt.id for prompt in prompts).encode()).hexdigest()[:16]


def _require_finite(scored: Sequence[Candidates]) -> None:
    for candidates in scored:
        for response in candidates.responses:
            if not math.isfinite(response.logp):
                raise RoundError(
                    f"the policy gives a response to prompt {candidates.prompt.id} log-probability {response.logp}: "
                    "its weights have diverged; lower the learning rate, then resume=never overwrite=true."
                )


def annotate_chunk(annotator: Annotator, candidates: list[Candidates], chunks: Chunks, number: int) -> None:
    """Judge the candidates of a chunk and write the judgements; an annotator that breaks its contract stops the run."""
    started = time.perf_counter()
    judgements = annotator(candidates)
    if len(judgements) != len(candidates):
        raise RoundError(
            f"{type(annotator).__name__} returned {len(judgements)} judgements for {len(candidates)} prompts; "
            "an annotator must answer every prompt, with a status where it has no verdict."
        )
    for one, judgement in zip(candidates, judgements, strict=True):
        check_win_matrix(judgement.win, f"prompt {one.prompt.id}")
        if len(judgement.win) != len(one.responses):
            raise RoundError(
                f"{type(annotator).__name__} judged {len(judgement.win)} candidates of prompt {one.prompt.id}, "
                f"which has {len(one.responses)}; an annotator must judge every candidate."
            )
    rows = [judgement_row(c, j) for c, j in zip(candidates, judgements, strict=True)]
    cached = sum(judgement.cached for judgement in judgements)  # a fact of this process, so no column of the table
    facts = {"seconds": {"annotate": time.perf_counter() - started}, "cached": cached}
    chunks.write("judgements", number, JUDGEMENTS, rows, facts)


def lend(policy: Policy, annotator: Annotator | None) -> None:
    """Let an annotator that asks the policy itself ask this one, until another is lent."""
    if isinstance(annotator, NeedsPolicy):
        annotator.bind(Answering(policy))


def progress(description: str, unit: str, rank: int) -> "tqdm[Any]":
    """A progress bar with a rate on a terminal's rank 0, nothing elsewhere."""
    return tqdm(desc=description, unit=unit, unit_scale=True, leave=False, disable=True if rank else None)


def merged(chunks: Chunks, table: str) -> Iterator[dict[str, object]]:
    """All rows of a table, chunk by chunk, in the order of the prompts."""
    for number in range(chunks.count(table)):
        yield from chunks.rows(table, number)


def total_cached(chunks: Chunks) -> int:
    """How many of the judge calls in all chunks were answered before they were asked."""
    return sum(chunks.facts("judgements", number)["cached"] for number in range(chunks.count("judgements")))


def total_seconds(chunks: Chunks, table: str) -> dict[str, float]:
    """What the chunks of a table took, by stage, whichever processes and ranks made them."""
    totals: dict[str, float] = {}
    for number in range(chunks.count(table)):
        for stage, seconds in chunks.facts(table, number)["seconds"].items():
            totals[stage] = totals.get(stage, 0.0) + seconds
    return totals
