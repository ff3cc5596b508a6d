"""Does a story keep a principle of `data/stories.py`? By rule, so that steering can be measured for nothing."""

from collections.abc import Callable

from sparring.annotators.critics import distinct_sentences, words_of
from sparring.core.errors import ConfigError
from sparring.core.types import Prompt, Response

SHORT = 5  # words in a sentence, on average over the distinct ones


def in_short_sentences(text: str) -> bool:
    return 0 < len(words_of(" ".join(distinct_sentences(text)))) <= SHORT * len(distinct_sentences(text))


def says(word: str) -> Callable[[str], bool]:
    return lambda text: word in (each.lower() for each in words_of(text))


RULES: dict[str, Callable[[str], bool]] = {
    "short": in_short_sentences,
    "cheerful": lambda text: "!" in text,
    "sea": says("sea"),
    "night": says("night"),
    "speech": lambda text: '"' in text,
}


class KeepsPrinciple:
    """The critic of one principle: 1 where a story keeps it, else 0.

    Nine stories in ten that were written under a principle of the grammar keep it, one in ten of the others.
    """

    def __init__(self, principle: str) -> None:
        if principle not in RULES:
            raise ConfigError(f"there is no principle {principle!r} of stories; choose one of {', '.join(RULES)}.")
        self._keeps = RULES[principle]

    def __call__(self, prompt: Prompt, response: Response) -> float:
        return float(self._keeps(response.text))
