"""From a row of any common prompt file to a `Prompt`. Pure functions of rows and column names; no file is read here.

| columns found                                | the prompt is                                    | teacher         |
|----------------------------------------------|--------------------------------------------------|-----------------|
| the one named by `prompt_column`             | its text or its messages                         |                 |
| `prompt` (TRL; UltraFeedback binarized)      | its text or its messages                         |                 |
| `chosen`, `rejected` (TRL, implicit prompt)  | the turns that both share, up to the user's last |                 |
| `instruction`, `completions` (UltraFeedback) | the instruction                                  | `teacher_model` |
| `instruction` (AlpacaEval, Alpaca)           | the instruction, then `input` where there is one | `output`        |

The first line that fits counts. A column `teacher` or `completion` is the teacher's answer in any of them; `chosen` is
not, as it is only better than `rejected`. Other columns that hold text, a number, a truth value or a list of texts go
to `Prompt.meta`, where not null.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from sparring.core.errors import DataError
from sparring.core.identity import prompt_id
from sparring.core.types import Message, Prompt

Row = Mapping[str, Any]

_PAIR = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read one kind of row. `messages` reads `columns` only, and is empty where they are not what it `needs`."""

    columns: tuple[str, ...]
    messages: Callable[[Row], tuple[Message, ...]]
    needs: str = "text, or a list of messages with role and content that does not end with the assistant"
    answers: tuple[str, ...] = ("teacher", "completion")
    teacher_model: str | None = None  # among the `completions`, where no column holds the answer


def detect_layout(columns: Sequence[str], *, prompt_column: str | None, teacher_model: str, source: str) -> Layout:
    """`source` names the rows in errors."""
    found = set(columns)
    if prompt_column is not None:
        if prompt_column not in found:
            raise DataError(
                f"{source} has no column {prompt_column!r}, only {_listed(found)}; set prompts.prompt_column to one."
            )
        return Layout((prompt_column,), partial(_from_column, column=prompt_column))
    if "prompt" in found:
        return Layout(("prompt",), partial(_from_column, column="prompt"))
    if found.issuperset(_PAIR):
        return Layout(
            _PAIR, _from_shared_turns, "two lists of messages with role and content that begin with the same turns"
        )
    if found.issuperset(("instruction", "completions")):
        return Layout(("instruction",), partial(_from_column, column="instruction"), teacher_model=teacher_model)
    if "instruction" in found:
        asked = tuple(column for column in ("instruction", "input") if column in found)
        return Layout(
            asked, _from_instruction, "an instruction that is text", answers=("teacher", "completion", "output")
        )
    raise DataError(
        f"{source} has columns {_listed(found)}, none of them a known place for prompts (prompt; instruction; chosen "
        "and rejected); set prompts.prompt_column to the one that holds them."
    )


def to_prompt(row: Row, layout: Layout) -> Prompt:
    messages = layout.messages(row)
    used = {*layout.columns, *layout.answers, *_PAIR}
    meta = {column: value for column, value in row.items() if column not in used and _is_plain(value)}
    return Prompt(prompt_id(messages), messages, _teacher(row, layout), meta)


def _from_column(row: Row, column: str) -> tuple[Message, ...]:
    return _asked(_messages(row[column]))


def _from_instruction(row: Row) -> tuple[Message, ...]:
    parts = [row["instruction"], row.get("input")]
    return _asked(_messages("\n\n".join(part for part in parts if isinstance(part, str) and part.strip())))


def _from_shared_turns(row: Row) -> tuple[Message, ...]:
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) or isinstance(rejected, str):  # whole transcripts, whose turns are not told apart
        return ()
    turns = zip(_messages(chosen), _messages(rejected), strict=False)
    shared = [turn for turn, _ in takewhile(lambda pair: pair[0] == pair[1], turns)]
    while shared and shared[-1].role != "user":
        shared.pop()
    return _asked(tuple(shared))


def _asked(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """`messages` if they ask for an answer: the last one says something and is not an answer itself."""
    asks = bool(messages) and messages[-1].role != "assistant" and bool(messages[-1].content.strip())
    return messages if asks else ()


def _messages(value: object) -> tuple[Message, ...]:
    """Text is one user message; anything but text or a list of `{"role", "content"}` is no message at all."""
    if isinstance(value, str):
        return (Message("user", value),)
    if not isinstance(value, list):
        return ()
    turns = [turn for turn in value if isinstance(turn, Mapping)]
    pairs = [(turn.get("role"), turn.get("content")) for turn in turns]
    messages = tuple(Message(role, said) for role, said in pairs if isinstance(role, str) and isinstance(said, str))
    return messages if len(messages) == len(value) else ()


def _teacher(row: Row, layout: Layout) -> str | None:
    """Text, or the last of a list of messages; an empty answer is none."""
    answers = [answer[-1].content for column in layout.answers if (answer := _messages(row.get(column)))]
    if layout.teacher_model is not None:
        answers += _answers_of(layout.teacher_model, row["completions"] or [])
    return next((answer for answer in answers if answer), None)


def _answers_of(model: str, completions: Sequence[Mapping[str, Any]]) -> list[str]:
    return [one.get("response") or "" for one in completions if model in (one.get("model") or "")]


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, (str, int, float, bool))


def _listed(columns: set[str]) -> str:
    return ", ".join(sorted(columns)) or "none"
