"""Files of recorded outputs, for other tools and from them; what rows look like stands in `output_formats.py`.

The tools know a model by the name of its file (MT-Bench, Arena-Hard), and the difficulty of a prompt by the number of
its row (AlpacaEval). TRL's preference data are read as outputs of models "chosen" and "rejected".
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from sparring.core.errors import DataError
from sparring.core.files import atomic_path
from sparring.core.types import Output, Prompt
from sparring.data import output_formats as formats
from sparring.data.preference_files import preferences_of
from sparring.data.row_files import Row, read_any_rows

Format = Literal["alpaca_eval", "mt_bench", "arena_hard"]

WRITERS: Mapping[str, Callable[[Output], dict[str, Any]]] = {
    "alpaca_eval": formats.alpaca_eval_row,
    "mt_bench": formats.mt_bench_row,
    "arena_hard": formats.arena_hard_row,
}

# Columns that a row of the format has. The first that fits counts.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "alpaca_eval": ("instruction", "output", "generator"),
    "mt_bench": ("question_id", "choices"),
    "arena_hard": ("uid", "messages"),
    "trl": ("chosen", "rejected"),
    "sparring": ("policy", "prompt_id", "messages", "meta", "text", "tokens", "seconds"),
}


def write_outputs(path: Path, outputs: Sequence[Output], format: Format) -> None:
    """The outputs of one model in their order: a JSON array for AlpacaEval, else JSON Lines, one output a question."""
    models = sorted({output.model for output in outputs})
    if len(models) != 1:
        raise DataError(f"{path} would hold outputs of {', '.join(models) or 'no model'}; give those of one model.")
    ending = ".json" if format == "alpaca_eval" else ".jsonl"
    if path.suffix != ending:
        raise DataError(f"{path} does not end in {ending}, by which the tools of {format} know it; give such a name.")
    rows = [WRITERS[format](output) | formats.costs(output) for output in outputs]
    with atomic_path(path) as temporary:
        if format == "alpaca_eval":
            temporary.write_text(json.dumps(rows, indent=2) + "\n")
            return
        [(question, count)] = Counter(row[COLUMNS[format][0]] for row in rows).most_common(1)
        if count > 1:
            raise DataError(f"{models[0]} has {count} outputs for question {question}; {path} has room for one.")
        now = {"tstamp": time.time()}
        temporary.write_text("".join(json.dumps(row | now) + "\n" for row in rows))


def read_outputs(path: Path, questions: Path | None = None) -> list[Output]:
    """In the order of the file, whose format is found by the columns of its first row.

    Rows of MT-Bench do not say what was asked. `questions` is the file that does; None looks where FastChat keeps it,
    in the folder above that of `path`.
    """
    rows = read_any_rows(path)
    head = next(rows, None)
    if head is None:
        raise DataError(f"{path} holds no outputs; give a file with at least one.")
    name = _detected(head, path)
    if name == "trl":
        pairs = list(preferences_of(chain([head], rows), path))
        chosen = [Output(pair.prompt, pair.chosen, "chosen") for pair in pairs]
        return chosen + [Output(pair.prompt, pair.rejected, "rejected") for pair in pairs]
    outputs: list[Output] = []
    outputs_of = _reader(name, path, questions)
    for number, row in enumerate(chain([head], rows), start=1):
        where = f"row {number} of {path}"
        if missing := set(COLUMNS[name]) - row.keys():
            raise DataError(f"{where} has no column {min(missing)!r}, which format {name} needs; mend or remove it.")
        outputs += outputs_of(row, where)
    return outputs


def read_questions(path: Path) -> dict[str | int, Prompt]:
    """MT-Bench's questions by their number, as prompts of the first turn; all turns are in `meta`."""
    rows = enumerate(read_any_rows(path), start=1)
    prompts = [formats.question(row, f"row {number} of {path}") for number, row in rows]
    return {prompt.meta["question_id"]: prompt for prompt in prompts}


def _detected(row: Row, path: Path) -> str:
    name = next((name for name, columns in COLUMNS.items() if row.keys() >= set(columns)), None)
    if name is None:
        known = "; ".join(f"{', '.join(columns)} ({name})" for name, columns in COLUMNS.items())
        raise DataError(f"{path} has columns {', '.join(sorted(row))}, those of no known format of outputs: {known}.")
    return name


def _reader(name: str, path: Path, questions: Path | None) -> Callable[[Row, str], list[Output]]:
    if name == "sparring":
        return formats.from_responses
    if name != "mt_bench":
        return formats.from_alpaca_eval if name == "alpaca_eval" else formats.from_arena_hard
    asked = questions or path.parent.parent / "question.jsonl"
    if questions is None and not asked.exists():
        raise DataError(f"{path} does not say what was asked, and there is no {asked}; give the file of questions.")
    return partial(formats.from_mt_bench, questions=read_questions(asked))
