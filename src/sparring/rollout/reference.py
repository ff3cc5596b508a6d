"""The frozen policy in the loss, where the round's own policy is not all of it, and pairs of older rounds.

A reference is a weighted sum of log-probabilities under a few policies: the round's (`previous`), the one training
began with (`initial`), an exponential average of the weights of all rounds' policies so far (`ema`). The geometric
mixture of the round's and the initial policy is the reference of DNO's regularised variant (arXiv 2404.03715,
appendix A), whose last iterate converges.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from safetensors.torch import load_file
from torch import Tensor

from sparring.core.errors import ConfigError
from sparring.data.rounds import Chunks
from sparring.data.schema import to_candidates
from sparring.policy.policy import Policy
from sparring.policy.scoring import score_groups

ReferenceName = Literal["previous", "initial", "ema"]

REFERENCE = pa.schema({"prompt_id": pa.string(), "ref_logp": pa.list_(pa.float64())})


@dataclass(frozen=True)
class Reference:
    """log ref = (1 - anchor) * log `name` + anchor * log initial, per response; unnormalised, as losses need it.

    `anchor` is tau / eta of the regularised game, 0 in the plain one. `ema_decay` is the weight of the past when a
    round's policy joins the average.
    """

    name: ReferenceName
    ema_decay: float
    anchor: float

    def __post_init__(self) -> None:
        for key in ("ema_decay", "anchor"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(f"rollout.{key} is {getattr(self, key)}; it must be at least 0 and below 1.")

    def parts(self, index: int) -> dict[str, float]:
        """The policies of round `index`'s reference and their weights; in round 0 all of them are one."""
        if index == 0:
            return {"previous": 1.0}
        weights = {self.name: 1.0 - self.anchor}
        if self.anchor:
            weights["initial"] = weights.get("initial", 0.0) + self.anchor
        return weights

    @contextmanager
    def standing_in(self, part: str, policy: Policy, policies: Sequence[Path]) -> Iterator[None]:
        """Inside, `policy` has the weights of a part; `policies` are the files of the rounds' policies so far."""
        if part == "previous":
            yield
            return
        with policy.using_state(policies[0] if part == "initial" else averaged(policies, self.ema_decay)):
            yield


def averaged(policies: Sequence[Path], decay: float) -> dict[str, Tensor]:
    """average_0 = policy_0; average_t = decay * average_(t-1) + (1 - decay) * policy_t. In the weights' own dtype."""
    average = load_file(policies[0])
    for path in policies[1:]:
        for name, weight in load_file(path).items():
            average[name].lerp_(weight, 1.0 - decay)
    return average


def mixed(values: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[float]:
    """The weighted sum of each response's log-probabilities, one list per part."""
    rows = zip(*(values[part] for part in weights), strict=True)
    return [sum(weight * value for weight, value in zip(weights.values(), row, strict=True)) for row in rows]


def score_candidates(policy: Policy, chunks: Chunks, number: int, *, table: str, token_budget: int) -> None:
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
    chunks.write(table, number, REFERENCE, rows, {"seconds": {"reference": time.perf_counter() - started}})


def rescore_pairs(policy: Policy, rows: list[dict[str, Any]], *, token_budget: int) -> list[dict[str, Any]]:
    """Pair rows with `*_ref_logp` computed anew; a response that stands in several pairs is scored once."""
    groups: dict[tuple[int, str], tuple[list[int], dict[int, list[int]]]] = {}
    for row in rows:
        _, members = groups.setdefault((row["source_round"], row["prompt_id"]), (row["prompt_ids"], {}))
        for side in _sides(row):
            members[row[f"{side}_index"]] = row[f"{side}_ids"]
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
            for side in _sides(row)
        }
        for row in rows
    ]


def mixed_pairs(tables: Mapping[str, list[dict[str, Any]]], weights: Mapping[str, float]) -> list[dict[str, Any]]:
    """The same pair rows, scored by each part, as rows scored by the reference."""
    mixtures: list[dict[str, Any]] = []
    for versions in zip(*tables.values(), strict=True):
        row = dict(versions[0])
        for side in _sides(row):
            name = f"{side}_ref_logp"
            row[name] = mixed({part: [version[name]] for part, version in zip(tables, versions, strict=True)}, weights)[
                0
            ]
        mixtures.append(row)
    return mixtures


def _sides(row: Mapping[str, Any]) -> list[str]:
    return [side for side in ("chosen", "rejected") if row[f"{side}_index"] is not None]
