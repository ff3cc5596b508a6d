"""Does a text read like a given language? The annotator to measure with, not to train on.

A policy that learns to please other annotators by broken sentences loses here. Not here: what was asked for.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from sparring.core.errors import ConfigError
from sparring.core.preference import bradley_terry
from sparring.core.types import Candidates, Judgement

_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|[^\s\w]|\d+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_BEGIN, _END = "<", ">"

Trigram = tuple[str, str, str]


class Fluency:
    """The native score is the share of a text's trigrams that occur in `corpus`; Bradley-Terry makes it a win matrix.

    Sentences are read one by one, their beginning and end included, so that one that breaks off is seen. Length does
    not count in the mean, though a short text is more often flawless. A text without words earns 0.
    """

    def __init__(self, corpus: Iterable[str], temperature: float) -> None:
        self._known = frozenset(trigram for text in corpus for trigram in trigrams(text))
        self._temperature = temperature
        if not self._known:
            raise ConfigError("The corpus of the fluency annotator holds no sentence; give it texts to know.")

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [self._judge(candidates) for candidates in batch]

    def _judge(self, candidates: Candidates) -> Judgement:
        scores = [self.share_known(response.text) for response in candidates.responses]
        count = len(scores)
        win = bradley_terry(np.array(scores), self._temperature)
        return Judgement(win=win, scores=tuple(scores), calls=count * (count - 1) // 2)

    def share_known(self, text: str) -> float:
        found = [trigram in self._known for trigram in trigrams(text)]
        return sum(found) / len(found) if found else 0.0


def trigrams(text: str) -> Iterator[Trigram]:
    """Three words or marks in a row, in lower case, sentence by sentence."""
    for sentence in _SENTENCE.split(text):
        tokens = _TOKEN.findall(sentence.lower())
        if tokens:
            padded = [_BEGIN, *tokens, _END]
            yield from zip(padded, padded[1:], padded[2:], strict=False)
