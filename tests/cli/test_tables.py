from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from sparring.cli.tables import print_games, print_whole, thinned
from sparring.core.files import write_json


def test_of_many_rounds_the_ends_and_some_between_are_shown_and_of_few_all() -> None:
    rounds = [{"round": number} for number in range(150)]
    shown = thinned(rounds)
    assert (len(shown), shown[0], shown[-1]) == (20, rounds[0], rounds[-1])
    assert shown == sorted(shown, key=lambda entry: entry["round"])
    assert thinned(rounds[:20]) == rounds[:20]


def test_games_of_several_runs_stand_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, last in (("plain", 0.321), ("anchored", 0.012)):
        game = {
            "exploitability": [0.14, 0.2, 0.19, 0.18, last],
            "average_exploitability": [0.14, 0.043],
            "exact_average_exploitability": [0.14, 0.041],
            "average_bound": [None, None if run == "anchored" else 0.162],
            "distance_to_exact": [None, 0.001, 0.003],
            "distance_to_hard_labels": [None, None],
        }
        write_json(tmp_path / run / "summary.json", {"games": {"cycle": game}})
    print_games([tmp_path / "plain", tmp_path / "anchored"])
    plain, anchored = [line.split("│") for line in capsys.readouterr().out.splitlines() if "cycle" in line]
    cells = [cell.strip() for cell in plain[1:-1]]
    assert cells == ["plain", "cycle", "4", "0.140", "0.321", "0.321-0.321", "0.043", "0.041", "0.162", "0.0020", "-"]
    assert anchored[9].strip() == "-"


def test_a_narrow_terminal_cuts_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("left", "right")
    table.add_row("0.662 [0.60, 0.72]", "+0.021 [-0.12, +0.18]")
    print_whole(Console(width=20), table)
    assert "0.662 [0.60, 0.72] │ +0.021 [-0.12, +0.18]" in capsys.readouterr().out
