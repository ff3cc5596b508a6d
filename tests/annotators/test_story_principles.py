"""By hand; how often stories of the grammar keep their principle is in tests/data/test_stories.py."""

import pytest

from sparring.annotators.story_principles import RULES, KeepsPrinciple
from sparring.core.errors import ConfigError
from sparring.core.types import Prompt, Response
from sparring.data.stories import PRINCIPLES


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
    response = Response(text, (), "policy", "stop", 0.0)
    assert KeepsPrinciple(principle)(Prompt("p", ()), response) == float(kept)


def test_there_is_a_critic_for_every_principle_of_stories() -> None:
    assert RULES.keys() == PRINCIPLES.keys()
    with pytest.raises(ConfigError, match="no principle 'loud' of stories; choose one of short, cheerful, sea"):
        KeepsPrinciple("loud")
