"""Keeps `summary.json` current while a run goes on."""

from pathlib import Path

import lightning as L

from sparring.analysis.summary import write_summary


class Summary(L.Callback):
    """Last in the list of callbacks, so that it sees what the others wrote."""

    def __init__(self, run: Path, *, objective: str) -> None:
        self.run = run
        self.objective = objective

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, "running")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, "running")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, "finished")

    def _write(self, trainer: L.Trainer, status: str) -> None:
        if trainer.is_global_zero:
            write_summary(self.run, status=status, objective=self.objective)
