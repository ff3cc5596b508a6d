import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidate_sets import candidate_set, judged, rated
from sparring.core.errors import RoundError
from sparring.pairing.dno_margin import ScoredPairs
from sparring.pairing.filters import DefectMayOnlyLose, Duplicate, LosesDirectly, MaxLength, MinMargin, MinPositive, Tie
from sparring.pairing.funnel import Funnel, Pairing

ALL = ScoredPairs(scale="rating")

counts = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 9))


@st.composite
def funnels(draw):
    dropped, kept = draw(counts), draw(counts)
    numbers = st.integers(0, 9)
    return Funnel(
        prompts=draw(numbers),
        candidates=draw(numbers),
        defects=draw(counts),
        failed=draw(counts),
        proposed=sum(dropped.values()) + sum(kept.values()),
        dropped=dropped,
        kept=kept,
        replayed=draw(numbers),
    )


def test_the_first_rule_that_fires_is_the_one_that_is_counted():
    # Six pairs of ratings 4, 4, 3, 1: one tie; of the rest those of margin 1 (two) are too small.
    pairing = Pairing(ALL, {"tie": Tie(), "min_margin": MinMargin(1.5), "max_length": MaxLength(13)})
    pairs, funnel = pairing(candidate_set(4), rated([4, 4, 3, 1]))
    # The fourth response has 4 tokens on top of 10 of prompt, so that its three pairs are too long.
    assert pairs == []
    assert funnel.dropped == {"tie": 1, "min_margin": 2, "max_length": 3}
    assert (funnel.prompts, funnel.candidates, funnel.proposed, funnel.kept) == (1, 4, 6, {})


def test_the_order_of_the_rules_decides_which_of_them_is_counted():
    # The defective first scores 4 and beats the other two; the pair of 3 and 1 is sound and below 5.
    rules = {"defect": DefectMayOnlyLose(), "low": MinPositive(5.0)}
    case = candidate_set(3, defects={0: "loop"}), rated([4, 3, 1])
    assert Pairing(ALL, rules)(*case)[1].dropped == {"defect": 2, "low": 1}
    assert Pairing(ALL, dict(reversed(rules.items())))(*case)[1].dropped == {"low": 3}


def test_a_filter_set_to_null_is_skipped():
    pairs, funnel = Pairing(ALL, {"tie": None, "duplicate": Duplicate()})(candidate_set(2), rated([4, 4]))
    assert (len(pairs), funnel.dropped, funnel.kept) == (1, {}, {"student>student": 1})


def test_circles_are_dropped_where_they_can_be_seen():
    strategy = replace(ALL, scale="win_rate")
    win = [[0.5, 0.6, 0.1], [0.4, 0.5, 1.0], [0.9, 0.0, 0.5]]  # 1 has the best average and loses to 0
    pairs, funnel = Pairing(strategy, {"loses_directly": LosesDirectly()})(candidate_set(3), judged(win))
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {(1, 2), (2, 0)}
    assert funnel.dropped == {"loses_directly": 1}


def test_defects_and_failures_are_counted_by_kind():
    candidates = candidate_set(3, defects={0: "loop", 1: "unfinished", 2: "loop"})
    pairs, funnel = Pairing(ALL, {})(candidates, replace(rated([3, 2, 1]), status="unreadable"))
    assert pairs == []
    assert (funnel.defects, funnel.failed) == ({"loop": 2, "unfinished": 1}, {"unreadable": 1})


@given(st.lists(funnels(), max_size=4))
def test_funnels_add_up(parts):
    total = sum(parts, Funnel())
    assert total.prompts == sum(part.prompts for part in parts)
    assert total.proposed == sum(total.dropped.values()) + sum(total.kept.values())
    assert total.kept.get("a", 0) == sum(part.kept.get("a", 0) for part in parts)


@given(funnels())
def test_a_funnel_survives_json(funnel):
    assert Funnel.from_dict(json.loads(json.dumps(funnel.to_dict()))) == funnel


def test_the_funnel_of_a_pairing_survives_json():
    _, funnel = Pairing(ALL, {"tie": Tie()})(candidate_set(3, defects={1: "loop"}), rated([3, 3, 1]))
    assert Funnel.from_dict(json.loads(json.dumps(funnel.to_dict()))) == funnel


def test_pairs_that_vanish_are_refused():
    with pytest.raises(RoundError, match="proposes 3 pairs and accounts for 2"):
        Funnel(proposed=3, kept={"student>student": 2})


def test_a_record_of_something_else_is_refused():
    with pytest.raises(RoundError, match="keys"):
        Funnel.from_dict({"prompts": 1})


def test_the_description_names_every_count():
    text = Funnel(
        prompts=1200,
        candidates=6000,
        defects={"loop": 7},
        failed={"timeout": 3},
        proposed=50,
        dropped={"tie": 8, "duplicate": 12},
        kept={"student>student": 30},
        replayed=4,
    ).describe()
    assert text.splitlines() == [
        "prompts        1,200   judgements failed: timeout 3",
        "candidates     6,000   defective: loop 7",
        "proposed          50",
        "dropped           20   duplicate 12, tie 8",
        "kept              30   student>student 30",
        "replayed           4",
    ]
