"""`summary.json`: what a run did, read back from its artefacts, so that it is right after any number of resumes."""

from pathlib import Path
from typing import Any

from sparring.core.files import read_json, write_json


def summarise(run: Path, *, status: str, objective: str) -> dict[str, Any]:
    """One entry per round that was trained and measured. Seconds are of whichever processes did the work."""
    rounds = []
    for path in sorted((run / "rounds").glob("round-*/training.json")):
        manifest = read_json(path.parent / "manifest.json")
        entry: dict[str, Any] = {
            "round": manifest["round"],
            "funnel": manifest["funnel"],
            "tokens_sampled": manifest["tokens_sampled"],
            "judge_calls": manifest["judge_calls"],
            "metrics": manifest["metrics"],
            "seconds": manifest["seconds"] | {"train": read_json(path)["seconds"], "evaluate": 0.0},
        }
        report = run / "evaluation" / f"{path.parent.name}.json"
        if report.exists():
            entry |= _evaluation(read_json(report))
            entry["seconds"]["evaluate"] = entry.pop("evaluate_seconds")
        rounds.append(entry)
    return {"status": status, "objective": objective, "rounds": rounds}


def _evaluation(report: dict[str, Any]) -> dict[str, Any]:
    base, previous = report["base"], report.get("previous", report["base"])  # round 0's previous policy is the base
    return {
        "win_rate_vs_base": base["win_rate"],
        "win_rate_vs_base_ci95": base["ci95"],
        "win_probability_vs_base": base["mean_probability"],
        "win_rate_vs_previous": previous["win_rate"],
        "win_rate_vs_previous_ci95": previous["ci95"],
        "aspect_win_rates_vs_base": base["aspects"],
        "mean_length": report["mean_length"],
        "evaluation_judge_calls": sum(part["judge_calls"] for part in (base, report.get("previous")) if part),
        "evaluate_seconds": report["seconds"],
    }


def write_summary(run: Path, *, status: str, objective: str) -> dict[str, Any]:
    summary = summarise(run, status=status, objective=objective)
    write_json(run / "summary.json", summary)
    return summary
