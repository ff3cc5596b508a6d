"""The game at the end of a run, when the run dies in the middle of it."""

import json
from signal import SIGKILL

from training_runs import Kill

JUDGE = "sparring.annotators.panel.Panel._judge"
DRAW = "sparring.callbacks.payoff_matrix.draw_payoff"

KILLS = [
    Kill(JUDGE, "evaluation/payoff-judgements/judgements-00000.parquet"),
    Kill(DRAW, "evaluation/payoff-judgements/judgements-00001.parquet", after=True),
]


def test_a_run_killed_while_its_policies_meet_ends_with_the_same_game_and_judges_nothing_twice(
    train, small, tmp_path_factory
):
    command = [*small, "rounds=1", "stop_after_epochs=1", "schedule_total_epochs=1", "callbacks/payoff_matrix=default"]
    command += ["callbacks.payoff_matrix.chunk_size=4"]
    whole, killed = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    assert train(command, whole).exit_code == 0
    for kill in KILLS:
        outcome = train(command, killed, kill)
        assert outcome.exit_code == -SIGKILL, outcome.output
        assert not (killed / "run/evaluation/payoff.json").exists()
    outcome = train(command, killed)
    assert outcome.exit_code == 0, outcome.output
    payoffs = [json.loads((place / "run/summary.json").read_text())["payoff"] for place in (whole, killed)]
    assert payoffs[0].pop("seconds") > 0
    assert payoffs[1].pop("seconds") > 0
    assert payoffs[0] == payoffs[1]
    annotated = [sorted((place / "annotated.txt").read_text().splitlines()) for place in (whole, killed)]
    assert annotated[0] == annotated[1]
