"""What every pairing option promises, whatever the annotator says."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sparring.core.preference import win_rates
from sparring.core.types import Candidates, Judgement, Message, Prompt, Response
from sparring.pairing.dno_margin import ScoredPairs
from sparring.pairing.filters import MaxLength
from sparring.pairing.funnel import Pairing

OPTIONS = {path.stem: path for path in (Path(__file__).parents[2] / "conf" / "pairing").glob("*.yaml")}


def configured(name: str, *changes: str) -> Pairing:
    config = OmegaConf.merge(OmegaConf.load(OPTIONS[name]), OmegaConf.from_dotlist(list(changes)))
    return instantiate(config, _convert_="all")


PAIRINGS = {name: configured(name) for name in OPTIONS}
EPSILON = 1e-6

every_option = pytest.mark.parametrize("name", sorted(OPTIONS))


@st.composite
def drawn_cases(draw) -> dict:
    """Up to five samples and a teacher, with circles, ties, repeated texts, defects and ratings that disagree.

    Plain values only: the run-time type checks draw random numbers, which a strategy must not.
    """
    students = draw(st.integers(1, 5))
    size = students + draw(st.booleans())
    each = {"min_size": size, "max_size": size}
    comparisons = size * (size - 1) // 2
    return {
        "students": students,
        "texts": draw(st.lists(st.integers(0, 5), **each)),
        "defects": draw(st.lists(st.sampled_from([None, None, None, "loop"]), **each)),
        "scores": draw(st.lists(st.integers(0, 6), **each)),
        "sixths": draw(st.lists(st.integers(0, 6), min_size=comparisons, max_size=comparisons)),
        "status": draw(st.sampled_from(["ok", "ok", "ok", "unreadable"])),
    }


cases = drawn_cases()


def built(case: dict) -> tuple[Candidates, Judgement]:
    responses = tuple(
        Response(
            text=str(text),
            ids=(text, 99),
            origin="policy" if index < case["students"] else "teacher",
            finish="stop",
            logp=-1.0,
            defect=defect,
        )
        for index, (text, defect) in enumerate(zip(case["texts"], case["defects"], strict=True))
    )
    win = np.full((len(responses), len(responses)), 0.5)
    above = np.triu_indices(len(responses), 1)
    win[above] = np.array(case["sixths"]) / 6
    win.T[above] = 1 - win[above]
    judgement = Judgement(win=win, scores=tuple(map(float, case["scores"])), status=case["status"])
    return Candidates(Prompt("p", (Message("user", "Tell."),)), (1, 2, 3), responses), judgement


def own_scale(strategy, candidates: Candidates, judgement: Judgement) -> np.ndarray:
    if isinstance(strategy, ScoredPairs) and strategy.scale == "rating":
        return np.array(judgement.scores)
    is_policy = np.array([response.origin == "policy" for response in candidates.responses])
    return win_rates(judgement.win, is_policy, opponents=strategy.opponents)


@every_option
@given(case=cases)
@settings(max_examples=60, deadline=None)
def test_no_strategy_prefers_a_loser(name, case):
    candidates, judgement = built(case)
    strategy = PAIRINGS[name].strategy
    scores = own_scale(strategy, candidates, judgement)
    for pair in strategy(candidates, judgement):
        assert pair.score == scores[pair.chosen]
        assert pair.margin == pytest.approx(scores[pair.chosen] - scores[pair.rejected])
        assert pair.margin >= -EPSILON
        assert pair.win == judgement.win[pair.chosen, pair.rejected]
        assert pair.margin > EPSILON or pair.win >= 0.5 - EPSILON


# The loss of all_pairs is symmetric in the two responses: nothing is labelled.
@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - {"all_pairs"}))
@given(case=cases)
@settings(max_examples=60, deadline=None)
def test_what_a_hard_label_is_put_on_is_sound_and_never_lost_directly(name, case):
    candidates, judgement = built(case)
    pairs, _ = PAIRINGS[name](candidates, judgement)
    assert all(pair.win >= 0.5 - EPSILON for pair in pairs)
    assert all(candidates.responses[pair.chosen].defect is None for pair in pairs)


@every_option
@given(case=cases)
@settings(max_examples=60, deadline=None)
def test_pairs_are_valid_unrepeated_and_of_the_right_kind(name, case):
    candidates, judgement = built(case)
    pairs, funnel = PAIRINGS[name](candidates, judgement)
    responses = candidates.responses
    sides = {"policy": "student", "teacher": "teacher"}
    for pair in pairs:
        assert pair.chosen in range(len(responses))
        assert pair.rejected in range(len(responses))
        chosen, rejected = responses[pair.chosen], responses[pair.rejected]
        assert chosen.text != rejected.text
        assert pair.kind == f"{sides[chosen.origin]}>{sides[rejected.origin]}"
    assert len({frozenset((pair.chosen, pair.rejected)) for pair in pairs}) == len(pairs)
    assert sum(funnel.kept.values()) == len(pairs)
    assert judgement.status == "ok" or (not pairs and funnel.failed == {judgement.status: 1})


@every_option
@given(case=cases)
@settings(max_examples=20, deadline=None)
def test_the_same_judgement_makes_the_same_pairs(name, case):
    assert PAIRINGS[name](*built(case)) == configured(name)(*built(case))


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - {"best_vs_worst"}))
@given(case=cases)
@settings(max_examples=60, deadline=None)
def test_every_unordered_pair_is_in_the_funnel(name, case):
    candidates, judgement = built(case)
    _, funnel = PAIRINGS[name](candidates, judgement)
    size = len(candidates.responses)
    assert funnel.proposed == (size * (size - 1) // 2 if judgement.status == "ok" else 0)
    assert set(funnel.dropped) <= set(OmegaConf.load(OPTIONS[name]).filters)


@given(case=cases)
@settings(max_examples=60, deadline=None)
def test_all_pairs_keeps_every_pair_of_different_texts_defects_and_ties_included(case):
    candidates, judgement = built(case)
    pairs, _ = PAIRINGS["all_pairs"](candidates, judgement)
    both = combinations(range(len(candidates.responses)), 2)
    different = {frozenset(pair) for pair in both if case["texts"][pair[0]] != case["texts"][pair[1]]}
    kept = {frozenset((pair.chosen, pair.rejected)) for pair in pairs}
    assert kept == (different if judgement.status == "ok" else set())


@every_option
def test_rules_are_changed_and_switched_off_from_the_command_line(name):
    pairing = configured(name, "filters.max_length.max_tokens=7", "filters.duplicate=null")
    assert "duplicate" not in pairing.filters
    assert pairing.filters["max_length"] == MaxLength(7)
