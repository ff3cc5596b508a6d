"""What W&B shows beyond scalars: a table of candidates per round, and `round` as the step of its figures."""

import itertools

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from sparring.callbacks.hooks import round_data
from sparring.data.rounds import read_rows


class WandbTables(L.Callback):
    """One table per round, never a growing one. `rows` candidates of each round are shown."""

    def __init__(self, *, rows: int) -> None:
        self.rows = rows
        self._shown: int | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.define_metric("round")
                for prefix in ("eval/*", "completions/*", "annotator/*"):
                    logger.experiment.define_metric(prefix, step_metric="round")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = round_data(trainer)
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not loggers or not trainer.is_global_zero or data.round is None or data.round == self._shown:
            return
        self._shown = data.round
        path = data.store.table(data.round, "candidates")
        if not path.exists():  # a supervised round has none
            return
        columns = ["prompt_id", "index", "origin", "text", "finish", "defect", "logp"]
        cells = [[row[column] for column in columns] for row in itertools.islice(read_rows(path), self.rows)]
        for logger in loggers:
            logger.log_table(f"candidates/round-{data.round:03d}", columns, cells)
