import lightning as L
import pytest

from sparring.callbacks.csv_log import CSVLog
from sparring.callbacks.stop_rules import StopRule, StopRules, read_rules
from sparring.core.errors import ConfigError, TrainingError

DRIFT = {"drift": {"metric": "eval/kl_vs_base", "above": 5}}


def watched(tmp_path, *rules):
    """A trainer's loggers as the callback leaves them."""
    log = CSVLog(tmp_path / "metrics.csv")
    trainer = L.Trainer(logger=log, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    StopRules(rules, log=log, epochs_per_round=1).setup(trainer, L.LightningModule(), "fit")
    return trainer


def report(trainer, metrics):
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=3)


def test_a_rule_is_read_from_its_node():
    assert read_rules(DRIFT) == [StopRule("drift", "eval/kl_vs_base", above=5.0)]
    both = read_rules({"length": {"metric": "m", "above": 2, "below": -1.5}, "off": None})
    assert both == [StopRule("length", "m", above=2.0, below=-1.5)]


def test_rules_have_names():
    assert read_rules(None) == read_rules({}) == []
    with pytest.raises(ConfigError, match="by name"):
        read_rules(["eval/kl_vs_base"])


@pytest.mark.parametrize(
    ("node", "part"),
    [
        ({"above": 1}, "names no metric"),
        ("eval/kl", "names no metric"),
        ({"metric": "m"}, "has no bound"),
        ({"metric": "m", "above": None}, "has no bound"),
        ({"metric": "m", "above": "much"}, "has no bound"),
        ({"metric": "m", "above": True}, "has no bound"),
        ({"metric": "m", "below": float("nan")}, "has no bound"),
        ({"metric": "m", "over": 1, "above": 2}, "no key 'over'"),
    ],
)
def test_a_rule_that_cannot_fire_is_refused(node, part):
    with pytest.raises(ConfigError, match=part):
        read_rules({"x": node})


@pytest.mark.parametrize("value", [5.0, 4.9, -100.0])
def test_a_value_within_its_bounds_passes(tmp_path, value):
    trainer = watched(tmp_path, *read_rules(DRIFT))
    report(trainer, {"eval/kl_vs_base": value, "round": 2})


@pytest.mark.parametrize(
    ("value", "words"),
    [(5.5, "is 5.5 in round 2, above 5;"), (float("nan"), "is nan in round 2, not a finite"), (-float("inf"), "-inf")],
)
def test_a_broken_rule_stops_with_all_that_one_needs_to_know(tmp_path, value, words):
    trainer = watched(tmp_path, *read_rules(DRIFT))
    with pytest.raises(TrainingError) as stop:
        report(trainer, {"eval/kl_vs_base": value, "round": 2})
    sentence = str(stop.value)
    assert words in sentence
    assert "'drift'" in sentence
    assert "callbacks.stop_rules.drift=null" in sentence


def test_a_lower_bound_fires_below_it(tmp_path):
    trainer = watched(tmp_path, StopRule("win", "eval/win_rate_vs_base", below=0.4))
    report(trainer, {"eval/win_rate_vs_base": 0.4})
    with pytest.raises(TrainingError, match=r"is 0.39, below 0.4"):
        report(trainer, {"eval/win_rate_vs_base": 0.39})


def test_the_value_that_stops_a_run_is_on_record(tmp_path):
    trainer = watched(tmp_path, *read_rules(DRIFT))
    with pytest.raises(TrainingError):
        report(trainer, {"eval/kl_vs_base": 9.0, "other": 1.0, "round": 0})
    assert CSVLog(tmp_path / "metrics.csv").names() == {"eval/kl_vs_base", "other"}


def test_metrics_without_a_rule_may_be_anything(tmp_path):
    trainer = watched(tmp_path, *read_rules(DRIFT))
    report(trainer, {"annotator/score": float("nan"), "round": 0})
