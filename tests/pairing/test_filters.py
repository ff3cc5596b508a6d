from dataclasses import replace

import pytest
from candidate_sets import candidate_set, rated

from sparring.core.types import Pair
from sparring.pairing.filters import DefectMayOnlyLose, Duplicate, LosesDirectly, MaxLength, MinMargin, Tie

CANDIDATES = candidate_set(3)
JUDGEMENT = rated([3, 2, 1])
PAIR = Pair(chosen=0, rejected=1, win=0.7, margin=0.2, kind="student>student")
ALONE = replace(PAIR, rejected=None, win=0.5, margin=0.0)


def stays(rule, pair=PAIR, candidates=CANDIDATES):
    return rule(pair, candidates, JUDGEMENT)


def with_response(index, **changes):
    responses = list(CANDIDATES.responses)
    responses[index] = replace(responses[index], **changes)
    return replace(CANDIDATES, responses=tuple(responses))


def test_a_duplicate_is_one_by_text_or_by_tokens():
    assert stays(Duplicate())
    assert not stays(Duplicate(), candidates=with_response(1, text="response 0"))
    assert not stays(Duplicate(), candidates=with_response(1, ids=CANDIDATES.responses[0].ids))


@pytest.mark.parametrize(("win", "margin", "kept"), [(0.5, 0.0, False), (0.5, 0.1, True), (0.6, 0.0, True)])
def test_a_tie_is_one_on_the_scale_and_directly(win, margin, kept):
    assert stays(Tie(), replace(PAIR, win=win, margin=margin)) is kept


@pytest.mark.parametrize(("win", "kept"), [(0.49, False), (0.5, True), (0.51, True)])
def test_losing_directly_means_less_than_a_half(win, kept):
    assert stays(LosesDirectly(), replace(PAIR, win=win)) is kept


def test_a_flagged_response_may_lose_but_not_win():
    assert stays(DefectMayOnlyLose(), candidates=with_response(1, defect="loop"))
    assert not stays(DefectMayOnlyLose(), candidates=with_response(0, defect="loop"))


def test_a_margin_equal_to_the_threshold_passes():
    assert stays(MinMargin(0.3), replace(PAIR, margin=0.1 * 3))
    assert stays(MinMargin(0.1 * 3), replace(PAIR, margin=0.3))
    assert not stays(MinMargin(0.3), replace(PAIR, margin=0.29))


def test_length_is_the_prompt_with_the_longer_response():
    pair = replace(PAIR, chosen=2, rejected=0)  # 10 tokens of prompt, 3 and 1 of response
    assert stays(MaxLength(13), pair)
    assert not stays(MaxLength(12), pair)
    assert not stays(MaxLength(12), replace(PAIR, chosen=0, rejected=2))


@pytest.mark.parametrize("rule", [Duplicate(), Tie(), LosesDirectly(), DefectMayOnlyLose(), MaxLength(11)])
def test_a_response_without_an_opponent_passes_what_compares_two(rule):
    assert stays(rule, ALONE)
