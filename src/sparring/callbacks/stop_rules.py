"""Rules of the user that end a run: a metric that leaves its bounds, or is not a number, stops it with a sentence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import lightning as L
from lightning.pytorch.loggers.logger import Logger

from sparring.callbacks.csv_log import CSVLog
from sparring.callbacks.hooks import finished_epochs
from sparring.core.errors import ConfigError, TrainingError


@dataclass(frozen=True, slots=True)
class StopRule:
    """The run stops when `metric` is above `above`, below `below`, or not finite."""

    name: str
    metric: str
    above: float | None = None
    below: float | None = None

    def broken(self, value: float) -> str | None:
        """What is wrong with a value, or None."""
        if not math.isfinite(value):
            return "not a finite number"
        if self.above is not None and value > self.above:
            return f"above {self.above:g}"
        if self.below is not None and value < self.below:
            return f"below {self.below:g}"
        return None


def read_rules(nodes: Any) -> list[StopRule]:
    """`callbacks.stop_rules` of a configuration; null is none."""
    if not isinstance(nodes, Mapping | None):
        raise ConfigError(
            f"callbacks.stop_rules is {nodes!r}; give rules by name, as callbacks.stop_rules.NAME.metric."
        )
    return [_read(name, node) for name, node in (nodes or {}).items() if node is not None]


def _read(name: str, node: Any) -> StopRule:
    where = f"callbacks.stop_rules.{name}"
    if not isinstance(node, Mapping) or not isinstance(node.get("metric"), str):
        raise ConfigError(f"{where} names no metric; give {where}.metric=NAME and {where}.above=VALUE.")
    bounds = {key: value for key, value in node.items() if key != "metric" and value is not None}
    if unknown := sorted(bounds.keys() - {"above", "below"}):
        raise ConfigError(f"{where} has no key {unknown[0]!r}; its keys are metric, above, below.")
    if not bounds or not all(type(value) in (int, float) and math.isfinite(value) for value in bounds.values()):
        raise ConfigError(f"{where} has no bound; give {where}.above or {where}.below a number.")
    return StopRule(name, node["metric"], **{key: float(value) for key, value in bounds.items()})


class StopRules(L.Callback):
    """Sees every metric that loggers see, after them, so that the value which stopped a run is on record.

    What the run has made stays. Rules are no part of a run's identity: the same command with other rules continues it.
    """

    def __init__(self, rules: Sequence[StopRule], *, log: CSVLog, epochs_per_round: int) -> None:
        self.rules = rules
        self.csv_log = log  # Lightning puts its own `log` on every callback
        self.epochs_per_round = epochs_per_round

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        trainer.loggers = [*trainer.loggers, _Watch(self.rules)]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Whatever a run logs, it logs in every round: a name that is missing by now is a wrong one."""
        if trainer.is_global_zero and finished_epochs(trainer) % self.epochs_per_round == 0:
            logged = self.csv_log.names()
            for rule in self.rules:
                if rule.metric not in logged:
                    raise ConfigError(_unknown(rule, logged))


class _Watch(Logger):
    def __init__(self, rules: Sequence[StopRule]) -> None:
        super().__init__()
        self.rules = rules

    @property
    def name(self) -> str:
        return "stop_rules"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Rules are about metrics."""

    def log_metrics(self, metrics: Mapping[str, float | int], step: int | None = None) -> None:
        for rule in self.rules:
            if rule.metric in metrics and (broken := rule.broken(float(metrics[rule.metric]))):
                raise TrainingError(_sentence(rule, float(metrics[rule.metric]), broken, metrics.get("round")))


def _sentence(rule: StopRule, value: float, broken: str, index: int | float | None) -> str:
    when = "" if index is None else f" in round {int(index)}"
    key = f"callbacks.stop_rules.{rule.name}"
    return (
        f"stop rule {rule.name!r}: {rule.metric} is {value:g}{when}, {broken}; what was made is kept, and to go on "
        f"give the same command with another bound, or with {key}=null."
    )


def _unknown(rule: StopRule, logged: set[str]) -> str:
    close = get_close_matches(rule.metric, sorted(logged), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(sorted(logged))}."
    return f"callbacks.stop_rules.{rule.name}.metric is {rule.metric!r}, which no round logs; {hint}"
