"""The questions of benchmarks whose tools read answers from files, as prompts in the order of the file.

| format      | columns                                                                                          |
|-------------|--------------------------------------------------------------------------------------------------|
| alpaca_eval | `instruction`, and `dataset` where it says so; the tool wants all 805, in order                  |
| mt_bench    | `question_id`, `category`, `turns`: each turn is asked below the model's own earlier answers     |
| arena_hard  | `uid`, `prompt`; or, of its first release, `question_id` and `turns` with one turn, whose number |
|             | is the same                                                                                      |

A text in a column `principle` goes with the prompt to samplers that are told one.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparring.core.errors import DataError
from sparring.core.identity import prompt_id
from sparring.core.types import Message, Prompt
from sparring.data import output_formats as formats
from sparring.data.judged_formats import asked
from sparring.data.output_files import Format
from sparring.data.row_files import Row, read_any_rows

# By what a tool knows its questions; AlpacaEval does by their text.
NUMBER: Mapping[Format, str | None] = {"alpaca_eval": None, "mt_bench": "question_id", "arena_hard": "uid"}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`prompts` are the first turns of the questions, which stand in `rows` as they were found."""

    format: Format
    rows: Sequence[Row]
    prompts: Sequence[Prompt]

    @property
    def turns(self) -> int:
        return max(len(turns_of(prompt)) for prompt in self.prompts)


def turns_of(prompt: Prompt) -> list[str]:
    return prompt.meta.get("turns", [prompt.text])


def read_benchmark(path: Path, format: Format) -> Benchmark:
    rows = list(read_any_rows(path))
    if not rows:
        raise DataError(f"{path} holds no questions; give a file with at least one.")
    prompts = [_prompt(row, format, f"row {number} of {path}") for number, row in enumerate(rows, start=1)]
    number = NUMBER[format]
    names: list[Any] = [prompt.text if number is None else prompt.meta[number] for prompt in prompts]
    [(name, count)] = Counter(names).most_common(1)
    if count > 1:
        raise DataError(f"{path} has {count} questions {name!r:.60}; leave each there once.")
    return Benchmark(format, rows, prompts)


def _prompt(row: Row, format: Format, where: str) -> Prompt:
    prompt = READERS[format](row, where)
    if not prompt.text.strip():
        raise DataError(f"{where} asks nothing; mend or remove it.")
    if row.get("principle") is None:
        return prompt
    return replace(prompt, meta={**prompt.meta, "principle": formats.text_of(row, "principle", where)})


def _alpaca_eval(row: Row, where: str) -> Prompt:
    prompt = asked(formats.text_of(row, "instruction", where))
    return replace(prompt, meta={"dataset": row["dataset"]}) if isinstance(row.get("dataset"), str) else prompt


def _arena_hard(row: Row, where: str) -> Prompt:
    uid = row.get("uid", row.get("question_id"))
    if not isinstance(uid, str | int):
        raise DataError(f"{where} has {uid!r} as uid, by which Arena-Hard knows its questions; give a text.")
    turns = [formats.text_of(row, "prompt", where)] if "prompt" in row else formats.turns_of(row, where)
    if len(turns) != 1:
        raise DataError(f"{where} has {len(turns)} turns; Arena-Hard's questions have one.")
    messages = (Message("user", turns[0]),)
    return Prompt(prompt_id(messages), messages, meta={"uid": uid})


READERS: Mapping[Format, Callable[[Row, str], Prompt]] = {
    "alpaca_eval": _alpaca_eval,
    "mt_bench": formats.question,
    "arena_hard": _arena_hard,
}
