"""What W&B shows beyond scalars: a table of candidates or games per round, and `round` as the step of its figures."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from sparring.callbacks.hooks import round_data
from sparring.data.rounds import read_rows

COLUMNS = {
    "candidates": ["prompt_id", "index", "origin", "text", "finish", "defect", "logp"],
    "episodes": ["game", "target", "attacker", "defender", "outcome", "utterances"],
}


class WandbTables(L.Callback):
    """One table per round, never a growing one. `rows` candidates or games of each round are shown."""

    def __init__(self, *, rows: int) -> None:
        self.rows = rows
        self._shown: int | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._define(trainer)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._define(trainer)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._define(trainer)

    def _define(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.define_metric("round")
                for prefix in ("eval/*", "completions/*", "annotator/*", "games/*"):
                    logger.experiment.define_metric(prefix, step_metric="round")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = round_data(trainer)
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not loggers or not trainer.is_global_zero or data.round is None or data.round == self._shown:
            return
        self._shown = data.round
        for table in COLUMNS:
            path = data.store.table(data.round, table)
            if path.exists():  # a supervised round has none
                self._show(loggers, path, table, data.round)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show_answers(trainer)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show_answers(trainer)

    def _show_answers(self, trainer: L.Trainer) -> None:
        """Of a run that trains nothing."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        self._show(loggers, Path(trainer.default_root_dir) / "evaluation" / "policy-001.parquet", "candidates", 0)

    def _show(self, loggers: Sequence[WandbLogger], path: Path, table: str, index: int) -> None:
        columns = COLUMNS[table]
        cells = [[_cell(row[column]) for column in columns] for row in itertools.islice(read_rows(path), self.rows)]
        for logger in loggers:
            logger.log_table(f"{table}/round-{index:03d}", columns, cells)


def _cell(value: Any) -> Any:
    """As it is, but what was said in a game in one text."""
    return "\n".join(f"{said['role']}: {said['text']}" for said in value) if isinstance(value, list) else value
