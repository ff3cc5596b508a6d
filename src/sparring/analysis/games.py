"""What a run learnt of games whose solution is known, from the files that `callbacks/exploitability.py` wrote."""

from pathlib import Path
from typing import Any

from sparring.core.files import read_json

CURVES = (
    "exploitability",  # of the policy after each round
    "average_exploitability",  # of the uniform average of all policies so far
    "exact_exploitability",  # the same two for exact updates from the same start
    "exact_average_exploitability",
    "average_bound",  # what theory promises of that average
    "distance_to_exact",  # total variation between the policy and its predecessor's exact update
    "distance_to_hard_labels",  # and the update of single draws of P
)


def summarise_games(evaluation: Path) -> dict[str, Any]:
    """By game: labels, Nash mixture, the last and the average policy, and curves over 0, 1 .. N rounds.

    A curve has null where a figure does not exist: a distance before the first round, hard labels beside an anchor.
    """
    paths = sorted(evaluation.glob("games-*.json"), key=lambda path: int(path.stem.removeprefix("games-")))
    reports = [read_json(path)["games"] for path in paths]
    games = read_json(evaluation / "games.json")
    return {
        name: facts
        | {"policy": reports[-1][name]["policy"], "average": reports[-1][name]["average"]}
        | {curve: [report[name].get(curve) for report in reports] for curve in CURVES}
        for name, facts in games.items()
    }
