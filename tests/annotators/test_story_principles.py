"""By hand; how often stories of the grammar keep their principle is in tests/data/test_stories.py."""

import pytest

from sparring.annotators.story_principles import RULES, StoryPrinciples
from sparring.core.errors import DataError
from sparring.core.types import Prompt, unsampled
from sparring.data.stories import PRINCIPLES


def asking(*principles: str) -> Prompt:
    return Prompt("p", (), meta={"principles": list(principles)})


@pytest.mark.parametrize(
    ("principle", "text", "kept"),
    [
        ("short", "She ran home. It got dark.", True),
        ("short", "Anna ran home with a big old dog. It got dark.", False),  # 8 and 3 words
        ("short", "Anna ran home with her dog. She was very glad.", True),  # 6 and 4
        ("short", "Anna ran home with her dog. She was glad that day.", False),  # 6 and 5
        ("short", "", False),
        ("cheerful", "Anna ran home!", True),
        ("cheerful", "Anna ran home.", False),
        ("sea", "Once by the sea Tom met a fox.", True),
        ("sea", "Once Tom searched for his seat.", False),
        ("night", "Late one Night.", True),
        ("night", "That evening she slept. Goodnight.", False),
        ("speech", '"Where is the fox?" asked Mia.', True),
        ("speech", "Mia asked where the fox was.", False),
    ],
)
def test_a_story_keeps_a_principle_or_does_not(principle: str, text: str, kept: bool) -> None:
    assert RULES[principle](text) == kept


def test_a_story_that_keeps_all_beats_those_that_do_not_and_those_draw_however_many_they_keep() -> None:
    texts = ["Once by the sea at night.", "Once by the sea.", "At night by the sea.", "Hello."]
    [judgement] = StoryPrinciples()([unsampled(asking("sea", "night"), texts)])
    assert judgement.win.tolist() == [[0.5, 1, 0.5, 1], [0, 0.5, 0, 0.5], [0.5, 1, 0.5, 1], [0, 0.5, 0, 0.5]]
    assert judgement.scores == (1, 0, 1, 0)
    assert judgement.aspects == {"keeps_all": (1, 0, 1, 0), "keeps_sea": (1, 1, 1, 0), "keeps_night": (1, 0, 1, 0)}


def test_every_prompt_is_judged_by_its_own_principles() -> None:
    text = ["Once by the sea."]
    judgements = StoryPrinciples()([unsampled(asking("sea"), text), unsampled(asking("sea", "cheerful"), text)])
    assert [judgement.scores for judgement in judgements] == [(1,), (0,)]
    assert StoryPrinciples().can_read(asking("sea"), 2)
    assert [list(judgement.aspects) for judgement in judgements] == [
        ["keeps_all", "keeps_sea"],
        ["keeps_all", "keeps_sea", "keeps_cheerful"],
    ]


def test_there_is_a_rule_for_every_principle_of_stories() -> None:
    assert RULES.keys() == PRINCIPLES.keys()


@pytest.mark.parametrize("meta", [{}, {"principle": "Be brief."}, {"principles": []}, {"principles": "sea"}])
def test_a_prompt_without_a_list_of_principles_is_an_error(meta: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"prompt p has no list of principles .*; take prompts=principled_stories"):
        StoryPrinciples()([unsampled(Prompt("p", (), meta=meta), ["Hello."])])
    with pytest.raises(DataError, match=r"prompt p has no list of principles"):
        StoryPrinciples().can_read(Prompt("p", (), meta=meta), 2)


def test_a_principle_without_a_rule_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match=r"prompt p has the principle 'loud', for which there is no rule; name some of"):
        StoryPrinciples()([unsampled(asking("sea", "loud"), ["Hello."])])
