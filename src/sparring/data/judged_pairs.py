"""Recorded preferences with one or several raters per comparison, from files of several makers.

What rows may look like stands at the top of `judged_formats.py`, and which files may hold them in `row_files.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sparring.core.errors import ConfigError, DataError
from sparring.core.jsonl import read_jsonl
from sparring.data import judged_formats as formats
from sparring.data.judged_formats import Ballot, JudgedPair
from sparring.data.preference_files import preferences_of
from sparring.data.row_files import Row, read_any_rows

# Columns that a row of the format has, and how it becomes a pair. The first that fits counts.
FORMATS: dict[str, tuple[frozenset[str], Callable[[Row, str], JudgedPair] | None]] = {
    "sparring": (frozenset({"prompt", "response_a", "response_b"}), formats.own),
    "pandalm": (frozenset({"instruction", "response1", "response2", "annotator1"}), formats.pandalm),
    "alpaca_eval": (frozenset({"instruction", "output_1", "output_2", "preference"}), formats.alpaca_eval),
    "alpaca_features": (frozenset({"model", "row", "index", "preference", "model_is_m"}), formats.alpaca_features),
    "llmbar": (frozenset({"input", "output_1", "output_2", "label"}), formats.llmbar),
    "both_orders": (frozenset({"question_id", "first", "second", "score"}), formats.both_orders),
    "transcripts": (frozenset({"chosen", "rejected"}), formats.transcripts),
    "trl": (frozenset({"chosen", "rejected"}), None),
}


def judged_pairs(path: Path, layout: str = "auto") -> list[JudgedPair]:
    """In the order of the file; `layout` is a key of FORMATS, or is found by the columns of the first row."""
    if layout != "auto" and layout not in FORMATS:
        raise ConfigError(f"format is {layout!r}; it must be auto or one of {', '.join(FORMATS)}.")
    if path.is_dir():
        raise DataError(f"{path} is a directory; give a file of recorded preferences.")
    pairs = merged(_same_prompts(_pairs(path, layout), path))
    if not pairs:
        raise DataError(f"{path} holds no comparisons; give a file with at least one.")
    return pairs


def _same_prompts(pairs: Iterable[JudgedPair], path: Path) -> Iterator[JudgedPair]:
    """`pairs`, unless one id is that of two prompts, whose responses would be judged as answers to the first."""
    prompts: dict[str, int] = {}
    for pair in pairs:
        messages = hash(pair.prompt.messages)
        if prompts.setdefault(pair.prompt.id, messages) != messages:
            raise DataError(f"{path} has different prompts with the prompt_id {pair.prompt.id!r}; give each its own.")
        yield pair


def merged(pairs: Iterable[JudgedPair]) -> list[JudgedPair]:
    """Rows on the same two texts become one, in the direction that came first, unless a rater only repeats himself.

    Further raters and the other order belong together. What a rater was asked again in the same way, as where two
    models gave the same answer, stays a comparison of its own.
    """
    found: list[JudgedPair] = []
    last: dict[tuple[str, str, str], int] = {}
    for pair in pairs:
        here = _turned(pair) if (pair.prompt.id, pair.b, pair.a) in last else pair
        key = (here.prompt.id, here.a, here.b)
        before = found[last[key]].ballots if key in last else ()
        if before and not _ways(before) & _ways(here.ballots):
            found[last[key]] = JudgedPair(here.prompt, here.a, here.b, (*before, *here.ballots))
        else:
            last[key] = len(found)
            found.append(here)
    return found


def _ways(ballots: Iterable[Ballot]) -> set[tuple[str, str | None]]:
    return {(ballot.rater, ballot.first) for ballot in ballots}


def _turned(pair: JudgedPair) -> JudgedPair:
    return JudgedPair(pair.prompt, pair.b, pair.a, tuple(_turned_ballot(ballot) for ballot in pair.ballots))


def _turned_ballot(ballot: Ballot) -> Ballot:
    win = None if ballot.win is None else 1 - ballot.win
    return Ballot(ballot.rater, win, None if ballot.first is None else "b" if ballot.first == "a" else "a")


def _pairs(path: Path, layout: str) -> Iterator[JudgedPair]:
    rows = read_any_rows(path)
    head = next(rows, None)
    if head is None:
        return
    name = _detected(head, path) if layout == "auto" else layout
    columns, pair_of = FORMATS[name]
    if pair_of is None:
        for each in preferences_of(_chained(head, rows), path):
            yield formats.preferred(each.prompt, each.chosen, each.rejected)
        return
    whole = _with_texts(path, name)
    for number, row in enumerate(_chained(head, rows), start=1):
        where = f"row {number} of {path}"
        if missing := columns - row.keys():
            raise DataError(f"{where} has no column {min(missing)!r}, which format {name} needs; mend or remove it.")
        yield pair_of(whole(row, where), where)


def _detected(row: Row, path: Path) -> str:
    name = next((name for name, (columns, _) in FORMATS.items() if columns <= row.keys()), None)
    if name is None:
        raise DataError(
            f"{path} has columns {', '.join(sorted(row))}, which no known format of recorded preferences has; "
            "give rows with prompt, response_a, response_b and raters."
        )
    if name == "transcripts" and not str(row["chosen"]).startswith("\n\nHuman:"):
        return "trl"
    return name


def _with_texts(path: Path, name: str) -> Callable[[Row, str], Row]:
    """For rows that name their texts, a function that adds them as `instruction`, `output_1` and `output_2`."""
    if name == "both_orders":
        stem = path.name.partition("_")[0]
        prompts = _texts(path, f"{stem}_prompts", ("question_id",), "text")
        answers = _texts(path, f"{stem}_responses", ("question_id", "model"), "response")

        def both(row: Row, where: str) -> Row:
            question = row["question_id"]
            first, second = (_at(answers, (question, row[side]), where) for side in ("first", "second"))
            return {**row, "instruction": _at(prompts, (question,), where), "output_1": first, "output_2": second}

        return both
    if name == "alpaca_features":
        asked = _texts(path, "instructions_with_gpt4_reference", ("index",), "instruction")
        references = _texts(path, "instructions_with_gpt4_reference", ("index",), "reference_output")
        outputs = _texts(path, "annotated_outputs", ("model", "row"), "output")

        def features(row: Row, where: str) -> Row:
            index = (int(row["index"]),)
            output = _at(outputs, (row["model"], int(row["row"])), where)
            reference = _at(references, index, where)
            return {**row, "instruction": _at(asked, index, where), "output_1": reference, "output_2": output}

        return features
    return lambda row, where: row


def _texts(path: Path, stem: str, keys: tuple[str, ...], column: str) -> dict[tuple[Any, ...], str]:
    """One column of the file called `stem` beside `path`, by the values of `keys`."""
    beside = [path.with_name(stem + ending) for ending in (".jsonl.gz", ".jsonl")]
    found = next((each for each in beside if each.exists()), None)
    if found is None:
        raise DataError(f"{path} names its texts, which {beside[0].name} beside it must hold; put that file there.")
    return {tuple(row[key] for key in keys): row[column] for row in read_jsonl(found)}


def _at(texts: Mapping[tuple[Any, ...], str], key: tuple[Any, ...], where: str) -> str:
    if key not in texts:
        raise DataError(f"{where} names a text {key}, which the files beside it do not hold; add it there.")
    return texts[key]


def _chained(head: Row, rows: Iterator[Row]) -> Iterator[Row]:
    yield head
    yield from rows
