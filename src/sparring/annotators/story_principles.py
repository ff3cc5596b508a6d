"""Does a story keep the principles of its prompt (`data/stories.py`)? By rule, so that measuring costs nothing."""

from collections.abc import Callable, Sequence

import numpy as np

from sparring.annotators.critics import distinct_sentences, words_of
from sparring.annotators.panel import vote
from sparring.core.errors import DataError
from sparring.core.types import Candidates, Judgement, Prompt

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
"""Whether a story keeps a principle: nine in ten do that the grammar wrote under it, and one in ten of the others."""


class StoryPrinciples:
    """P(i beats j) is 1 where i keeps all principles of its prompt and j does not, 0 the other way round, else 1/2.

    Nothing is given for some of them: a story that trades one for another is no better. `keeps_all` is therefore the
    native score; the other aspects are the principles one by one, on the prompts whose `meta["principles"]` has them.
    """

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [self._judge(candidates) for candidates in batch]

    def can_read(self, prompt: Prompt, candidates: int) -> bool:
        """Stories of any length; a prompt without principles is refused here, before anybody answers it."""
        return bool(principles_of(prompt))

    def _judge(self, candidates: Candidates) -> Judgement:
        names = principles_of(candidates.prompt)
        kept = np.array([[RULES[name](response.text) for response in candidates.responses] for name in names], float)
        keeps_all = kept.min(0)
        aspects = {"keeps_all": keeps_all} | {f"keeps_{name}": each for name, each in zip(names, kept, strict=True)}
        count = len(candidates.responses)
        return Judgement(
            win=vote(keeps_all[None]),
            scores=tuple(keeps_all.tolist()),
            aspects={name: tuple(values.tolist()) for name, values in aspects.items()},
            calls=count * (count - 1) // 2,
        )


def principles_of(prompt: Prompt) -> list[str]:
    names = prompt.meta.get("principles")
    if not isinstance(names, list) or not names:
        raise DataError(
            f"prompt {prompt.id} has no list of principles in its column 'principles'; take "
            "prompts=principled_stories, or another annotator."
        )
    for name in names:
        if name not in RULES:
            raise DataError(
                f"prompt {prompt.id} has the principle {name!r}, for which there is no rule; name some of "
                f"{', '.join(RULES)}."
            )
    return names
