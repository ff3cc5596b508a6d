"""`sparring evaluate suite=personal`: whether a policy that is told who asks chooses the answer for that person.

At personal preferences Linear Alignment is said to be strong (arXiv 2401.11458). `policies` are one model under several
ways of decoding, or several models.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from rich.markup import escape
from rich.table import Table

from sparring.analysis.choices import measure_choices
from sparring.analysis.resampling import resampling
from sparring.cli.entrants import ENDPOINT, TEACHER, Node, entrants_of, is_recorded
from sparring.cli.parts import Parts
from sparring.cli.policies import Source
from sparring.cli.tables import console, print_whole
from sparring.core.errors import ConfigError
from sparring.core.files import write_json
from sparring.core.seeding import derive_seed
from sparring.data.personal_questions import (
    LETTERS,
    PersonalQuestion,
    items_of,
    read_choice,
    read_personal_questions,
)
from sparring.data.rounds import write_parquet
from sparring.rollout.entrants import Entrant
from sparring.rollout.field import Field

CHOICES = pa.schema(
    {
        "policy": pa.string(),
        "question": pa.string(),  # its row's index
        "domain": pa.string(),
        "user": pa.string(),  # a to d, as in the file
        "prompt_id": pa.string(),
        "right": pa.string(),  # a letter, as shown
        "chosen": pa.string(),  # a letter, or null where none could be read
        "text": pa.string(),
    }
)
NOTE = (
    "Chance is 0.250, and who is not told who asks does no better on average: each question is asked by all four of "
    "its people, and every letter is right once. Unreadable answers count as wrong. Intervals: 95%, over questions.\n"
    "Tokens: of an answer; computed: what decoding it took (both contexts of a steered policy). Seconds: per answer."
)

Row = Mapping[str, Any]


def evaluate_personal(
    sources: Sequence[Source],
    *,
    output: Path,
    seed: int,
    questions: str,
    limit: int | None,
    sampler: Node,
    decodings: Mapping[str, Node],
    load_model: Node,
    chunk_size: int,
) -> None:
    """Documented in conf/suite/personal.yaml. Writes `answers/POLICY/`, `choices.parquet` and, last, `summary.json`."""
    _require_policies(sources)
    chosen = drawn(read_personal_questions(Path(questions).expanduser()), limit, seed)
    entrants = entrants_of(
        sources,
        parts=Parts({}),
        load_model=load_model,
        sampler=sampler,
        decodings=decodings,
        endpoint=None,
        questions=None,
    )
    exam = Exam(entrants, chosen, output, chunk_size=chunk_size, seed=seed)
    exam.ask()
    summary = exam.summary()
    write_parquet(output / "choices.parquet", CHOICES, exam.rows())
    write_json(output / "summary.json", summary)
    out = console()
    print_whole(out, accuracy_table(summary))
    print_whole(out, places_table(summary))
    for line in (NOTE, f"written to {output}"):
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _require_policies(sources: Sequence[Source]) -> None:
    for source in sources:
        if source.place in (TEACHER, ENDPOINT) or is_recorded(source):
            raise ConfigError(f"{source.place} cannot be told who asks; name runs and models, as told=MODEL+principle.")


def drawn(questions: Sequence[PersonalQuestion], limit: int | None, seed: int) -> list[PersonalQuestion]:
    """In an order that depends on the questions and the seed, so that rows of a file may stand in any."""
    if limit is not None and not 1 <= limit <= len(questions):
        raise ConfigError(
            f"suite.limit is {limit}, but there are {len(questions)} questions; give a number from 1 to that."
        )
    return sorted(questions, key=lambda question: derive_seed(seed, "questions", question.id))[:limit]


# ---------------------------------------------------------------- what is measured


class Exam:
    """Who is asked which questions; answers are kept in `output`."""

    def __init__(
        self,
        entrants: Sequence[Entrant],
        questions: Sequence[PersonalQuestion],
        output: Path,
        *,
        chunk_size: int,
        seed: int,
    ) -> None:
        self._questions, self._seed = questions, seed
        self.items = [item for question in questions for item in items_of(question, seed)]
        prompts = [item.prompt for item in self.items]
        self.field = Field(entrants, prompts, output, chunk_size=chunk_size, seed=seed)

    def ask(self) -> None:
        self.field.answer()

    def summary(self) -> dict[str, Any]:
        """Every policy is compared with the first."""
        report = list[dict[str, Any]]()
        right = np.array([item.right for item in self.items])
        draw = resampling(np.arange(len(right)) // len(LETTERS), seed=derive_seed(self._seed, "evaluate bootstrap"))
        first: Float[np.ndarray, "items places"] | None = None
        answers = self._answers()
        for entrant in self.field.entrants:
            said = answers[entrant.label]
            chosen = choices([said[item.prompt.id] for item in self.items])
            found = measure_choices(chosen, right, draw, other=first)
            who = {"label": entrant.label, "described": entrant.described}
            report.append({**who, **asdict(found), **self.field.described(entrant)})
            first = chosen if first is None else first
        counts = {"questions": len(self._questions), "items": len(self.items)}
        return {**counts, "chance": 1 / len(LETTERS), "policies": report}

    def rows(self) -> Iterator[Row]:
        for label, answers in self._answers().items():
            for item in self.items:
                for text in answers[item.prompt.id]:
                    yield {
                        "policy": label,
                        "question": str(item.question.index),
                        "domain": item.question.domain,
                        "user": "abcd"[item.user],
                        "prompt_id": item.prompt.id,
                        "right": LETTERS[item.right],
                        "chosen": None if (place := read_choice(text)) is None else LETTERS[place],
                        "text": text,
                    }

    def _answers(self) -> dict[str, dict[str, list[str]]]:
        """Texts by policy and prompt."""
        found: dict[str, dict[str, list[str]]] = {}
        for row in self.field.rows():
            found.setdefault(row["policy"], {}).setdefault(row["prompt_id"], []).append(row["text"])
        return found


def choices(texts: Sequence[Sequence[str]]) -> Float[np.ndarray, "items places"]:
    """Of the responses to each item, the share that chose each place."""
    shares = np.zeros((len(texts), len(LETTERS)))
    for item, responses in enumerate(texts):
        for text in responses:
            if (place := read_choice(text)) is not None:
                shares[item, place] += 1 / len(responses)
    return shares


# ---------------------------------------------------------------- tables


def accuracy_table(summary: Mapping[str, Any]) -> Table:
    policies = summary["policies"]
    table = Table(title=f"the answer for who asks: {summary['questions']:,} questions x 4 people; chance is 0.250")
    table.add_column("policy")
    first = escape(policies[0]["label"])
    for column in ("accuracy", "95% interval", f"less {first}", "95% interval", "unreadable"):
        table.add_column(column, justify="right")
    for column in ("tokens", "computed", "seconds"):
        table.add_column(column, justify="right")
    for policy in policies:
        table.add_row(
            escape(policy["label"]),
            *_shown(policy["accuracy"]),
            *_shown(policy["lead"], "+"),
            f"{policy['unreadable']['value']:.3f}",
            f"{policy['tokens']:.1f}",
            f"{policy['computed']:.1f}",
            f"{policy['seconds']:.4f}",
        )
    return table


def places_table(summary: Mapping[str, Any]) -> Table:
    """What position does: letters are right equally often, so without a bias for places they are chosen so too."""
    table = Table(title="by place: share of answers that choose it, and accuracy where the right answer stands there")
    table.add_column("policy")
    for column in (*(f"chosen {letter}" for letter in LETTERS), *(f"right at {letter}" for letter in LETTERS)):
        table.add_column(column, justify="right")
    for policy in summary["policies"]:
        cells = (f"{found['value']:.3f}" for found in (*policy["chosen"], *policy["right_at"]))
        table.add_row(escape(policy["label"]), *cells)
    return table


def _shown(found: Mapping[str, Any] | None, sign: str = "") -> tuple[str, str]:
    if found is None:
        return "-", "-"
    low, high = found["ci95"]
    return f"{found['value']:{sign}.3f}", f"{low:{sign}.3f} .. {high:{sign}.3f}"
