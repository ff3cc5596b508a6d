"""Questions in the format of kkuusou/personal_preference_eval, and entrants that answer them by a rule."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparring.core.types import Prompt
from sparring.rollout.entrants import Answers, Foreseen, Said

PEOPLE = ("a young nurse", "A retired teacher.", "a chess player", "someone who fears dogs")


def personal_row(number: int) -> dict[str, Any]:
    row: dict[str, Any] = {"index": number, "domain": ("food", "pets")[number % 2], "question": f"What is {number}?"}
    for letter, person in zip("abcd", PEOPLE, strict=True):
        row |= {f"preference_{letter}": person, f"answer_{letter}": f"{number}, says {person[2:7]}"}
    return row


def personal_file(path: Path, numbers: Sequence[int]) -> Path:
    path.write_text(json.dumps([personal_row(number) for number in numbers]))
    return path


@dataclass(frozen=True)
class RuleEntrant:
    """Answers as `rule` says; opens like a policy, and counts one token computed for one said."""

    label: str
    rule: Callable[[Prompt], str]
    described: str = "a rule"
    rounds: int | None = None
    tokenizer: str | None = None

    def foreseen(self, prompts: Sequence[Prompt]) -> list[Foreseen]:
        return [Foreseen(1, 1)] * len(prompts)

    @contextmanager
    def opened(self) -> Iterator["RuleEntrant"]:
        yield self

    @property
    def identity(self) -> str:
        return self.label

    def check(self, prompts: Sequence[Prompt]) -> None:
        """A rule answers everything."""

    def __call__(self, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object]) -> Answers:
        return Answers([(Said(self.rule(prompt), tokens=1),) for prompt in prompts], len(prompts))
