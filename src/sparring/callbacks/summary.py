"""Keeps `summary.json` current while a run goes on."""

from pathlib import Path

import lightning as L

from sparring.analysis.summary import write_summary


class Summary(L.Callback):
    """Last in the list of callbacks, so that it sees what the others wrote."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, pl_module, "running")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, pl_module, "running")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, pl_module, "finished")

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule, status: str) -> None:
        if trainer.is_global_zero:
            write_summary(self.run, status=status, objective=type(pl_module).__name__)
