"""One row of training metrics per optimiser step, logged before a checkpoint of that step can be written.

Lightning's own logging comes after the hooks of a batch: a run killed between its checkpoint and its log would lose the
step's row. It also shows the last micro-batch of rank 0 for the whole step.
"""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from sparring.callbacks.hooks import round_data


class StepLog(L.Callback):
    """Means over the micro-batches and ranks that share a step, every `trainer.log_every_n_steps` steps."""

    def __init__(self) -> None:
        self._micro_batches: list[Mapping[str, Tensor]] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._micro_batches.append(outputs["metrics"])
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        parts, self._micro_batches = self._micro_batches, []
        if trainer.global_step % trainer.log_every_n_steps:  # pyright: ignore[reportAttributeAccessIssue]
            return
        means = torch.stack([torch.stack([part[name] for part in parts]).mean() for name in parts[0]])
        means = trainer.strategy.reduce(means, reduce_op="mean").tolist()
        metrics = {f"train/{name}": value for name, value in zip(parts[0], means, strict=True)}
        metrics["train/learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        for logger in trainer.loggers:
            logger.log_metrics({**metrics, "round": round_data(trainer).round or 0}, step=trainer.global_step - 1)
