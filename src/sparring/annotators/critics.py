"""Critics of short prose that judge by rule, so that a panel costs nothing and its taste can be read.

A sentence said twice counts once, and a text without sentences earns nothing: repeating, listing or saying nothing
must not win. `UsesWords` and `AskedLength` read the request from `Prompt.meta`; the others need the response alone.
"""

import re

from sparring.core.types import Prompt, Response

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
SENTENCE_END = re.compile(r"(?<=[.!?])(?:\s+|[\"'”’]+\s+(?![a-z\s]))")  # '"Where?" asked Mia.' is one sentence
PROPER_END = re.compile(r"[.!?][\"'”’]*\s*$")


def words_of(text: str) -> list[str]:
    return WORD.findall(text)


def distinct_sentences(text: str) -> list[str]:
    """Sentences that hold a word, in order, each once."""
    return list(dict.fromkeys(part.strip() for part in SENTENCE_END.split(text) if words_of(part)))


class UsesWords:
    """Share of the requested words that stand in a sentence; a sentence has `around` other words or more.

    A bare list of the words therefore earns 0. Everybody earns 1 where the prompt requests none.
    """

    def __init__(self, around: int) -> None:
        self.around = around

    def __call__(self, prompt: Prompt, response: Response) -> float:
        requested = {word.lower() for word in prompt.meta.get("words", ())}
        if not requested:
            return 1.0
        used: set[str] = set()
        for sentence in distinct_sentences(response.text):
            words = [word.lower() for word in words_of(sentence)]
            if sum(word not in requested for word in words) >= self.around:
                used |= requested.intersection(words)
        return len(used) / len(requested)


class EndsProperly:
    """1 if the author stopped by itself, after a full stop, exclamation or question mark; else 0."""

    def __call__(self, prompt: Prompt, response: Response) -> float:
        return float(response.finish == "stop" and PROPER_END.search(response.text) is not None)


class NoRepetition:
    """Share of the runs of `run` words that occur for the first time, of `least` runs or more.

    `least` keeps a text of a few words, which has nothing to repeat, from full marks.
    """

    def __init__(self, run: int, least: int) -> None:
        self.run = run
        self.least = least

    def __call__(self, prompt: Prompt, response: Response) -> float:
        words = [word.lower() for word in words_of(response.text)]
        runs = [tuple(words[start : start + self.run]) for start in range(len(words) - self.run + 1)]
        return len(set(runs)) / max(len(runs), self.least)


class AskedLength:
    """1 for as many distinct sentences as `meta["sentences"]`, falling to 0 at none and at twice as many.

    Where the prompt asks for no length, `default` sentences are right; with None every text earns 1.
    """

    def __init__(self, default: int | None) -> None:
        self.default = default

    def __call__(self, prompt: Prompt, response: Response) -> float:
        asked = prompt.meta.get("sentences", self.default)
        if asked is None:
            return 1.0
        return max(0.0, 1 - abs(len(distinct_sentences(response.text)) - asked) / asked)


class VariedVocabulary:
    """Distinct words among the first `window`, of `target`, at most 1: length itself does not help."""

    def __init__(self, window: int, target: int) -> None:
        self.window = window
        self.target = target

    def __call__(self, prompt: Prompt, response: Response) -> float:
        opening = {word.lower() for word in words_of(response.text)[: self.window]}
        return min(1.0, len(opening) / self.target)


class KeepsHero:
    """Share, at most 1, of `further` sentences that name the hero after the one that brings it in.

    The hero is the first capitalised word that does not begin a sentence; a text without one earns 0.
    """

    def __init__(self, further: int) -> None:
        self.further = further

    def __call__(self, prompt: Prompt, response: Response) -> float:
        sentences = [words_of(sentence) for sentence in distinct_sentences(response.text)]
        names = (word for words in sentences for word in words[1:] if word[0].isupper() and word != "I")
        hero = next(names, None)
        if hero is None:
            return 0.0
        return min(1.0, (sum(hero in words for words in sentences) - 1) / self.further)
