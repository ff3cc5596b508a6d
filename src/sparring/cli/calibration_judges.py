"""Recorded preferences and an annotator's answers as numbers, for `analysis.calibration`.

Comparisons of a prompt must stand beside each other here.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, permutations

import numpy as np

from sparring.analysis.calibration import Comparisons, Judge
from sparring.core.preference import logistic
from sparring.core.protocols import Annotator
from sparring.core.types import Candidates, Judgement, Prompt, Response
from sparring.data.judged_formats import Ballot, JudgedPair


@dataclass(frozen=True, slots=True)
class Asked:
    """What an annotator said, and why of some comparisons it said nothing."""

    judge: Judge
    unjudged: Mapping[str, int]
    judgements: tuple[Judgement, ...] = field(repr=False)


# ---------------------------------------------------------------- what is recorded, as numbers


def comparisons_of(pairs: Sequence[JudgedPair]) -> Comparisons:
    rows: list[tuple[int, int, int, int]] = []
    for prompt, (_, group) in enumerate(groupby(pairs, key=lambda pair: pair.prompt.id)):
        numbers: dict[str, int] = {}
        for pair in group:
            a, b = (numbers.setdefault(text, len(numbers)) for text in (pair.a, pair.b))
            rows.append((prompt, a, b, int(np.sign(len(pair.a) - len(pair.b)))))
    return Comparisons(*np.array(rows).T)


def raters_of(pairs: Sequence[JudgedPair]) -> list[Judge]:
    names = dict.fromkeys(ballot.rater for pair in pairs for ballot in pair.ballots)
    return [_rater(name, pairs) for name in names]


def _rater(name: str, pairs: Sequence[JudgedPair]) -> Judge:
    own = [[ballot for ballot in pair.ballots if ballot.rater == name] for pair in pairs]
    ordered = [[_mean(ballots, side) for side in ("a", "b")] for ballots in own]
    return Judge(name, np.array([_mean(ballots) for ballots in own]), np.array(ordered))


def _mean(ballots: Sequence[Ballot], first: str | None = None) -> float:
    """P(a beats b), of those with `first` shown first where it is given; NaN where there is none."""
    said = [ballot.win for ballot in ballots if ballot.win is not None and (first is None or ballot.first == first)]
    return float(np.mean(said)) if said else np.nan


# ---------------------------------------------------------------- what the annotator says


def ask(annotator: Annotator, name: str, pairs: Sequence[JudgedPair]) -> Asked:
    """The responses of a prompt are judged together where most pairs of them are compared, else two by two."""
    groups = [part for _, group in groupby(pairs, key=lambda pair: pair.prompt.id) for part in _sets(list(group))]
    judgements = annotator([_candidates(group[0].prompt, _texts(group)) for group in groups])
    win: list[float] = []
    ordered: list[tuple[float, float]] = []
    unjudged: Counter[str] = Counter()
    for group, judgement in zip(groups, judgements, strict=True):
        if judgement.status != "ok":
            unjudged[judgement.status] += len(group)
        texts, first = _texts(group), _first_wins(judgement)
        for pair in group:
            i, j = texts.index(pair.a), texts.index(pair.b)
            win.append(float(judgement.win[i, j]) if judgement.status == "ok" else np.nan)
            ordered.append((first.get((i, j), np.nan), 1 - first.get((j, i), np.nan)))
    return Asked(Judge(name, np.array(win), np.array(ordered)), dict(unjudged), tuple(judgements))


def _sets(group: list[JudgedPair]) -> list[list[JudgedPair]]:
    texts, compared = len(_texts(group)), len({frozenset((pair.a, pair.b)) for pair in group})
    return [group] if 4 * compared > texts * (texts - 1) else [[pair] for pair in group]


def _texts(group: Sequence[JudgedPair]) -> list[str]:
    return list(dict.fromkeys(text for pair in group for text in (pair.a, pair.b)))


def _candidates(prompt: Prompt, texts: Sequence[str]) -> Candidates:
    """Nobody sampled these texts here, so they have no tokens."""
    return Candidates(prompt, (), tuple(Response(text, (), "policy", "stop", 0.0) for text in texts))


def _first_wins(judgement: Judgement) -> dict[tuple[int, int], float]:
    """P(i beats j) with i shown first: of logits, or of a judge that compares two by two and keeps its readings."""
    if judgement.status != "ok":
        return {}
    if judgement.logits is not None:
        shown = logistic(judgement.logits)
        return {(i, j): float(shown[i, j]) for i, j in permutations(range(len(shown)), 2)}
    record = {} if judgement.raw is None else json.loads(judgement.raw)
    if not str(record.get("protocol", "")).startswith("pairwise/"):
        return {}
    return {(i, j): reading for each in record["questions"] for (i, j), [reading] in [(each["order"], each["reading"])]}
