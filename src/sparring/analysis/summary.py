"""`summary.json`: what a run did, read back from its artefacts, so that it is right after any number of resumes."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sparring.analysis.games import summarise_games
from sparring.core.answers import Expense
from sparring.core.files import read_json, write_json


def summarise(run: Path, *, status: str, objective: str, reason: str | None = None) -> dict[str, Any]:
    """One entry per round that was trained and measured. Seconds are of whichever processes did the work.

    `reason` says why a run stopped. A round of games has their outcomes under `games`. `payoff` is there once the run's
    policies have met (`analysis/payoff.py`), `arena` where they have played (`analysis/arena.py`), and `games` beside
    the rounds where solutions are known (`analysis/games.py`).
    """
    rounds = []
    for path in sorted((run / "rounds").glob("round-*/training.json")):
        manifest, training = read_json(path.parent / "manifest.json"), read_json(path)
        entry: dict[str, Any] = {
            "round": manifest["round"],
            "funnel": manifest["funnel"],
            "tokens_sampled": manifest["tokens_sampled"],
            "judge_calls": manifest["judge_calls"],
            "expense": manifest.get("expense", {}),
            "metrics": manifest["metrics"],
            "steps": training["steps"],
            "seconds": manifest["seconds"] | {"train": training["seconds"], "evaluate": 0.0},
        } | ({"games": manifest["games"]} if "games" in manifest else {})
        report = run / "evaluation" / f"{path.parent.name}.json"
        if report.exists():
            entry |= _evaluation(read_json(report))
            entry["seconds"]["evaluate"] = entry.pop("evaluate_seconds")
        played = run / "evaluation" / f"arena-{entry['round'] + 1:03d}.json"
        if played.exists():
            entry["seconds"]["arena"] = read_json(played)["seconds"]
        rounds.append(entry)
    summary: dict[str, Any] = {"status": status, "objective": objective, "rounds": rounds}
    if reason is not None:
        summary["reason"] = reason
    payoff = run / "evaluation" / "payoff.json"
    if payoff.exists():
        summary["payoff"] = read_json(payoff)
    if arenas := sorted((run / "evaluation").glob("arena-*.json")):
        summary["arena"] = read_json(arenas[-1])
    summary["expense"] = asdict(_total(summary))
    if (run / "evaluation" / "games-000.json").exists():
        summary["games"] = summarise_games(run / "evaluation")
    return summary


def _total(summary: dict[str, Any]) -> Expense:
    """Of all that was judged, measuring included."""
    parts = [entry.get(name, {}) for entry in summary["rounds"] for name in ("expense", "evaluation_expense")]
    return sum((Expense(**part) for part in (*parts, summary.get("payoff", {}).get("expense", {}))), Expense())


def _evaluation(report: dict[str, Any]) -> dict[str, Any]:
    contests = [part for which in ("first", "second") for part in report.get(which, {}).values()]
    entry = _against(report["first"]) | {
        "mean_length": report["mean_length"],
        "kl_vs_base": report["metrics"].get("eval/kl_vs_base"),  # None of a policy that was steered
        "kl_vs_previous": report["metrics"].get("eval/kl_vs_previous", report["metrics"].get("eval/kl_vs_base")),
        "evaluation_judge_calls": sum(part["judge_calls"] for part in contests),
        "evaluation_expense": asdict(sum((Expense(**part.get("expense", {})) for part in contests), Expense())),
        "evaluate_seconds": report["seconds"],
    }
    return entry | ({"second_annotator": _against(report["second"])} if "second" in report else {})


def _against(report: dict[str, Any]) -> dict[str, Any]:
    base, previous = report["base"], report.get("previous", report["base"])  # round 0's previous policy is the base
    return {
        "win_rate_vs_base": base["win_rate"],
        "win_rate_vs_base_ci95": base["ci95"],
        "win_probability_vs_base": base["mean_probability"],
        "win_rate_vs_previous": previous["win_rate"],
        "win_rate_vs_previous_ci95": previous["ci95"],
        "aspect_win_rates_vs_base": base["aspects"],
    }


def write_summary(run: Path, *, status: str, objective: str, reason: str | None = None) -> dict[str, Any]:
    summary = summarise(run, status=status, objective=objective, reason=reason)
    write_json(run / "summary.json", summary)
    return summary
