"""Which rounds of a run are done, and which of them a command was asked for as `rounds=0,2`."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from sparring.core.errors import ConfigError, DataError
from sparring.data.rounds import RoundStore


def chosen_rounds(run: Path, arguments: Sequence[str]) -> list[int]:
    """Those that arguments `rounds=...` name, in order; all finished ones where there is none."""
    if not (run / "config.yaml").exists():
        raise DataError(f"{run} holds no run (no config.yaml); give a directory that sparring train has made.")
    finished = list(itertools.takewhile(RoundStore(run / "rounds").complete, itertools.count()))
    if not finished:
        raise DataError(f"{run} has no finished round yet; continue it with the command that started it.")
    wanted = [number for argument in arguments for number in argument.removeprefix("rounds=").split(",")]
    unknown = [number for number in wanted if number not in map(str, finished)]
    if unknown:
        raise ConfigError(
            f"{run} has the finished rounds 0 to {finished[-1]}, and {unknown[0]!r} is none of them; give rounds=0,1."
        )
    return sorted({int(number) for number in wanted}) or finished
