"""What a run looks like in a terminal."""

import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sparring.core.files import read_json

COLUMNS = (
    "round",
    "win rate vs base",
    "95% interval",
    "vs previous",
    "length",
    "pairs",
    "tokens",
    "judge calls",
    "seconds",
)


def console() -> Console:
    """As wide as the terminal; 120 columns into a file or pipe, where tables would else be cut to 80."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=120)


def print_rounds(run: Path, *, hint: bool = True) -> None:
    """The rounds of a run, and the command that looks further."""
    summary = read_json(run / "summary.json")
    table = Table(title=f"{run.name}: {summary['objective']}, {summary['status']}")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for entry in summary["rounds"]:
        table.add_row(*_cells(entry))
    out = console()
    out.print(table)
    if hint:
        by_uv = "uv run " if "UV_RUN_RECURSION_DEPTH" in os.environ else ""
        out.print(f"look further: {by_uv}sparring show {_short(run)}", highlight=False, soft_wrap=True)


def _short(run: Path) -> Path:
    """`run` as one would type it here."""
    return run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run


def _cells(entry: dict[str, Any]) -> list[str]:
    measured = "win_rate_vs_base" in entry
    low, high = entry["win_rate_vs_base_ci95"] if measured else (0.0, 0.0)
    return [
        str(entry["round"]),
        f"{entry['win_rate_vs_base']:.3f}" if measured else "-",
        f"{low:.3f} .. {high:.3f}" if measured else "-",
        f"{entry['win_rate_vs_previous']:.3f}" if measured else "-",
        f"{entry['mean_length']:.1f}" if measured else "-",
        f"{sum(entry['funnel']['kept'].values()) + entry['funnel'].get('replayed', 0):,}",
        f"{entry['tokens_sampled']:,}",
        f"{entry['judge_calls']:,}",
        f"{sum(entry['seconds'].values()):.1f}",
    ]
