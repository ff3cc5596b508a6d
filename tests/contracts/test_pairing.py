"""What every pairing option promises, whatever the annotator says."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candidate_sets import CONF, configured
from sparring.core.preference import win_rates
from sparring.core.types import Candidates, Judgement, Message, Prompt, Response
from sparring.pairing.best_vs_worst import BestVsWorst
from sparring.pairing.dno_margin import ScoredPairs
from sparring.pairing.every_comparison import EveryComparison
from sparring.pairing.filters import MaxLength
from sparring.pairing.random_as_many import RandomAsMany
from sparring.pairing.teacher_wins import TeacherWins

OPTIONS = {path.stem for path in (CONF / "pairing").glob("*.yaml")}
PAIRINGS, AGAIN = ({name: configured(name) for name in OPTIONS} for _ in range(2))
UNPAIRED = {name for name, pairing in PAIRINGS.items() if not pairing.paired}
# Their losses take responses singly or are symmetric in the two, or they are to show what sifting is good for.
UNSIFTED = UNPAIRED | {"all_pairs", "sppo", "every_comparison"}
EPSILON = 1e-6

every_option = pytest.mark.parametrize("name", sorted(OPTIONS))
every_paired_option = pytest.mark.parametrize("name", sorted(OPTIONS - UNPAIRED))


@st.composite
def drawn_cases(draw) -> dict:
    """Up to five samples and a teacher, with circles, ties, repeated texts, defects and ratings that disagree.

    A teacher's answer comes from a file, where nothing has looked for defects.

    Plain values only: the run-time type checks draw random numbers, which a strategy must not.
    """
    students = draw(st.integers(1, 5))
    size = students + draw(st.booleans())
    each = {"min_size": size, "max_size": size}
    comparisons = size * (size - 1) // 2
    return {
        "students": students,
        "texts": draw(st.lists(st.integers(0, 5), **each)),
        "defects": [draw(st.sampled_from([None, None, None, "loop"])) if i < students else None for i in range(size)],
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
    if isinstance(strategy, RandomAsMany):
        return own_scale(strategy.like.strategy, candidates, judgement)
    if isinstance(strategy, TeacherWins):
        return np.array([float(response.origin == "teacher") for response in candidates.responses])
    if isinstance(strategy, ScoredPairs) and strategy.scale == "rating":
        return np.array(judgement.scores)
    is_policy = np.array([response.origin == "policy" for response in candidates.responses])
    return win_rates(judgement.win, is_policy, opponents=strategy.opponents)


@every_paired_option
@given(case=cases)
@settings(max_examples=30, deadline=None)
def test_no_strategy_prefers_a_loser(name, case):
    candidates, judgement = built(case)
    strategy = PAIRINGS[name].strategy
    for pair in strategy(candidates, judgement):
        if isinstance(strategy, EveryComparison):
            scores = judgement.win[:, pair.rejected]
        else:
            scores = own_scale(strategy, candidates, judgement)
        assert pair.score == scores[pair.chosen]
        assert pair.margin == pytest.approx(scores[pair.chosen] - scores[pair.rejected])
        assert pair.margin >= -EPSILON
        # SPIN's win is an assumption of its own.
        assumed = 1.0 if name == "spin" else judgement.win[pair.chosen, pair.rejected]
        assert pair.win == assumed
        assert pair.margin > EPSILON or pair.win >= 0.5 - EPSILON


@pytest.mark.parametrize("name", sorted(OPTIONS - UNSIFTED))
@given(case=cases)
@settings(max_examples=30, deadline=None)
def test_what_a_hard_label_is_put_on_is_sound_and_never_lost_directly(name, case):
    candidates, judgement = built(case)
    pairs, _ = PAIRINGS[name](candidates, judgement)
    assert all(pair.win >= 0.5 - EPSILON for pair in pairs)
    assert all(candidates.responses[pair.chosen].defect is None for pair in pairs)


@every_option
@given(case=cases)
@settings(max_examples=30, deadline=None)
def test_pairs_are_valid_unrepeated_and_of_the_right_kind(name, case):
    candidates, judgement = built(case)
    pairs, funnel = PAIRINGS[name](candidates, judgement)
    responses = candidates.responses
    sides = {"policy": "student", "teacher": "teacher"}
    for pair in pairs:
        assert pair.chosen in range(len(responses))
        chosen = responses[pair.chosen]
        assert (pair.rejected is None) == (name in UNPAIRED)
        if pair.rejected is None:
            assert pair.kind == sides[chosen.origin]
            continue
        assert pair.rejected in range(len(responses))
        rejected = responses[pair.rejected]
        assert chosen.text != rejected.text
        assert pair.kind == f"{sides[chosen.origin]}>{sides[rejected.origin]}"
    assert len({frozenset((pair.chosen, pair.rejected)) for pair in pairs}) == len(pairs)
    assert sum(funnel.kept.values()) == len(pairs)
    assert judgement.status == "ok" or (not pairs and funnel.failed == {judgement.status: 1})


@every_option
@given(case=cases)
@settings(max_examples=20, deadline=None)
def test_the_same_judgement_makes_the_same_pairs(name, case):
    assert PAIRINGS[name](*built(case)) == AGAIN[name](*built(case))


@every_option
@given(case=cases)
@settings(max_examples=30, deadline=None)
def test_the_funnel_counts_what_each_strategy_proposes(name, case):
    candidates, judgement = built(case)
    _, funnel = PAIRINGS[name](candidates, judgement)
    size, students = len(candidates.responses), case["students"]
    if judgement.status != "ok":
        possible = {0}
    elif name in UNPAIRED:
        possible = {students}
    elif name == "spin":
        possible = {students * (size - students)}
    elif isinstance(PAIRINGS[name].strategy, BestVsWorst):
        possible = {0, 1}
    elif name == "every_comparison":
        possible = {sum(sixth != 3 for sixth in case["sixths"])}
    elif name == "random_as_many":
        possible = {sum(PAIRINGS["dno_margin"](candidates, judgement)[1].kept.values())}
    else:
        possible = {size * (size - 1) // 2}
    assert funnel.proposed in possible
    assert set(funnel.dropped) <= PAIRINGS[name].filters.keys()


@given(case=cases)
@settings(max_examples=30, deadline=None)
def test_a_subset_of_dnos_pairs_is_one_and_needs_the_teacher_where_it_says(case):
    candidates, judgement = built(case)
    kept = {}
    for name in ("dno_margin", "dno_restrictive", "student_only", "teacher_only"):
        kept[name] = {(pair.chosen, pair.rejected, pair.kind) for pair in PAIRINGS[name](candidates, judgement)[0]}
    assert kept["student_only"] | kept["teacher_only"] == kept["dno_margin"]
    assert {kind for *_, kind in kept["student_only"]} <= {"student>student"}
    assert kept["dno_restrictive"] == {pair for pair in kept["dno_margin"] if pair[2] == "teacher>student"}


def test_only_these_options_make_nothing_without_a_teacher():
    needy = {name for name, pairing in PAIRINGS.items() if pairing.needs_teacher}
    restrictive = {f"dno_restrictive{loose}{scale}" for loose in ("", "_loose") for scale in ("", "_ratings")}
    assert needy == {"spin", "teacher_only", *restrictive}


MERGING = {name: configured(name, "strategy.merge_identical=true") for name in ("all_pairs", "dno_margin")}


@pytest.mark.parametrize("name", sorted(MERGING))
@given(case=cases)
@settings(max_examples=30, deadline=None)
def test_merged_texts_propose_once_with_the_scores_of_all_samples(name, case):
    candidates, judgement = built(case)
    texts = [response.text for response in candidates.responses]
    proposed = MERGING[name].strategy(candidates, judgement)
    if judgement.status == "ok":
        assert len(proposed) == len(set(texts)) * (len(set(texts)) - 1) // 2
    scores = own_scale(MERGING[name].strategy, candidates, judgement)
    for pair in proposed:
        assert texts[pair.chosen] != texts[pair.rejected]
        assert pair.score == scores[pair.chosen]
        for index in (pair.chosen, pair.rejected):
            same = [i for i, text in enumerate(texts) if text == texts[index]]
            sound = [i for i in same if candidates.responses[i].defect is None]
            assert index == min(sound or same)


@given(case=cases)
@settings(max_examples=60, deadline=None)
def test_all_pairs_keeps_every_pair_of_different_texts_defects_and_ties_included(case):
    candidates, judgement = built(case)
    pairs, _ = PAIRINGS["all_pairs"](candidates, judgement)
    both = combinations(range(len(candidates.responses)), 2)
    different = {frozenset(pair) for pair in both if case["texts"][pair[0]] != case["texts"][pair[1]]}
    kept = {frozenset((pair.chosen, pair.rejected)) for pair in pairs}
    assert kept == (different if judgement.status == "ok" else set())


@pytest.mark.parametrize("name", sorted(OPTIONS - {"random_as_many"}))
def test_rules_are_changed_and_switched_off_from_the_command_line(name):
    pairing = configured(name, "filters.max_length.max_tokens=7", "win_rate_mode=aggregated_code")
    assert pairing.filters["max_length"] == MaxLength(7)
    assert pairing.win_rate_mode == "aggregated_code"
    assert "max_length" not in configured(name, "filters.max_length=null").filters
