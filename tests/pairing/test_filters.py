import math
from dataclasses import replace

import pytest

from candidate_sets import candidate_set, rated
from sparring.core.errors import ConfigError
from sparring.core.types import Pair
from sparring.pairing.filters import (
    DefectMayOnlyLose,
    Duplicate,
    LosesDirectly,
    Margin,
    MaxLength,
    MinMargin,
    MinPositive,
    Tie,
)

CANDIDATES = candidate_set(3)
JUDGEMENT = rated([3, 2, 1])
PAIR = Pair(chosen=0, rejected=1, win=0.7, score=0.6, margin=0.2, kind="student>student")
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


def test_a_score_equal_to_the_threshold_passes():
    assert stays(MinPositive(0.3), replace(PAIR, score=0.1 * 3))
    assert stays(MinPositive(0.1 * 3), replace(PAIR, score=0.3))
    assert not stays(MinPositive(0.3), replace(PAIR, score=0.29))


@pytest.mark.parametrize(("sides", "least"), [((2, 0), 0.3), ((0, 2), 0.2), ((0, 1), 0.1)])
def test_the_margin_depends_on_who_wrote_the_two(sides, least):
    rule = Margin(teacher_positive=0.3, student_positive=0.2, student_vs_student=0.1)
    pair = replace(PAIR, chosen=sides[0], rejected=sides[1])
    candidates = candidate_set(2, teacher=True)
    assert stays(rule, replace(pair, margin=least), candidates)
    assert not stays(rule, replace(pair, margin=least - 0.01), candidates)


def test_margins_allow_for_rounding_and_an_infinite_one_forbids():
    assert stays(Margin(9.0, 9.0, 0.1 * 3), replace(PAIR, margin=0.3))
    assert not stays(Margin(0.0, 0.0, math.inf), replace(PAIR, margin=1e9))


@pytest.mark.parametrize("margin", [-1.0, math.nan])
def test_a_margin_that_no_pair_could_miss_is_refused(margin):
    with pytest.raises(ConfigError, match="0 or more"):
        Margin(2.0, margin, 1.0)


def test_a_margin_equal_to_the_threshold_passes():
    assert stays(MinMargin(0.3), replace(PAIR, margin=0.1 * 3))
    assert stays(MinMargin(0.1 * 3), replace(PAIR, margin=0.3))
    assert not stays(MinMargin(0.3), replace(PAIR, margin=0.29))


def test_length_is_the_prompt_with_the_longer_response():
    pair = replace(PAIR, chosen=2, rejected=0)  # 10 tokens of prompt, 3 and 1 of response
    assert stays(MaxLength(13), pair)
    assert not stays(MaxLength(12), pair)
    assert not stays(MaxLength(12), replace(PAIR, chosen=0, rejected=2))


@pytest.mark.parametrize(
    "rule",
    [
        Duplicate(),
        Tie(),
        LosesDirectly(),
        DefectMayOnlyLose(),
        MinPositive(0.6),
        Margin(1.0, 1.0, 1.0),
        MinMargin(1.0),
        MaxLength(11),
    ],
)
def test_a_response_without_an_opponent_passes_what_compares_two(rule):
    assert stays(rule, ALONE)


# The official code of SPPO cuts prompts and responses that exceed 1024 tokens (TV-10); here such a pair is dropped.
@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "left_alone"),
    [
        (700, 600, 300, False),
        (700, 400, 300, False),
        (200, 900, 100, False),
        (200, 700, 700, True),
        (600, 424, 10, True),
        (600, 425, 10, False),
        (100, 924, 10, True),
        (100, 925, 10, False),
    ],
)
def test_what_other_code_would_cut_is_dropped_and_nothing_else(prompt, chosen, rejected, left_alone):
    candidates = candidate_set(2)
    responses = [
        replace(response, ids=(0,) * length)
        for response, length in zip(candidates.responses, (chosen, rejected), strict=True)
    ]
    long = replace(candidates, prompt_ids=(0,) * prompt, responses=tuple(responses))
    pair = replace(PAIR, chosen=0, rejected=1)
    assert MaxLength(1024)(pair, long, rated([2, 1])) == left_alone
