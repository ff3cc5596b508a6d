"""The optimiser's life across rounds: state kept or fresh, and a learning rate that is a function of (round, step)."""

from typing import Any

import lightning as L

from sparring.callbacks.hooks import finished_epochs, round_data
from sparring.core.schedule import Shape, learning_rate_factor


class RoundOptimizer(L.Callback):
    """Sets the learning rate of each step; `fresh` starts every round with a new optimiser, as the papers' scripts do.

    The rate is peak * decay**round * schedule(step in round), computed and not remembered, so that any checkpoint
    resumes with the right one. `schedule_total_epochs` may exceed the epochs that are trained: SPPO draws its schedule
    for 18 or 6 epochs and stops after one (arXiv 2405.00675); the paper of DNO lowers the rate in later rounds.
    """

    def __init__(
        self,
        *,
        fresh: bool,
        decay: float,
        warmup_ratio: float,
        shape: Shape,
        schedule_total_epochs: int,
        epochs_per_round: int,
    ) -> None:
        self.fresh, self.decay, self.warmup_ratio = fresh, decay, warmup_ratio
        self.shape: Shape = shape
        self.schedule_total_epochs, self.epochs_per_round = schedule_total_epochs, epochs_per_round
        self._optimizer_round = 0

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer_round": self._optimizer_round}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._optimizer_round = state_dict["optimizer_round"]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        index = round_data(trainer).round
        assert index is not None
        if self.fresh and index != self._optimizer_round:
            trainer.strategy.setup_optimizers(trainer)
        self._optimizer_round = index

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return
        steps = int(trainer.num_training_batches) // trainer.accumulate_grad_batches
        epoch = finished_epochs(trainer) % self.epochs_per_round
        factor = self.decay**self._optimizer_round * learning_rate_factor(
            epoch * steps + batch_idx // trainer.accumulate_grad_batches,
            steps_per_epoch=steps,
            schedule_total_epochs=self.schedule_total_epochs,
            warmup_ratio=self.warmup_ratio,
            shape=self.shape,
        )
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
