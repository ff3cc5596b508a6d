"""Reference log-probabilities where the sampler's own do not serve: another reference, or pairs of older rounds."""

import time
from typing import Any

import pyarrow as pa

from sparring.data.rounds import Chunks
from sparring.data.schema import to_candidates
from sparring.policy.policy import Policy
from sparring.policy.scoring import score_groups

REFERENCE = pa.schema({"prompt_id": pa.string(), "ref_logp": pa.list_(pa.float64())})


def score_reference(policy: Policy, chunks: Chunks, number: int, *, token_budget: int) -> None:
    """Score the candidates of chunk `number` with `policy`, which did not sample them, and write the chunk's table."""
    started = time.perf_counter()
    candidates = list(to_candidates(chunks.rows("candidates", number)))
    logps = score_groups(
        policy,
        [c.prompt_ids for c in candidates],
        [[r.ids for r in c.responses] for c in candidates],
        token_budget=token_budget,
    )
    rows = [{"prompt_id": c.prompt.id, "ref_logp": row} for c, row in zip(candidates, logps, strict=True)]
    chunks.write("reference", number, REFERENCE, rows, {"seconds": {"reference": time.perf_counter() - started}})


def rescore_pairs(policy: Policy, rows: list[dict[str, Any]], *, token_budget: int) -> list[dict[str, Any]]:
    """Pair rows with `*_ref_logp` computed anew; a response that stands in several pairs is scored once."""
    groups: dict[tuple[int, str], tuple[list[int], dict[int, list[int]]]] = {}
    for row in rows:
        _, members = groups.setdefault((row["source_round"], row["prompt_id"]), (row["prompt_ids"], {}))
        members[row["chosen_index"]] = row["chosen_ids"]
        members[row["rejected_index"]] = row["rejected_ids"]
    scores = score_groups(
        policy,
        [prompt for prompt, _ in groups.values()],
        [list(members.values()) for _, members in groups.values()],
        token_budget=token_budget,
    )
    logps = {
        key: dict(zip(members, row, strict=True))
        for (key, (_, members)), row in zip(groups.items(), scores, strict=True)
    }
    return [
        row
        | {
            f"{side}_ref_logp": logps[row["source_round"], row["prompt_id"]][row[f"{side}_index"]]
            for side in ("chosen", "rejected")
        }
        for row in rows
    ]
