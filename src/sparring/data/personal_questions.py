"""Personal preferences: a question, four people who may ask it, and an answer that was written for each of them.

The set is kkuusou/personal_preference_eval, by the authors of Linear Alignment (arXiv 2401.11458): 548 questions in
`preference_data.json`. A policy sees the four answers as A to D and has to say which one is for the person who asks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparring.core.errors import DataError
from sparring.core.identity import prompt_id
from sparring.core.seeding import numpy_rng
from sparring.core.types import Message, Prompt
from sparring.data.row_files import Row, read_any_rows, storable

LETTERS = "ABCD"

Four = tuple[str, str, str, str]

_USERS, _ANSWERS = ([f"{kind}_{letter}" for letter in "abcd"] for kind in ("preference", "answer"))

# Some chat templates say something of their own where there is no system message, and a contrast of prompts with and
# without a principle would contrast that as well.
_SYSTEM = "You are a helpful assistant."

# One letter by itself, perhaps in marks. The lookaheads say what it is not: the first letter or the first word of a
# text ("Because", "a good answer", "B or C"), or one of a list ("A, B, C or D").
_CHOICE = re.compile(r"[\W_]*(?P<letter>[A-Da-d])(?![^\W_])(?![^\S\n]+\w)(?![\s,/&+|-]+[A-D](?![^\W_]))")


@dataclass(frozen=True, slots=True)
class PersonalQuestion:
    """`answers[k]` was written for the person whom `users[k]` describes. `index` is the row's own name."""

    index: int | str
    domain: str
    question: str
    users: Four
    answers: Four

    @property
    def id(self) -> str:
        """By what is asked and answered, so that neither the file nor its order matters."""
        return prompt_id([Message("user", self.question), *(Message("assistant", answer) for answer in self.answers)])


@dataclass(frozen=True, slots=True)
class PersonalItem:
    """`users[user]` asks, and place `right`, counted from 0, shows the answer for them. Letters are of places."""

    question: PersonalQuestion
    user: int
    prompt: Prompt
    right: int


def read_personal_questions(path: Path) -> list[PersonalQuestion]:
    """In the order of the file: a JSON array, JSON Lines, CSV or Parquet, with the columns of the published set."""
    if not path.exists():
        raise DataError(f"{path} does not exist; give a file of personal preference questions.")
    questions: dict[str, PersonalQuestion] = {}
    rows: dict[str, int] = {}
    for number, row in enumerate(read_any_rows(path), start=1):
        question = _question(row, f"row {number} of {path}")
        if question.id in questions:
            raise DataError(f"rows {rows[question.id]} and {number} of {path} are the same question; keep one of them.")
        questions[question.id], rows[question.id] = question, number
    if not questions:
        raise DataError(f"{path} holds no questions; give a file with at least one.")
    return list(questions.values())


def items_of(question: PersonalQuestion, seed: int) -> list[PersonalItem]:
    """The question as each of the four asks it, with the answers in one order, which is drawn.

    As all four are shown the same, every letter is right once: who says the same whoever asks is right in exactly one
    of four, whatever letter that is. (The authors' script shows answers in the order of users, and draws who asks.)
    Who asks stands in `meta["principle"]`, which a policy may or may not be told.
    """
    order: list[int] = numpy_rng(seed, "order of answers", question.id).permutation(len(LETTERS)).tolist()
    messages = (Message("system", _SYSTEM), Message("user", _shown(question, order)))
    asked = prompt_id(messages)
    return [
        PersonalItem(
            question,
            user,
            Prompt(f"{asked}-{LETTERS[order.index(user)]}", messages, meta={"principle": _principle(description)}),
            order.index(user),
        )
        for user, description in enumerate(question.users)
    ]


def read_choice(text: str) -> int | None:
    """The place whose letter a response begins with, or None: what cannot be read is not guessed.

    After the authors' rule, which takes the first character that is not blank, but the letter has to stand by itself.
    Marks around it and the lower case do not matter: "B", "(b)", "**C**: because" and "D. More" are choices. "Because",
    "A good answer", "B or C" and "A, B, C or D" are none, nor is a letter after other words.
    """
    found = _CHOICE.match(text)
    return None if found is None else LETTERS.index(found["letter"].upper())


def _shown(question: PersonalQuestion, order: Sequence[int]) -> str:
    answers = (f"{letter}. {question.answers[k]}" for letter, k in zip(LETTERS, order, strict=True))
    return "\n\n".join(
        (
            f"Question: {question.question}",
            "Four answers were written for different people:",
            *answers,
            "Which of them suits the person who asks? Reply with its letter alone: A, B, C or D.",
            "Answer:",
        )
    )


def _principle(description: str) -> str:
    return f"The question comes from this person, whose needs the answer has to take into account: {description}"


def _question(row: Row, where: str) -> PersonalQuestion:
    index = row.get("index")
    if not isinstance(index, int | str):
        raise DataError(f"{where} has no column 'index' with a number or a text; number the rows.")
    domain, question, *rest = (_text(row, column, where) for column in ("domain", "question", *_USERS, *_ANSWERS))
    users, answers = _four(rest[:4]), _four(rest[4:])
    for what, texts in (("people", users), ("answers", answers)):
        if len(set(texts)) < len(texts):
            raise DataError(f"{where} has two {what} that are the same, so no letter is right; mend or remove it.")
    return PersonalQuestion(index, domain, question, users, answers)


def _text(row: Row, column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise DataError(
            f"{where} has no text in column {column!r}; a row needs index, domain, question, preference_a to "
            "preference_d and answer_a to answer_d."
        )
    return storable(value.strip(), where)


def _four(texts: Sequence[str]) -> Four:
    first, second, third, fourth = texts
    return first, second, third, fourth
