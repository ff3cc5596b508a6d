"""Several entrants answer the same prompts, and annotators judge all answers to a prompt together.

Everything is kept on disk as it comes, under names that change with what it depends on: an evaluation that was killed
goes on, and one policy more does not have the others answer again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sparring.analysis.comparison import Judged
from sparring.analysis.payoff import Player
from sparring.analysis.win_rate import won
from sparring.core.answers import Expense, canonical
from sparring.core.errors import ConfigError, DataError, RoundError
from sparring.core.protocols import Annotator
from sparring.core.types import Candidates, Prompt, Response
from sparring.data.rounds import Chunks
from sparring.data.schema import message_columns, to_judgement
from sparring.rollout.chunks import annotate_chunk, chunk_ranges, total_cached
from sparring.rollout.entrants import TABLE, Entrant, Foreseen, collect, naming, shortened

LONGEST_NAME = 200  # characters, which a file system takes and leaves room for what is put around them


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What one annotator says of all prompts that it has a verdict on; `unjudged` counts the others by status."""

    judged: list[Judged]
    unjudged: dict[str, int]
    expense: Expense

    def outcomes(self, players: Sequence[Player], baseline: str, annotator: str) -> Iterator[dict[str, Any]]:
        """How each player fares against the baseline on each prompt: rows of POLICY_OUTCOMES."""
        labels = [player.label for player in players]
        for one in self.judged:
            theirs = list(one.members[labels.index(baseline)])
            for label, members in zip(labels, one.members, strict=True):
                if label != baseline:
                    block = one.win[np.ix_(list(members), theirs)]
                    yield {
                        "policy": label,
                        "prompt_id": one.prompt,
                        "annotator": annotator,
                        "against": baseline,
                        "win": float(won(block).mean()),
                        "probability": float(block.mean()),
                    }


@dataclass(frozen=True, slots=True)
class Field:
    """Who takes part, and what they are asked; `chunk_size` prompts are answered, judged and stored together."""

    entrants: Sequence[Entrant]
    prompts: Sequence[Prompt]
    output: Path
    chunk_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.chunk_size < 1:
            raise ConfigError(f"suite.chunk_size is {self.chunk_size}; it must be 1 or more.")
        [(prompt, count)] = Counter(prompt.id for prompt in self.prompts).most_common(1)
        if count > 1:
            raise DataError(f"prompt {prompt} is there {count} times; ask every prompt once.")
        for label in [entrant.label for entrant in self.entrants]:
            if label in ("", ".", "..") or len(_file_name(label)) > LONGEST_NAME:
                raise ConfigError(
                    f"the policy {shortened(label)!r} cannot give its name to a directory; name it otherwise, as "
                    "LABEL=PLACE."
                )

    @property
    def players(self) -> list[Player]:
        """All of one kind: rounds of several runs are no sequence."""
        return [Player(each.label, "other", each.rounds) for each in self.entrants]

    def foreseen(self) -> list[Foreseen]:
        """Of each prompt, all entrants together; raises DataError where one is known to have no answer."""
        table: list[list[Foreseen]] = []
        for entrant in self.entrants:
            with naming(entrant.label):
                table.append(entrant.foreseen(self.prompts))
        return [
            Foreseen(sum(one.responses for one in each), sum(one.tokens for one in each))
            for each in zip(*table, strict=True)
        ]

    # ---------------------------------------------------------------- answers

    def answer(self) -> None:
        """Have everybody answer what they have not answered yet, unless it is known that one of them cannot."""
        self.foreseen()
        for entrant in self.entrants:
            collect(entrant, self.prompts, self._answers(entrant), chunk_size=self.chunk_size, seed=self.seed)

    def rows(self) -> Iterator[dict[str, Any]]:
        """All answers, policy by policy: rows of RESPONSES."""
        asked = {prompt.id: message_columns(prompt) for prompt in self.prompts}
        for entrant in self.entrants:
            for row in self._said(entrant):
                yield {"policy": entrant.label, **asked[row["prompt_id"]], **row}

    def described(self, entrant: Entrant) -> dict[str, Any]:
        """What an entrant's answers are like on average, and what they took; None where nobody knows."""
        rows = list(self._said(entrant))
        facts = [self._answers(entrant).facts(TABLE, number) for number in self._numbers]
        computed, finish = [fact["computed"] for fact in facts], [row["finish"] for row in rows]
        measured = [row["seconds"] for row in rows]
        # What was recorded is read in no time, which says nothing.
        shared = None if None in computed else sum(fact["seconds"] for fact in facts) / len(rows)
        return {
            "rounds": entrant.rounds,
            "responses": len(rows),
            "tokens": _mean([row["tokens"] for row in rows]),
            "computed": None if None in computed else sum(computed) / len(rows),
            "characters": float(np.mean([len(row["text"]) for row in rows])),
            "seconds": shared if None in measured else float(np.mean(measured)),
            "ended": None if None in finish else float(np.mean([each == "stop" for each in finish])),
            "tokenizer": facts[0]["tokenizer"],
            "expense": {name: sum(fact["expense"][name] for fact in facts) for name in facts[0]["expense"]},
        }

    def _said(self, entrant: Entrant) -> Iterator[dict[str, Any]]:
        """Of these prompts alone: an earlier evaluation may have asked more."""
        for number in self._numbers:
            yield from self._answers(entrant).rows(TABLE, number)

    # ---------------------------------------------------------------- judgements

    def judge(self, name: str, annotator: Annotator, said: Mapping[str, Any]) -> Verdicts:
        """`said` is the annotator's configuration: answers are judged anew where it, or an answer, is another."""
        chunks = Chunks(self._judgements(name, said))
        for number in self._numbers:
            if not chunks.has("judgements", number):
                annotate_chunk(annotator, [joined for joined, _ in self._joined(number)], chunks, number)
        judged: list[Judged] = []
        unjudged: Counter[str] = Counter()
        expense = Expense()
        for number in self._numbers:
            rows = chunks.rows("judgements", number)
            for (candidates, members), row in zip(self._joined(number), rows, strict=True):
                judgement = to_judgement(row)
                expense += judgement.expense
                if judgement.status != "ok":
                    unjudged[judgement.status] += 1
                    continue
                lengths = tuple(len(response.text) for response in candidates.responses)
                judged.append(Judged(candidates.prompt.id, judgement.win, members, lengths, judgement.aspects))
        if not judged:
            raise RoundError(
                f"annotator {name} gave no verdict on any prompt; see the status column in {chunks.directory}."
            )
        return Verdicts(judged, dict(unjudged), replace(expense, cached=total_cached(chunks)))

    def _joined(self, number: int) -> Iterator[tuple[Candidates, tuple[tuple[int, ...], ...]]]:
        """Of each prompt of a chunk all answers, and where each entrant's stand among them."""
        answers = [_by_prompt(self._answers(entrant).rows(TABLE, number)) for entrant in self.entrants]
        for place in chunk_ranges(len(self.prompts), self.chunk_size)[number]:
            prompt = self.prompts[place]
            responses: list[Response] = []
            members: list[tuple[int, ...]] = []
            for said in answers:
                members.append(tuple(range(len(responses), len(responses) + len(said[prompt.id]))))
                responses += said[prompt.id]
            yield Candidates(prompt, (), tuple(responses)), tuple(members)

    # ---------------------------------------------------------------- places

    @property
    def _numbers(self) -> range:
        return range(len(chunk_ranges(len(self.prompts), self.chunk_size)))

    def _answers(self, entrant: Entrant) -> Chunks:
        return Chunks(self.output / "answers" / _file_name(entrant.label))

    def _judgements(self, name: str, said: Mapping[str, Any]) -> Path:
        made = [
            [self._answers(entrant).facts(TABLE, number)[fact] for fact in ("entrant", "prompts", "seed")]
            for entrant in self.entrants
            for number in self._numbers
        ]
        return self.output / "judgements" / f"{name}-{canonical({'annotator': said, 'answers': made})[:12]}"


def _file_name(label: str) -> str:
    return quote(label, safe=" +")


def _by_prompt(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Response]]:
    found: dict[str, list[Response]] = {}
    for row in rows:
        response = Response(row["text"], (), "policy", row["finish"] or "stop", float("nan"))
        found.setdefault(row["prompt_id"], []).append(response)
    return found


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
