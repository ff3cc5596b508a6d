"""Directories of runs, read into the records that a study compares. Imports neither torch nor Hydra."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from sparring.analysis.study import RESOURCES, Outcomes, Run, Stage, Which
from sparring.cli.saved_config import answering, saved_config
from sparring.core.answers import Expense
from sparring.core.errors import DataError
from sparring.core.files import read_json
from sparring.data.rounds import read_rows

# What may differ between samplers that draw the same: the number of samples is the evaluation's own.
_NO_MATTER = ("num_generations", "token_budget", "scoring_budget")
_FIGURES = ("mean_length", "kl_vs_base", "steps", "evaluation_judge_calls")  # of a round in summary.json


@dataclass(frozen=True, slots=True)
class Claim:
    """`claim` says in words that `arm` wins more than `against`."""

    claim: str
    arm: str
    against: str


@dataclass(frozen=True, slots=True)
class Study:
    """What the key `study` of a configuration says."""

    name: str
    baseline: str | None
    claims: tuple[Claim, ...]

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> "Study":
        return cls(node["name"], node["baseline"], tuple(Claim(**claim) for claim in node["claims"]))


def find_runs(places: Iterable[Path]) -> list[Path]:
    """Each place is a run, or a folder of runs."""
    found: dict[Path, None] = {}
    for place in places:
        if not place.is_dir():
            raise DataError(f"{place} is no directory; give a run, or a folder of runs.")
        below = sorted(path.parent for path in place.glob("[!.]*/config.yaml"))
        runs = [place] if (place / "config.yaml").exists() else below
        if not runs:
            raise DataError(f"{place} holds no run (no config.yaml in it or one folder below); give another directory.")
        found |= {run.resolve(): None for run in runs}
    return list(found)


def read_study(runs: Iterable[Path]) -> Study | None:
    """The study that the runs were made for, if any of them was."""
    studies: dict[Study, str] = {}
    for run in runs:
        if (node := saved_config(run).get("study")) is not None:
            studies.setdefault(Study.of(node), run.name)
    if len(studies) > 1:
        (one, first), (other, second) = list(studies.items())[:2]
        apart = f"studies ({one.name} and {other.name})" if one.name != other.name else f"versions of study {one.name}"
        raise DataError(f"{first} and {second} were made for different {apart}; report one at a time.")
    return next(iter(studies), None)


def read_run(directory: Path) -> Run:
    """A finished run that measured its rounds on held-out prompts."""
    config, name, path = saved_config(directory), directory.name, directory / "summary.json"
    summary: dict[str, Any] = read_json(path) if path.exists() else {"status": "hardly begun"}
    if summary["status"] != "finished":
        raise DataError(f"{name} is not finished but {summary['status']}; the command that started it continues it.")
    measuring = config["callbacks"]["win_rate"]
    if measuring is None:
        raise DataError(f"{name} was not measured on held-out prompts; run it with callbacks.win_rate on.")
    if lacking := [key for key in _FIGURES for entry in summary["rounds"] if key not in entry]:
        raise DataError(f"{path} has no {lacking[0]!r}, as an earlier version of sparring wrote it; run {name} again.")
    second = answering(measuring["second_annotator"])
    if second is not None and second == answering(config["annotator"]):
        raise DataError(
            f"{name} was trained on its second annotator too, which therefore shows no over-optimisation; "
            "measure with another one."
        )
    spent = _spent(summary)
    return Run(
        name=name,
        arm=config.get("arm_name") or re.sub(rf"[-_.]?(seed)?[-_=]?{config['seed']}$", "", name) or name,
        seed=config["seed"],
        shared={
            "annotator": answering(measuring["annotator"]),
            "second annotator": second,
            "sampler": {key: value for key, value in measuring["sampler"].items() if key not in _NO_MATTER},
            "samples per held-out prompt": measuring["samples_per_prompt"],
        },
        shared_by_seed={
            "base policy": read_json(directory / "rounds" / "round-000" / "manifest.json")["policy"],
            "held-out prompts": {row["prompt_id"] for row in read_rows(directory / "evaluation/policy-000.parquet")},
        },
        stages={
            entry["round"]: Stage(
                outcomes=_outcomes(directory / "evaluation" / f"round-{entry['round']:03d}.parquet"),
                length=entry["mean_length"],
                kl=entry["kl_vs_base"],
                spent=total,
            )
            for entry, total in zip(summary["rounds"], spent, strict=True)
        },
    )


def _spent(summary: Mapping[str, Any]) -> list[dict[str, float]]:
    """What a run had taken after each of its rounds. Measuring is no part of its seconds, nor of what it is trained on.

    The policies' meeting at the end (`payoff`) is measuring too, and belongs to the last round.
    """
    rounds = summary["rounds"]
    meetings = [Expense()] * (len(rounds) - 1) + [Expense(**summary.get("payoff", {}).get("expense", {}))]
    each = [_taken(entry, meeting) for entry, meeting in zip(rounds, meetings, strict=True)]
    return list(accumulate(each, lambda before, now: {name: before[name] + now[name] for name in RESOURCES}))


def _taken(entry: Mapping[str, Any], meeting: Expense) -> dict[str, float]:
    """By one round. What earlier versions recorded has no expenses, which were free."""
    trained, measured = (Expense(**entry.get(name, {})) for name in ("expense", "evaluation_expense"))
    return {
        "pairs": float(sum(entry["funnel"]["kept"].values()) + entry["funnel"].get("replayed", 0)),
        "steps": float(entry["steps"]),
        "tokens": float(entry["tokens_sampled"]),
        "judge_calls": float(entry["judge_calls"]),
        "evaluation_calls": float(entry["evaluation_judge_calls"] + meeting.calls),
        "seconds": sum(entry["seconds"].values()) - entry["seconds"]["evaluate"],
        "judge_tokens": float(trained.prompt_tokens + trained.completion_tokens),
        "answered_before": float(trained.cached),
        "cost": trained.cost,
        "evaluation_cost": measured.cost + meeting.cost,
    }


def _outcomes(path: Path) -> dict[Which, Outcomes]:
    """Held-out results against the base policy, by annotator."""
    outcomes: dict[Which, dict[str, float]] = {}
    for row in read_rows(path):
        if row["against"] == "base":
            outcomes.setdefault(row["annotator"], {})[row["prompt_id"]] = row["win"]
    return dict(outcomes)
