"""From judged candidates to rows of a pairs table: in a round, and for stored rounds without a model or a judge."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sparring.core.preference import win_rates
from sparring.core.types import Candidates, Judgement
from sparring.data.rounds import RoundStore, read_rows
from sparring.data.schema import pair_row, to_candidates, to_judgement
from sparring.pairing.funnel import Pairing
from sparring.rollout.statistics import SampleStatistics


def pair_rows(
    pairing: Pairing,
    candidates: Candidates,
    judgement: Judgement,
    ref_logps: Sequence[float],
    source_round: int,
    statistics: SampleStatistics,
) -> Iterator[dict[str, Any]]:
    """The pairs of one prompt, which `statistics` counts."""
    pairs, funnel = pairing(candidates, judgement)
    statistics.add(candidates, judgement, pairs, funnel)
    rates = self_win_rates(candidates, pairing.preferences(judgement))
    for pair in pairs:
        yield pair_row(pair, candidates, ref_logps, rates, judgement.scores, source_round)


def self_win_rates(candidates: Candidates, judgement: Judgement) -> list[float]:
    """P(response beats the round's policy) of each candidate: opponents are the policy's own samples."""
    is_policy = np.array([response.origin == "policy" for response in candidates.responses])
    return win_rates(judgement.win, is_policy, opponents="policy").tolist()


def stored(store: RoundStore, index: int) -> Iterator[tuple[Candidates, Judgement, list[float]]]:
    """The prompts of a finished round, each with its judgement and its responses' reference log-probabilities."""
    rows, again = itertools.tee(read_rows(store.table(index, "candidates")))
    references = (row["ref_logp"] for row in again)
    for candidates, row in zip(to_candidates(rows), read_rows(store.table(index, "judgements")), strict=True):
        yield candidates, to_judgement(row), list(itertools.islice(references, len(candidates.responses)))
