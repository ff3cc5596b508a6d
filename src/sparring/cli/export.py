"""`sparring export RUN to=FILE`: the pairs that a run was trained on, as a preference data set that TRL reads.

    sparring export outputs/quickstart to=pairs.jsonl
    sparring export outputs/quickstart to=pairs.parquet rounds=0,2 conversational=true

A row has `prompt`, `chosen` and `rejected`, and `score_chosen` and `score_rejected` where the annotator scores. They
are texts, which TRL puts one after the other; with conversational=true they are messages, to which it applies the
model's chat template. Pairs that a round replayed are those of the round that made them, and come once.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sparring.cli.check import suggestion
from sparring.cli.explain import one_sentence
from sparring.cli.finished_rounds import chosen_rounds
from sparring.cli.tables import console
from sparring.core.errors import ConfigError, DataError
from sparring.core.files import require_writable
from sparring.core.types import Message, Prompt
from sparring.data.preference_files import Preference, own_pairs, write_preferences
from sparring.data.rounds import RoundStore, read_rows

KEYS = ("to", "rounds", "conversational")


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    with one_sentence():
        export(Path(arguments[0]), arguments[1:])


def export(run: Path, arguments: Sequence[str]) -> None:
    given = _given(arguments)
    rounds = chosen_rounds(run, [f"rounds={given['rounds']}"] if "rounds" in given else [])
    path = _target(given)
    store = RoundStore(run / "rounds")
    for index in rounds:
        _require_pairs(run, store, index)
    pairs = itertools.chain.from_iterable(_pairs(run, store, index) for index in rounds)
    first = next(pairs, None)
    if first is None:
        raise DataError(f"{_named(run, rounds)} kept no pairs; see `sparring show {run}` for what was dropped.")
    conversational = given.get("conversational") == "true"
    written = write_preferences(path, itertools.chain([first], pairs), conversational=conversational)
    form = "messages" if conversational else "texts without a chat template"
    line = f"{written:,} pairs of {_named(run, rounds)} written to {path}, as {form}"
    console().print(line, highlight=False, markup=False, soft_wrap=True)


def _given(arguments: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in KEYS:
            raise ConfigError(f"sparring export has no key {key!r}{suggestion(key, KEYS)}")
        if key in given:
            raise ConfigError(f"{key} is given twice; give it once.")
        given[key] = value
    if given.get("conversational", "false") not in ("true", "false"):
        raise ConfigError(f"conversational is {given['conversational']!r}; it must be true or false.")
    return given


def _target(given: dict[str, str]) -> Path:
    if not given.get("to"):
        raise ConfigError("no file is named; add to=FILE.jsonl or to=FILE.parquet.")
    path = Path(given["to"]).expanduser()
    if path.suffix not in (".jsonl", ".parquet"):
        raise ConfigError(f"to is {given['to']}, which ends in neither .jsonl nor .parquet; give a name that does.")
    require_writable(path, "to")
    if path.exists():
        raise ConfigError(f"{path} is there already; remove it, or give another name.")
    return path


def _require_pairs(run: Path, store: RoundStore, index: int) -> None:
    files = store.manifest(index)["files"]
    if "pairs.parquet" not in files:
        raise DataError(f"round {index} of {run} has no pairs, as nothing was compared in it; give another run.")
    if "candidates.parquet" not in files:
        raise DataError(
            f"round {index} of {run} took its rows from elsewhere (see rollout in config.yaml), and its prompts are "
            "not kept; export what it took them from."
        )
    store.verify(index)


def _pairs(run: Path, store: RoundStore, index: int) -> Iterator[Preference]:
    """The round's own ones, in their order."""
    prompts = _prompts(store, index)
    for row in own_pairs(store.table(index, "pairs")):
        if row["rejected"] is None:
            raise DataError(f"round {index} of {run} has single responses, not pairs; give a run or rounds with pairs.")
        yield Preference(prompts[row["prompt_id"]], row["chosen"], row["rejected"], _ratings(row))


def _prompts(store: RoundStore, index: int) -> dict[str, Prompt]:
    """By their id, with the messages that the pairs table has only as one text."""
    rows = (row for row in read_rows(store.table(index, "candidates")) if row["index"] == 0)
    return {
        row["prompt_id"]: Prompt(
            row["prompt_id"], tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])
        )
        for row in rows
    }


def _ratings(row: dict[str, Any]) -> tuple[float, float] | None:
    chosen, rejected = row["chosen_rating"], row["rejected_rating"]
    return None if chosen is None or rejected is None else (chosen, rejected)


def _named(run: Path, rounds: Sequence[int]) -> str:
    return f"{run}, round{'s' * (len(rounds) > 1)} {', '.join(map(str, rounds))}"
