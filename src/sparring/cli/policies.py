"""Policies as they are named on a command line: a run, one of its rounds, an exported model or one of the hub.

Behind a + may stand how it decodes, by a name that the suite knows: outputs/dno@2+linear_alignment.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sparring.cli.check import trains_nothing
from sparring.cli.make import make
from sparring.cli.saved_config import saved_config, saved_part
from sparring.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sparring.policy.policy import Policy  # takes torch and transformers, which parsing does not

HOW = "name policies as RUN, RUN@ROUND or MODEL, with LABEL= in front if you like"


@dataclass(frozen=True, slots=True)
class Source:
    """`place` is a run's directory, a model's directory, or a name that a suite or the hub knows.

    `round` is the one that was asked for: "base", a number counted from 0, or None. `decoding` is what follows the +,
    and `named` says whether the label was given.
    """

    label: str
    place: str
    round: str | None = None
    decoding: str | None = None
    named: bool = field(default=False, compare=False)

    @property
    def is_run(self) -> bool:
        return (Path(self.place) / "config.yaml").exists()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A policy of a run after `rounds` rounds of training, 0 for the one it began with."""

    label: str
    rounds: int
    weights: Path


def parse_policies(text: str) -> list[Source]:
    """What follows `policies=`, in brackets or not: "[mine=outputs/run@2,outputs/other,scripted]"."""
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    sources = [parse_policy(part.strip()) for part in inside.split(",") if part.strip()]
    if not sources:
        raise ConfigError(f"policies is empty; {HOW}.")
    labels = [source.label for source in sources]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ConfigError(f"two policies are called {twice[0]!r}; give them different labels, as LABEL=PLACE.")
    return sources


def parse_policy(text: str) -> Source:
    label, equals, place = text.partition("=")
    if not equals:
        label, place = "", text
    # Not by pathlib, to which ./name is name: one is a directory, the other may be on the hub.
    label, place = label.strip(), os.path.expanduser(place.strip())
    place, chosen = _split_round(place)
    decoding = None
    path, plus, behind = place.rpartition("+")
    if plus and "/" not in behind and not Path(place).exists():
        place, decoding = path, behind
        place, chosen = (place, chosen) if chosen is not None else _split_round(place)
    if not place or decoding == "" or (equals and not label):
        raise ConfigError(f"the policy {text!r} cannot be read; {HOW}.")
    own = _name(place) + ("" if chosen is None else f" {_round_name(chosen)}")
    own += "" if decoding is None else f"+{decoding}"
    return Source(label or own, place, chosen, decoding, named=bool(equals))


def _split_round(place: str) -> tuple[str, str | None]:
    path, at, behind = place.rpartition("@")
    return (path, behind) if at and (behind == "base" or behind.isdecimal()) else (place, None)


def refuse_decodings(sources: Sequence[Source], why: str) -> None:
    for source in sources:
        if source.decoding is not None:
            raise ConfigError(f"{source.label} cannot decode by +{source.decoding}, for {why}; leave it out.")


def is_decoding(source: Source) -> bool:
    """A run that is about a way of decoding and has trained nothing."""
    return source.is_run and trains_nothing(saved_config(Path(source.place)))


def snapshots(source: Source) -> list[Snapshot]:
    """All policies of a run, oldest first, or the one that was asked for, which then has the source's own label."""
    directory = Path(source.place) / "checkpoints"
    kept = itertools.takewhile(Path.exists, (directory / f"policy-{n:03d}.safetensors" for n in itertools.count()))
    found = [
        Snapshot(f"{source.label} {'base' if n == 0 else f'round {n - 1}'}", n, path) for n, path in enumerate(kept)
    ]
    if not found and is_decoding(source):
        raise ConfigError(f"{source.place} trained nothing, so it has no policies of its own; name its model instead.")
    if not found:
        raise DataError(f"{source.place} has no policies in checkpoints/ yet; continue it, or name another run.")
    wanted = None if source.round is None else 0 if source.round == "base" else int(source.round) + 1
    later = sorted(directory.glob("policy-*.safetensors"))[len(found) :]
    if later and (wanted is None or wanted >= len(found)):
        gap = directory / f"policy-{len(found):03d}.safetensors"
        raise DataError(f"{gap} is missing, though {later[-1].name} is there; restore it, or name an earlier round.")
    if wanted is None:
        return found
    if wanted >= len(found):
        has = "base alone" if len(found) == 1 else f"base and rounds 0 to {len(found) - 2}"
        raise ConfigError(f"{source.place} has {has}, not {source.round}; name one of them after the @.")
    return [Snapshot(source.label, wanted, found[wanted].weights)]


def load(source: Source, load_model: "Callable[..., Policy]") -> "Policy":
    """The model that a run trains, with the weights it had before round 0; or what `load_model` finds at the place."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    if not source.is_run and source.round is not None:
        raise ConfigError(f"{source.place} is no run, so it has no round {source.round}; leave out the @.")
    policy: Policy = make(saved_part(Path(source.place), "model")) if source.is_run else load_model(path=source.place)
    return policy.to("cuda" if torch.cuda.is_available() else "cpu")


def _name(place: str) -> str:
    """What a place is called: its last part, which of "." and ".." only the file system knows."""
    name = Path(place).name
    return Path(place).resolve().name if name in ("", "..") else name


def _round_name(chosen: str) -> str:
    return chosen if chosen == "base" else f"round {chosen}"
