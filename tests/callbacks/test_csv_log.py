import csv

import pytest

from sparring.callbacks.csv_log import CSVLog


@pytest.fixture
def log(tmp_path):
    return CSVLog(tmp_path / "run" / "metrics.csv")


def rows(log):
    with log.path.open(newline="") as file:
        return list(csv.reader(file))


def test_every_value_is_a_row_of_its_own_under_one_header(log):
    log.log_metrics({"train/loss": 0.5, "round": 1.0, "epoch": 3}, step=7)
    log.log_metrics({"eval/length": 20.0}, step=8)
    assert rows(log) == [
        ["step", "round", "name", "value"],
        ["7", "1", "train/loss", "0.5"],
        ["8", "", "eval/length", "20.0"],
    ]


def test_values_survive_to_the_last_bit(log):
    log.log_metrics({"x": 0.1 + 0.2}, step=0)
    assert float(rows(log)[1][3]) == 0.1 + 0.2


def test_what_a_checkpoint_has_not_seen_is_forgotten(log):
    for step in range(12):
        log.log_metrics({"x": step}, step=step)
    log.forget_after(10)
    assert [row[0] for row in rows(log)[1:]] == [str(step) for step in range(10)]
    log.log_metrics({"x": 10}, step=10)
    assert rows(log)[-1] == ["10", "", "x", "10"]


@pytest.mark.parametrize("torn", ["4,0,tr", "4", "4,0,x,1\n5,0", "\n", "4,0,x,1\nste"])
def test_a_row_that_a_kill_cut_off_is_forgotten(log, torn):
    log.log_metrics({"x": 1.0}, step=3)
    with log.path.open("a") as file:
        file.write(torn)
    log.forget_after(4)
    assert rows(log)[1:] == [["3", "", "x", "1.0"]]


def test_forgetting_before_the_first_row_makes_no_file(log):
    log.forget_after(0)
    assert not log.path.exists()


def test_a_new_log_on_the_same_file_goes_on(log):
    log.log_metrics({"x": 1.0}, step=0)
    CSVLog(log.path).log_metrics({"x": 2.0}, step=1)
    assert [row[3] for row in rows(log)] == ["value", "1.0", "2.0"]
