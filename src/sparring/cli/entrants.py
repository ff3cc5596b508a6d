"""From policies as they are named on a command line to who answers prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparring.cli.make import make
from sparring.cli.parts import Parts
from sparring.cli.policies import Source, is_decoding, load, snapshots
from sparring.cli.saved_config import answering, saved_part
from sparring.core.answers import canonical
from sparring.core.errors import ConfigError, DataError
from sparring.core.types import Output
from sparring.data.output_files import read_outputs
from sparring.policy.loading import read_config
from sparring.policy.policy import Policy
from sparring.rollout.endpoint_entrant import EndpointEntrant
from sparring.rollout.entrants import Entrant, PolicyEntrant, RecordedEntrant, TeacherEntrant

TEACHER, ENDPOINT = "teacher", "endpoint"
RECORDED = (".json", ".jsonl", ".parquet", ".csv", ".json.gz", ".jsonl.gz", ".csv.gz")

Node = Mapping[str, Any]


def entrants_of(
    sources: Sequence[Source],
    *,
    parts: Parts,
    load_model: Node,
    sampler: Node,
    decodings: Mapping[str, Node],
    endpoint: Node | None,
    questions: str | None,
) -> list[Entrant]:
    """Of a run its last round, or the one that is named; of a file every model in it. The other arguments are nodes.

    `decodings` are ways to decode by the names that may stand behind a +; `sampler` is the way of all others.
    `questions` is the file that says what recorded answers of MT-Bench answer.
    """
    ways = _Ways(parts, sampler, decodings)
    shelf = _Shelf(make(dict(load_model)))
    entrants: list[Entrant] = []
    for source in sources:
        if source.place in (TEACHER, ENDPOINT) or is_recorded(source):
            _require_plain(source)
        if source.place == TEACHER:
            entrants.append(TeacherEntrant(source.label))
        elif source.place == ENDPOINT and endpoint is not None:
            entrants.append(EndpointEntrant(source.label, make(dict(endpoint)), sampler["num_generations"]))
        elif is_recorded(source):
            entrants += recorded_entrants(source, questions)
        else:
            decoding = is_decoding(source)
            entrants.append(
                _decoding_entrant(source, parts, shelf) if decoding else _policy_entrant(source, ways, shelf)
            )
            require_model(source, load_model)
    labels = [entrant.label for entrant in entrants]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ConfigError(f"two policies are called {twice[0]!r}; give them different labels, as LABEL=PLACE.")
    return entrants


def require_model(source: Source, load_model: Node) -> None:
    """A place that was mistyped is known before anybody answers, where it is `load_policy` that will read it."""
    node = saved_part(Path(source.place), "model") if source.is_run else {**load_model, "path": source.place}
    if node["_target_"] == "sparring.policy.loading.load_policy":
        read_config(node["path"], node.get("trust_remote_code", False))


def is_recorded(source: Source) -> bool:
    return source.place.endswith(RECORDED) and not Path(source.place).is_dir()


def recorded_outputs(source: Source, questions: str | None) -> list[Output]:
    path = Path(source.place)
    if not path.exists():
        raise DataError(f"there is no file {path}; give one of recorded outputs, or another policy.")
    return read_outputs(path, None if questions is None else Path(questions))


def recorded_entrants(source: Source, questions: str | None) -> list[RecordedEntrant]:
    """One for every model in the file, under the model's name; a label that was given names a single one."""
    outputs = recorded_outputs(source, questions)
    models = list(dict.fromkeys(output.model for output in outputs))
    entrants: list[RecordedEntrant] = []
    for model in models:
        answers: dict[str, list[Output]] = {}
        for output in outputs:
            if output.model == model:
                answers.setdefault(output.prompt.id, []).append(output)
        label = source.label if source.named and len(models) == 1 else model
        label = f"{source.label} {model}" if source.named and len(models) > 1 else label
        entrants.append(RecordedEntrant(label, source.place, answers))
    return entrants


class _Ways:
    """Samplers by name, each built once, with what stands for it in an identity: all that answers may depend on."""

    def __init__(self, parts: Parts, sampler: Node, decodings: Mapping[str, Node]) -> None:
        self._parts = parts
        self._nodes: dict[str | None, Node] = {None: sampler, **decodings}
        self._built: dict[str | None, Any] = {}

    def of(self, source: Source) -> tuple[Any, str]:
        if source.decoding not in self._nodes:
            known = ", ".join(sorted(name for name in self._nodes if name is not None))
            raise ConfigError(
                f"{source.label} is to decode by +{source.decoding}, which is none of {known}; choose one of them, or "
                f"add suite.decodings.{source.decoding}."
            )
        node = dict(self._nodes[source.decoding])
        if source.decoding not in self._built:
            self._built[source.decoding] = self._parts.make(node)
        return self._built[source.decoding], canonical(answering(node))[:16]


class _Shelf:
    """The one model in memory: several entrants in a row may have it under different weights or samplers."""

    def __init__(self, load_model: Callable[..., Policy]) -> None:
        self._load_model = load_model
        self._place: str | None = None
        self._policy: Policy | None = None

    def policy(self, source: Source) -> Policy:
        if self._policy is None or self._place != source.place:
            self._policy = None  # before the next one is read
            self._policy, self._place = load(source, self._load_model), source.place
        return self._policy


def _policy_entrant(source: Source, ways: _Ways, shelf: _Shelf) -> PolicyEntrant:
    sampler, manner = ways.of(source)
    described = source.place + ("" if source.decoding is None else f" by {source.decoding}")
    if not source.is_run:
        if source.round is not None:
            raise ConfigError(f"{source.place} is no run, so it has no round {source.round}; leave out the @.")
        return PolicyEntrant(source.label, described, None, lambda: shelf.policy(source), None, sampler, manner)
    way = "" if source.named or source.decoding is None else f"+{source.decoding}"
    snapshot = snapshots(replace(source, label=source.label.removesuffix(way)))[-1]
    label = source.label if source.named else f"{snapshot.label}{way}"
    described = f"{described}, after {snapshot.rounds} round{'' if snapshot.rounds == 1 else 's'}"
    weights = snapshot.weights
    return PolicyEntrant(label, described, snapshot.rounds, lambda: shelf.policy(source), weights, sampler, manner)


def _decoding_entrant(source: Source, parts: Parts, shelf: _Shelf) -> PolicyEntrant:
    """A run that trained nothing answers as it did: its model, decoded by what it was about."""
    for what, given in ((f"round {source.round}", source.round), (f"+{source.decoding}", source.decoding)):
        if given is not None:
            raise ConfigError(f"{source.place} is a way of decoding and no trained policy; leave out {what}.")
    node = saved_part(Path(source.place), "objective")["sampler"]
    manner = canonical(answering(node))[:16]
    return PolicyEntrant(source.label, source.place, None, lambda: shelf.policy(source), None, parts.make(node), manner)


def _require_plain(source: Source) -> None:
    for what, given in ((f"round {source.round}", source.round), (f"+{source.decoding}", source.decoding)):
        if given is not None:
            raise ConfigError(f"{source.place} is no policy of this machine, so it has no {what}; leave it out.")
