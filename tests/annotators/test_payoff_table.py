import json
from pathlib import Path

import numpy as np
import pytest

from sparring.annotators.payoff_table import PayoffTable
from sparring.core.errors import ConfigError, DataError
from sparring.core.types import Candidates, Prompt, Response

CYCLE = [[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]]
LABELS = ["rock", "paper", "scissors"]


def candidates(*texts: str) -> Candidates:
    return Candidates(Prompt("0", ()), (), tuple(Response(text, (), "policy", "stop", 0.0) for text in texts))


def test_entries_are_looked_up_by_stripped_text_in_the_order_of_the_responses() -> None:
    (judgement,) = PayoffTable(LABELS, CYCLE)([candidates(" paper\n", "rock", "paper")])
    np.testing.assert_allclose(judgement.win, [[0.5, 0.1, 0.5], [0.9, 0.5, 0.9], [0.5, 0.1, 0.5]], atol=1e-12)
    assert (judgement.status, judgement.calls, judgement.scores) == ("ok", 0, None)


def test_a_text_without_a_row_spoils_its_own_set_only() -> None:
    first, second = PayoffTable(LABELS, CYCLE)([candidates("rock", "well"), candidates("rock", "scissors")])
    assert first.status == "unknown response"
    np.testing.assert_array_equal(first.win, np.full((2, 2), 0.5))
    assert second.status == "ok"
    assert second.win[1, 0] == pytest.approx(0.8)


def test_csv_json_and_npy_files_hold_the_same_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in CYCLE))
    (tmp_path / "a.json").write_text(json.dumps(CYCLE))
    np.save(tmp_path / "a.npy", np.array(CYCLE))
    inline = PayoffTable(LABELS, CYCLE).table
    for name in ("a.csv", "a.json", "a.npy"):
        np.testing.assert_array_equal(PayoffTable(LABELS, path=str(tmp_path / name)).table, inline)


def test_rounding_within_a_millionth_is_mended_to_the_last_bit() -> None:
    table = PayoffTable(["a", "b"], [[0.5, 0.3333333], [0.6666666, 0.5]]).table
    assert (table + table.T == 1).all()
    assert table[0, 1] == pytest.approx((0.3333333 + 1 - 0.6666666) / 2)


@pytest.mark.parametrize(
    ("labels", "matrix", "error", "sentence"),
    [
        (["a", "b"], [[0.5, 0.5]], DataError, r"shape \(1, 2\); a payoff table is square"),
        (["a"], [[0.5, 0.4], [0.6, 0.5]], ConfigError, "2 rows and 1 labels"),
        (["a", "a "], [[0.5, 0.4], [0.6, 0.5]], ConfigError, "not unique"),
        (["a", "b"], [[0.5, 1.2], [-0.2, 0.5]], DataError, r"outside \[0, 1\]"),
        (["a", "b"], [[0.5, float("nan")], [0.5, 0.5]], DataError, r"outside \[0, 1\]"),
        (["a", "b"], [[0.5, 0.4], [0.7, 0.5]], DataError, "row 1 beats 2 with 0.4 and is beaten with 0.7"),
        (["a", "b"], [[1.0, 0.4], [0.6, 0.5]], DataError, "row 1 beats 1 with 1"),
        (["a", "b"], [[0.5, 0.4], [0.6]], DataError, "not a table of numbers"),
    ],
)
def test_a_table_that_is_no_game_is_refused(
    labels: list[str], matrix: list[list[float]], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        PayoffTable(labels, matrix)


def test_a_table_comes_from_one_place(tmp_path: Path) -> None:
    for both in ({}, {"matrix": CYCLE, "path": "a.csv"}):
        with pytest.raises(ConfigError, match=r"either annotator\.matrix or annotator\.path"):
            PayoffTable(LABELS, **both)
    with pytest.raises(DataError, match=r"missing\.csv cannot be read"):
        PayoffTable(LABELS, path=str(tmp_path / "missing.csv"))
    with pytest.raises(ConfigError, match=r"give a \.csv, \.json or \.npy file"):
        PayoffTable(LABELS, path="table.xls")
    (tmp_path / "a.csv").write_text("rock,paper\n0.5,0.5\n")
    with pytest.raises(DataError, match=r"a\.csv is not a table of numbers"):
        PayoffTable(LABELS, path=str(tmp_path / "a.csv"))
