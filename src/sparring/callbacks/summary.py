"""Keeps `summary.json` current while a run goes on; the command that runs it writes how it ended."""

from pathlib import Path

import lightning as L

from sparring.analysis.summary import write_summary


class Summary(L.Callback):
    """After a round was measured, and before the next one is made, which may take hours."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, pl_module)

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            write_summary(self.run, status="running", objective=type(pl_module).__name__)
