"""`sparring evaluate suite=reasoning`: policies on the benchmarks of lm-evaluation-harness, which is an optional extra.

Whether self-play in a word game makes a model better elsewhere is SPAG's question (arXiv 2404.10642).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rich.markup import escape
from rich.table import Table

from sparring.analysis.geometric_mean import geometric_mean
from sparring.cli.policies import Snapshot, Source, load, refuse_decodings, snapshots
from sparring.cli.tables import console, print_whole
from sparring.core.errors import ConfigError, RoundError
from sparring.core.files import write_json
from sparring.core.seeding import derive_seed
from sparring.data.rounds import Chunks
from sparring.policy.policy import Policy

if TYPE_CHECKING:
    from sparring.cli.harness import Benchmark, HarnessPolicy  # takes the extra

NOTE = "Behind ±: the standard error. The geometric mean is of all tasks above it, as if they were independent."


def evaluate_reasoning(
    sources: Sequence[Source],
    *,
    output: Path,
    seed: int,
    tasks: Sequence[str],
    include_path: str | None,
    limit: int | None,
    chat: bool,
    batch_size: int,
    load_model: Callable[..., Policy],
) -> None:
    """Documented in conf/suite/reasoning.yaml. Writes `answers/POLICY/TASK-00000.parquet` and, last, `summary.json`."""
    _check(tasks, limit, batch_size)
    refuse_decodings(sources, "benchmarks compare likelihoods or decode by themselves")
    entrants = [_entrant(source) for source in sources]
    labels = [label for label, _, _ in entrants]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ConfigError(f"two policies are called {twice[0]!r}; give them different labels, as LABEL=PLACE.")

    from sparring.cli.harness import VERSION, HarnessPolicy, find_benchmarks  # the sentences above need no harness

    benchmarks = find_benchmarks(tasks, include_path)
    seed = derive_seed(seed, "harness")
    settings = {"limit": limit, "chat": chat, "seed": seed, "lm_eval": VERSION}
    identities = {benchmark.name: benchmark.identity(limit) for benchmark in benchmarks}
    report: list[dict[str, Any]] = []
    for label, source, snapshot in entrants:
        with _opened(source, snapshot, load_model) as policy:
            _require_template(policy, label, chat)
            model = HarnessPolicy(policy, label, batch_size)
            chunks = Chunks(output / "answers" / quote(label, safe=" "))
            made = {**settings, "policy": policy.fingerprint()}
            found = [_measured(chunks, model, one, made | {"task": identities[one.name]}) for one in benchmarks]
        report.append({"label": label, "place": source.place, **made, **_joined(found)})
    write_json(output / "summary.json", {"tasks": list(tasks), "policies": report})
    out = console()
    print_whole(out, scores_table(report))
    for line in (NOTE, *_remarks(report), f"written to {output}"):
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _check(tasks: Sequence[str], limit: int | None, batch_size: int) -> None:
    if find_spec("lm_eval") is None:
        raise ConfigError(
            "suite=reasoning asks lm-evaluation-harness, which is not installed; install sparring[reasoning]."
        )
    if not tasks:
        raise ConfigError("tasks is empty; name tasks of lm-evaluation-harness, as tasks=[arc_easy,mmlu@5].")
    if twice := sorted({task for task in tasks if list(tasks).count(task) > 1}):
        raise ConfigError(f"tasks holds {twice[0]!r} twice; name it once.")
    for name, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"suite.{name} is {value}; it must be 1 or more.")


def _entrant(source: Source) -> tuple[str, Source, Snapshot | None]:
    """A run takes part with its last round, or with the one that is named."""
    if not source.is_run:
        return source.label, source, None
    last = snapshots(source)[-1]
    return last.label, source, last


@contextmanager
def _opened(source: Source, snapshot: Snapshot | None, load_model: Callable[..., Policy]) -> Iterator[Policy]:
    policy = load(source, load_model)
    with policy.using_state(snapshot.weights) if snapshot is not None else nullcontext(), policy.evaluating():
        yield policy


def _require_template(policy: Policy, label: str, chat: bool) -> None:
    if chat and policy.tokenizer.chat_template is None:
        raise ConfigError(f"suite.chat is true, but {label} has no chat template; set it to false, or leave it out.")


def _measured(
    chunks: Chunks, model: "HarnessPolicy", benchmark: "Benchmark", made: Mapping[str, Any]
) -> dict[str, Any]:
    """What is kept of one benchmark, measured unless it was; `made` says what it depends on."""
    from sparring.cli.harness import ANSWERS, measure

    table = quote(benchmark.name, safe="@ ")
    if not chunks.has(table, 0):
        started = time.perf_counter()
        figures, answers = measure(model, benchmark, limit=made["limit"], chat=made["chat"], seed=made["seed"])
        measured = {"figures": [asdict(figure) for figure in figures], "cut": model.cut}
        chunks.write(table, 0, ANSWERS, answers, {**made, **measured, "seconds": time.perf_counter() - started})
    facts = chunks.facts(table, 0)
    for name, now in made.items():
        if facts[name] != now:
            raise RoundError(
                f"{chunks.path(table, 0)} was measured with {name} {facts[name]}, but now it is {now}; give another "
                "label or output, or delete it."
            )
    return facts


def _joined(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    figures: list[dict[str, Any]] = [figure for facts in found for figure in facts["figures"]]
    scores = [figure["value"] for figure in figures]
    mean = None
    if all(figure["higher_is_better"] and figure["value"] >= 0 for figure in figures):
        value, stderr = geometric_mean(scores, [figure["stderr"] for figure in figures])
        mean = {"value": value, "stderr": stderr}
    return {
        "figures": figures,
        "geometric_mean": mean,
        "cut": sum(facts["cut"] for facts in found),
        "seconds": sum(facts["seconds"] for facts in found),
    }


def scores_table(report: Sequence[Mapping[str, Any]]) -> Table:
    """Tasks as rows, policies as columns."""
    table = Table(title=f"lm-evaluation-harness {report[0]['lm_eval']}")
    for column in ("task", "metric"):
        table.add_column(column)
    for column in ("shots", "documents", *(escape(policy["label"]) for policy in report)):
        table.add_column(column, justify="right")
    for row in zip(*(policy["figures"] for policy in report), strict=True):
        first = row[0]
        shots = "" if first["shots"] is None else str(first["shots"])
        table.add_row(first["task"], first["metric"], shots, f"{first['documents']:,}", *map(_shown, row))
    table.add_section()
    table.add_row("geometric mean", "", "", "", *(_shown(policy["geometric_mean"]) for policy in report))
    return table


def _shown(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    error = "" if figure["stderr"] is None else f" ± {figure['stderr']:.4f}"
    return f"{figure['value']:.4f}{error}"


def _remarks(report: Sequence[Mapping[str, Any]]) -> list[str]:
    """What makes figures differ from published ones."""
    limit = report[0]["limit"]
    first = [f"Only the first {limit:,} documents of each task were asked: no benchmark's figures."] if limit else []
    if any(policy["geometric_mean"] is None for policy in report):
        first.append("There is no geometric mean where a task's figure is better when lower, or below 0.")
    return first + [
        f"{policy['label']}: {policy['cut']:,} requests were longer than its context and lost their beginning."
        for policy in report
        if policy["cut"]
    ]
