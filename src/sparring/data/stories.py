"""A world that needs no download: requests for tiny stories, good answers to them, and a corpus of imperfect ones.

`Stories` asks; its teacher obeys. `StoryCorpus` is what a tiny policy is pretrained on: its stories obey only
sometimes and each fault is an independent choice: answers to one prompt differ, and there is something to prefer.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import combinations
from random import Random
from typing import Any, Literal, overload

from sparring.core.errors import ConfigError
from sparring.core.identity import prompt_id
from sparring.core.seeding import derive_seed, numpy_rng
from sparring.core.types import Message, Prompt
from sparring.data.splits import Split, round_indices
from sparring.data.story_grammar import KIND, NIGHT_LEADS, SEA_LEADS, Style, write_sentences

Side = Literal["train", "validation"]

PRINCIPLES: dict[str, str] = {
    "short": "Use short sentences.",
    "cheerful": "Be cheerful.",
    "sea": "Tell it about the sea.",
    "night": "Let it happen at night.",
    "speech": "Let somebody speak.",
}
WORDS_ASKED = 3
LENGTHS = (3, 4, 5, 6)  # sentences
VALIDATION_SHARE = 8  # one word set in so many is for validation

# The corpus: chances of each habit, drawn independently, so that any two habits are found apart.
PRINCIPLED = 0.35
UNASKED_PRINCIPLE = 0.2  # where no principle is given: without it, a principle would be all or nothing
# A tiny policy finds out that nouns are copied from the request only where most are; it then misses many by itself.
WORD_MISSING = (0.05, 0.05, 0.8)  # each requested word; two authors in three are attentive
OTHER_NOUN = 0.1  # in a sentence without a requested word
OTHER_LENGTH = 0.5
CLOSING_MISSING = 0.15
CUT_OFF = 0.25
SENTENCE_REPEATED = 0.25
PLAIN = 0.4
NAMING = (0.1, 0.5, 0.9)


class Rows(Sequence[Prompt]):
    """Prompts that are made when they are read."""

    def __init__(self, make: Callable[[int], Prompt], positions: Sequence[int]) -> None:
        self._make = make
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> "Rows": ...
    def __getitem__(self, index: int | slice) -> "Prompt | Rows":
        if isinstance(index, slice):
            return Rows(self._make, self._positions[index])
        return self._make(self._positions[index])


class Stories:
    """Requests for stories that use three words in three to six sentences; the teacher's story does so.

    Which side a prompt belongs to depends on its set of words alone, never on the seed, and a side is read along a
    random permutation of its requests: no prompt is on both sides, none is twice on one.

    `principles` are sets of names from `PRINCIPLES`, one of which is drawn for each prompt. It is not said in the
    messages, nor kept by the teacher: `meta["principle"]` is its text, for samplers that say it, and
    `meta["principles"]` its names, for critics. Prompts are otherwise those of a source without principles.
    """

    def __init__(
        self,
        *,
        train: int,
        validation: int,
        split: Split,
        rounds: int,
        seed: int,
        principles: Sequence[Sequence[str]] | None = None,
    ) -> None:
        _check_principles(principles)
        self._requests: dict[Side, list[int]] = {
            "train": _order("train", train, seed),
            "validation": _order("validation", validation, seed),
        }
        self._split: Split = split
        self._rounds = rounds
        self._seed = seed
        self._principles = principles

    @property
    def validation(self) -> Rows:
        return Rows(partial(self._make, "validation"), range(len(self._requests["validation"])))

    def for_round(self, index: int) -> Rows:
        size = len(self._requests["train"])
        positions = round_indices(size, index, split=self._split, rounds=self._rounds, seed=self._seed)
        return Rows(partial(self._make, "train"), positions)

    def _make(self, side: Side, position: int) -> Prompt:
        which, length = divmod(self._requests[side][position], len(LENGTHS))
        words, sentences = word_sets(side)[which], LENGTHS[length]
        rng = Random(derive_seed(self._seed, type(self).__name__, side, position))
        prompt = self._write(rng, rng.sample(words, len(words)), sentences)
        if self._principles is None:
            return prompt
        names = Random(derive_seed(self._seed, "story principles", side, position)).choice(self._principles)
        asked = {"principle": " ".join(PRINCIPLES[name] for name in names), "principles": list(names)}
        return replace(prompt, meta={**prompt.meta, **asked})

    def _write(self, rng: Random, words: list[str], sentences: int) -> Prompt:
        return _prompt(words, sentences, teacher=obedient_story(rng, words, sentences))


class StoryCorpus(Stories):
    """The same requests, some under a principle: the principle is kept, the request is met only at times."""

    def _write(self, rng: Random, words: list[str], sentences: int) -> Prompt:
        principle = rng.choice(tuple(PRINCIPLES)) if rng.random() < PRINCIPLED else None
        return _prompt(words, sentences, teacher=faulty_story(rng, words, sentences, principle), principle=principle)


def side_of(words: Sequence[str]) -> Side:
    """A function of the set of words, so that every source and seed agrees on what is held out."""
    return "train" if derive_seed("story side", *sorted(words)) % VALIDATION_SHARE else "validation"


@cache
def word_sets(side: Side) -> tuple[tuple[str, ...], ...]:
    return tuple(words for words in combinations(KIND, WORDS_ASKED) if side_of(words) == side)


def obedient_story(rng: Random, words: Sequence[str], sentences: int) -> str:
    return " ".join(write_sentences(rng, _nouns(rng, words, sentences), Style(naming=0.7)))


def faulty_story(rng: Random, words: Sequence[str], sentences: int, principle: str | None) -> str:
    """A story that keeps the principle, if any, and of the request only what chance leaves."""
    length = sentences
    if rng.random() < OTHER_LENGTH:
        length = rng.choice([other for other in range(2, 8) if 0 < abs(other - sentences) <= 2])
    if principle is None and rng.random() < UNASKED_PRINCIPLE:
        principle = rng.choice(tuple(PRINCIPLES))
    style = Style(plain=rng.random() < PLAIN, closing=rng.random() >= CLOSING_MISSING, naming=rng.choice(NAMING))
    missing = rng.choice(WORD_MISSING)
    kept = [word for word in words if rng.random() >= missing][:length]
    told = write_sentences(rng, _nouns(rng, kept, length), _follow(style, principle))
    if rng.random() < SENTENCE_REPEATED:
        again = rng.randrange(len(told))
        told.insert(again, told[again])
    if rng.random() < CUT_OFF:
        last = told[-1].split()
        told[-1] = " ".join(last[: rng.randrange(1, len(last))]).rstrip(",")
    return " ".join(told)


def fluent_stories(*, count: int, seed: int) -> list[str]:
    """Whole stories in every style, whatever was asked: a sample of the language that the corpus is written in."""
    rng = Random(derive_seed(seed, "fluent stories"))
    stories = []
    for _ in range(count):
        length = rng.randint(2, 7)
        style = Style(plain=rng.random() < PLAIN, closing=rng.random() >= CLOSING_MISSING, naming=rng.choice(NAMING))
        nouns = _nouns(rng, rng.sample(list(KIND), min(length, WORDS_ASKED)), length)
        stories.append(" ".join(write_sentences(rng, nouns, _follow(style, rng.choice((None, *PRINCIPLES))))))
    return stories


def _follow(style: Style, principle: str | None) -> Style:
    match principle:
        case "short":
            return replace(style, short=True)
        case "cheerful":
            return replace(style, mark="!")
        case "sea":
            return replace(style, leads=SEA_LEADS)
        case "night":
            return replace(style, leads=NIGHT_LEADS)
        case "speech":
            return replace(style, speech=True)
        case _:
            return style


def _nouns(rng: Random, words: Sequence[str], count: int) -> list[str | None]:
    """The given words and, for the sentences left, others or none, in random order."""
    others = rng.sample([noun for noun in KIND if noun not in words], count - len(words))
    return rng.sample([*words, *(noun if rng.random() < OTHER_NOUN else None for noun in others)], count)


def _prompt(words: list[str], sentences: int, teacher: str, principle: str | None = None) -> Prompt:
    request = Message("user", f"Write a story of {sentences} sentences with the words: {', '.join(words)}.")
    messages = (request,) if principle is None else (Message("system", PRINCIPLES[principle]), request)
    meta: dict[str, Any] = {"words": words, "sentences": sentences}
    if principle is not None:
        meta["told_under"] = principle  # its name; `meta["principle"]` is a sentence that a sampler is yet to say
    return Prompt(prompt_id(messages), messages, teacher, meta)


def _check_principles(sets: Sequence[Sequence[str]] | None) -> None:
    if sets is None:
        return
    if not sets or not all(sets):
        raise ConfigError(
            "prompts.principles has a set without a principle, or no set; name some in each, or set it to null."
        )
    if unknown := sorted({name for names in sets for name in names} - PRINCIPLES.keys()):
        raise ConfigError(
            f"prompts.principles has {unknown[0]!r}, which is no principle of stories; choose among "
            f"{', '.join(PRINCIPLES)}."
        )


def _order(side: Side, size: int, seed: int) -> list[int]:
    """The first `size` of a random permutation of a side's requests, a request being a word set and a length."""
    available = len(word_sets(side)) * len(LENGTHS)
    if not 0 <= size <= available:
        raise ConfigError(f"{size} {side} stories were asked for, but there are {available}; set prompts.{side} lower.")
    return numpy_rng(seed, "stories", side).permutation(available)[:size].tolist()
