"""`sparring pair RUN`: other pairs of the judgements that a run has stored. Nothing is generated and nobody is asked.

    sparring pair outputs/quickstart pairing=dno_margin,best_vs_worst,spin
    sparring pair outputs/quickstart pairing.filters.min_positive.threshold=0.4,0.5,0.6

Arguments are those of `sparring train` for the group `pairing`; lists separated by commas make every combination, and
without pairing=NAME the run's own pairing is changed. `rounds=0,1` takes some of the finished rounds. The pairs of a
combination are written to RUN/pairings/NAME.parquet, which rollout=recorded_pairs trains on.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.table import Table

from sparring.cli.check import check_targets
from sparring.cli.explain import one_sentence
from sparring.cli.finished_rounds import chosen_rounds
from sparring.cli.make import make
from sparring.cli.saved_config import saved_config
from sparring.cli.tables import console
from sparring.cli.train import conf_directory
from sparring.core.errors import ConfigError, DataError
from sparring.core.files import read_json, sha256, write_json
from sparring.data.rounds import RoundStore, parquet_writer
from sparring.data.schema import PAIRS
from sparring.pairing.funnel import Counts, Pairing
from sparring.rollout.pairs import pair_rows, stored
from sparring.rollout.statistics import SampleStatistics

PROMPTS = 256  # paired before their rows are written: bounds memory


@dataclass(frozen=True)
class Construction:
    """One way to pair: what was asked for, what it means, and what has come of it so far."""

    name: str
    overrides: tuple[str, ...]
    described: str  # in YAML, which has infinite margins
    pairing: Pairing
    statistics: SampleStatistics = field(default_factory=SampleStatistics)


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    with one_sentence():
        pair(Path(arguments[0]), arguments[1:])


def pair(run: Path, arguments: Sequence[str]) -> None:
    chosen = [argument for argument in arguments if argument.startswith("rounds=")]
    rounds = _rounds(run, chosen)
    some = [f"rounds-{'-'.join(map(str, rounds))}"] if chosen else []
    constructions = _constructions(run, [argument for argument in arguments if argument not in chosen], some)
    _write(run, rounds, constructions)
    _print(run, rounds, constructions)


# ---------------------------------------------------------------- what is asked for


def _rounds(run: Path, chosen: Sequence[str]) -> list[int]:
    store = RoundStore(run / "rounds")
    rounds = chosen_rounds(run, chosen)
    for index in rounds:
        if "judgements.parquet" not in store.manifest(index)["files"]:
            raise DataError(
                f"round {index} of {run} has no judgements to pair anew, as nothing was compared in it; "
                "give a run with rollout=preference."
            )
        store.verify(index)
    return rounds


def _constructions(run: Path, arguments: Sequence[str], some: Sequence[str]) -> list[Construction]:
    """`some` names the rounds, where they are not all."""
    made: dict[str, Construction] = {}
    for overrides in _products(arguments):
        name = "+".join([*_words(overrides), *some])
        node = _node(run, overrides)
        check_targets(node, "pairing")
        if name in made:
            raise ConfigError(
                f"{' '.join(made[name].overrides)} and {' '.join(overrides)} would both be called {name}; "
                "run sparring pair once for each, and move the first result away."
            )
        made[name] = Construction(name, tuple(overrides), OmegaConf.to_yaml(node), make(node))
        path = _manifest(run, name)
        if path.exists() and read_json(path)["pairing"] != made[name].described:
            raise ConfigError(f"{path} describes other pairs of the same name; move it and its table away.")
    return list(made.values())


def _products(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Every combination of the values that are lists, as Hydra's own sweeps make them."""
    choices: list[list[str]] = []
    keys: set[str] = set()
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        key = override.get_key_element().lstrip("+~")
        if not re.match(r"pairing($|[.@])", key):
            raise ConfigError(
                f"sparring pair changes the pairing only, and {override.input_line!r} is something else; "
                "give pairing=NAME, pairing.KEY=VALUE or rounds=0,1."
            )
        if key in keys:
            raise ConfigError(f"{key} is given twice; for several constructions write {key}=A,B.")
        keys.add(key)
        if override.is_sweep_override():
            left = override.get_key_element()
            choices.append([f"{left}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([str(override.input_line)])
    return (list(combination) for combination in itertools.product(*choices))


def _words(overrides: Sequence[str]) -> list[str]:
    """Of a file name that needs no quotes on a command line."""
    options = [override.removeprefix("pairing=") for override in overrides if override.startswith("pairing=")]
    others = [override for override in overrides if not override.startswith("pairing=")]
    short = [re.sub(r"^(\+*|~)pairing\.(filters\.|strategy\.)?", "", override) for override in others]
    return [re.sub(r"[^\w.]", "-", word) for word in [*(options or ["own"]), *short]]


def _node(run: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The configured pairing, all its references resolved."""
    saved = saved_config(run)
    if any(override.startswith("pairing=") for override in overrides):
        directory, primary, given = conf_directory(), "train", ["run_name=pair", f"seed={saved['seed']}"]
    else:
        directory, primary, given = run.resolve(), "config", []
    with initialize_config_dir(str(directory), version_base="1.3"):
        composed = compose(primary, [*given, *overrides])
    config: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # pyright: ignore[reportAssignmentType]
    return config["pairing"]


# ---------------------------------------------------------------- what is done


def _path(run: Path, name: str) -> Path:
    return run / "pairings" / f"{name}.parquet"


def _manifest(run: Path, name: str) -> Path:
    return run / "pairings" / f"{name}.json"


def _write(run: Path, rounds: Sequence[int], constructions: Sequence[Construction]) -> None:
    """All tables or, where one fails, none."""
    store = RoundStore(run / "rounds")
    with ExitStack() as files:
        writers = [files.enter_context(parquet_writer(_path(run, each.name), PAIRS)) for each in constructions]
        for index in rounds:
            prompts = stored(store, index)
            while part := list(itertools.islice(prompts, PROMPTS)):
                for each, write in zip(constructions, writers, strict=True):
                    rows = (pair_rows(each.pairing, *prompt, index, each.statistics) for prompt in part)
                    write(itertools.chain.from_iterable(rows))
    for each in constructions:
        path = _path(run, each.name)
        facts = {
            "pairing": each.described,
            "overrides": each.overrides,
            "rounds": {str(index): store.manifest_hash(index) for index in rounds},
            "funnel": each.statistics.funnel.to_dict(),
            "metrics": each.statistics.metrics(),
            "files": {path.name: {"rows": pq.read_metadata(path).num_rows, "sha256": sha256(path)}},
        }
        write_json(_manifest(run, each.name), facts)


def _print(run: Path, rounds: Sequence[int], constructions: Sequence[Construction]) -> None:
    table = Table(title=f"pairs of {run.name}, round{'s' * (len(rounds) > 1)} {', '.join(map(str, rounds))}")
    table.add_column("", no_wrap=True)
    for each in constructions:
        table.add_column(each.name, justify="right", overflow="fold")
    funnels = [each.statistics.funnel for each in constructions]
    for title in ("prompts", "candidates", "proposed"):
        table.add_row(title, *(f"{getattr(funnel, title):,}" for funnel in funnels))
    for title, counts in (
        ("judgements failed", [funnel.failed for funnel in funnels]),
        ("dropped", [funnel.dropped for funnel in funnels]),
        ("kept", [funnel.kept for funnel in funnels]),
    ):
        for row in _count_rows(title, counts):
            table.add_row(*row)
    metrics = [each.statistics.metrics() for each in constructions]
    for title, key, form in (
        ("mean margin", "annotator/pair_margin", ".3f"),
        ("mean win", "annotator/pair_win", ".3f"),
        ("mean longer by", "completions/pair_length_difference", "+.1f"),
    ):
        table.add_row(title, *(format(one[key], form) if key in one else "-" for one in metrics))
    out = console()
    out.print(table)
    out.print(f"written to {run / 'pairings'}; train on one: rollout=recorded_pairs rollout.path=FILE", soft_wrap=True)


def _count_rows(title: str, counts: Sequence[Counts]) -> Iterator[list[str]]:
    """One row for the sums, and one for each name that some construction has counted."""
    names: Mapping[str, int] = sum((Counter(count) for count in counts), Counter())
    if not names and title != "kept":
        return
    yield [title, *(f"{sum(count.values()):,}" for count in counts)]
    for name in names:
        yield [f"  {name}", *(f"{count.get(name, 0):,}" for count in counts)]
