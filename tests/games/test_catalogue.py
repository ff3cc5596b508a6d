import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from sparring.core.errors import ConfigError, DataError
from sparring.games.catalogue import bots, bradley_terry, judged_systems, random_skew, rock_paper_scissors, table


def test_paper_beats_rock_scissors_beat_paper_and_rock_beats_scissors() -> None:
    game = rock_paper_scissors(3, 0.3)
    rock, paper, scissors = (game.labels.index(name) for name in ("rock", "paper", "scissors"))
    for winner, loser in ((paper, rock), (scissors, paper), (rock, scissors)):
        assert game.win[winner, loser] == pytest.approx(0.8)


def test_on_a_larger_circle_everything_beats_half_of_the_others() -> None:
    win = rock_paper_scissors(7, 0.5).win
    assert ((win == 1).sum(axis=1) == 3).all()
    assert ((win == 0).sum(axis=1) == 3).all()


@pytest.mark.parametrize(("n", "strength"), [(4, 0.5), (1, 0.5), (3, 0.0), (3, 0.6)])
def test_a_circle_that_is_not_fair_is_refused(n: int, strength: float) -> None:
    with pytest.raises(ConfigError, match="rock, paper, scissors"):
        rock_paper_scissors(n, strength)


def test_a_random_game_is_a_function_of_its_seed() -> None:
    np.testing.assert_array_equal(random_skew(5, 1).win, random_skew(5, 1).win)
    assert (random_skew(5, 1).win != random_skew(5, 2).win).any()


def test_the_best_of_a_bradley_terry_game_is_its_equilibrium() -> None:
    game = bradley_terry([0.3, 1.2, -1.0])
    assert game.win[1, 0] == pytest.approx(1 / (1 + np.exp(-0.9)))
    np.testing.assert_allclose(game.nash(), [0, 1, 0], atol=1e-12)


def test_a_table_is_taken_as_it_is_given() -> None:
    assert table(["x", "y"], [[0.5, 0.7], [0.3, 0.5]]).win[0, 1] == pytest.approx(0.7)
    with pytest.raises(DataError, match="not a table of numbers"):
        table(["x", "y"], [[0.5, 0.7], [0.3]])


def write_bots(path: Path, points: dict[tuple[str, str], float]) -> str:
    with gzip.open(path, "wt") as file:
        file.writelines(f"('{one}', '{other}', {value})\n" for (one, other), value in points.items())
    return str(path)


def test_points_of_a_match_become_the_share_of_throws_won(tmp_path: Path) -> None:
    points = {("a", "a"): 2.0, ("a", "b"): 400.0, ("b", "a"): -420.0, ("b", "b"): 0.0}
    game = bots(write_bots(tmp_path / "bots.txt.gz", points))
    assert game.labels == ("a", "b")
    assert game.win[0, 1] == pytest.approx(0.5 + 410 / 2000)


def test_matches_that_contradict_each_other_or_lack_are_refused(tmp_path: Path) -> None:
    points = {("a", "a"): 0.0, ("a", "b"): 400.0, ("b", "a"): -200.0, ("b", "b"): 0.0}
    with pytest.raises(DataError, match="more than noise"):
        bots(write_bots(tmp_path / "one.gz", points))
    del points["b", "a"]
    with pytest.raises(DataError, match="3 matches of 2 bots"):
        bots(write_bots(tmp_path / "two.gz", points))
    (tmp_path / "three.txt").write_text("a beats b\n")
    with pytest.raises(DataError, match="line 1"):
        bots(str(tmp_path / "three.txt"))
    with pytest.raises(DataError, match="cannot be read"):
        bots(str(tmp_path / "none.txt"))


def write_verdicts(path: Path, rows: list[tuple[str, str, int]]) -> str:
    keys = ("first", "second", "score")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    return str(path)


def test_a_judge_that_prefers_what_it_reads_first_calls_it_even(tmp_path: Path) -> None:
    rows = [("x", "y", 1), ("y", "x", 1), ("y", "x", 1), ("x", "y", -1)]
    assert judged_systems(write_verdicts(tmp_path / "a.jsonl", rows)).win[0, 1] == pytest.approx(0.5)


def test_both_orders_weigh_the_same_and_ties_count_half(tmp_path: Path) -> None:
    rows = [("x", "y", 1), ("x", "y", 3), ("y", "x", 2)]
    game = judged_systems(write_verdicts(tmp_path / "a.jsonl", rows))
    assert game.win[0, 1] == pytest.approx((0.75 + 1.0) / 2)


def test_a_pair_judged_in_one_order_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="never shows y before x"):
        judged_systems(write_verdicts(tmp_path / "a.jsonl", [("x", "y", 1)]))


def test_the_measured_games_have_solutions(shared: Path) -> None:
    programs = bots(str(shared / "data/games/rrps_43_bots_payoffs.txt.gz"))
    assert len(programs.labels) == 43
    nash = programs.nash()
    assert programs.exploitability(nash) <= 1e-9
    assert programs.labels[int(nash.argmax())] == "randbot"  # nobody beats chance by much
    systems = judged_systems(str(shared / "data/preference_oracle/vicuna80_gpt4_pairwise.jsonl.gz"))
    assert len(systems.labels) == 8
    assert systems.nash()[systems.labels.index("gpt4")] == pytest.approx(1.0)
