from collections import Counter
from dataclasses import replace

import pytest

from candidate_sets import candidate_set, rated
from sparring.core.errors import ConfigError
from sparring.core.types import Candidates
from sparring.pairing.dno_margin import ScoredPairs
from sparring.pairing.filters import MinMargin, MinPositive, Tie
from sparring.pairing.funnel import Pairing
from sparring.pairing.random_as_many import RandomAsMany

RULES = {"tie": Tie(), "min_positive": MinPositive(3.0), "margin": MinMargin(3.0)}
LIKE = Pairing(ScoredPairs(scale="rating"), RULES)
# Of scores 6, 5, 4, 3, 1 the rules without the margin leave the 10 pairs, the margin (6,3) (6,1) (5,1) (4,1).
JUDGEMENT = rated([6, 5, 4, 3, 1])


def prompt(name: str) -> Candidates:
    candidates = candidate_set(5)
    return replace(candidates, prompt=replace(candidates.prompt, id=name))


def test_as_many_pairs_are_drawn_as_the_margin_keeps_all_of_them_alike():
    drawn = Counter()
    for name in map(str, range(500)):
        pairs = RandomAsMany(like=LIKE, seed=1)(prompt(name), JUDGEMENT)
        assert len({(pair.chosen, pair.rejected) for pair in pairs}) == len(pairs) == 4
        drawn.update((pair.chosen, pair.rejected) for pair in pairs)
    assert len(drawn) == 10
    # Each of 10 pairs is drawn with probability 0.4: 200 times, with standard deviation 11.
    assert all(abs(count - 200) < 50 for count in drawn.values())


def test_the_other_rules_hold():
    # Three pairs of fives tie, the two against one does not score 3; a margin of 3 keeps the other 6 of 10.
    tied = rated([5, 5, 5, 1, 2])
    for name in map(str, range(50)):
        pairs = RandomAsMany(like=LIKE, seed=1)(prompt(name), tied)
        assert len(pairs) == 6
        assert all(pair.margin > 0 for pair in pairs)
        assert all(pair.score >= 3.0 for pair in pairs)


def test_the_draw_is_a_function_of_seed_and_prompt():
    draw = RandomAsMany(like=LIKE, seed=1)
    assert draw(prompt("p"), JUDGEMENT) == draw(prompt("p"), JUDGEMENT)
    names = list(map(str, range(20)))
    assert [draw(prompt(name), JUDGEMENT) for name in names] != [
        RandomAsMany(like=LIKE, seed=2)(prompt(name), JUDGEMENT) for name in names
    ]
    assert len({str(draw(prompt(name), JUDGEMENT)) for name in names}) > 10


def test_a_rule_that_the_other_pairing_lacks_cannot_be_waived():
    with pytest.raises(ConfigError, match=r"free_of names 'margins'.*tie, min_positive, margin"):
        RandomAsMany(like=LIKE, seed=1, free_of=["margins"])
