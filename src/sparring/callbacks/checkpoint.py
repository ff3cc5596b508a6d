"""Checkpoints where a killed run loses least: after the last step of an epoch, before anything is sampled."""

import time
from pathlib import Path
from typing import Any

import lightning as L

from sparring.callbacks.hooks import finished_epochs, round_data, using_policy
from sparring.core.files import atomic_path, write_json


class RoundCheckpoint(L.Callback):
    """Writes `checkpoints/last.ckpt` for resuming and `policy-NNN.safetensors`, the trainable weights after N rounds.

    Lightning's own ModelCheckpoint runs after all other callbacks, that is after the next round was sampled and judged;
    a kill in between would train the finished epoch again. `every_n_steps` adds checkpoints within long epochs.
    """

    def __init__(self, directory: Path, *, epochs_per_round: int, every_n_steps: int | None) -> None:
        self.directory = directory
        self.epochs_per_round = epochs_per_round
        self.every_n_steps = every_n_steps
        self._seconds = 0.0
        self._steps_before = 0  # the round's first step
        self._started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        seconds = self._seconds + time.perf_counter() - self._started
        return {"seconds": seconds, "steps_before": self._steps_before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds, self._steps_before = state_dict["seconds"], state_dict["steps_before"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.ckpt_path is None:
            self._save_policy(trainer, pl_module, 0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.perf_counter()  # a checkpoint within an epoch resumes without an epoch's start

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch
        if self.every_n_steps and between_steps and trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        index = round_data(trainer).round
        assert index is not None
        self._seconds += time.perf_counter() - self._started
        self._started = time.perf_counter()
        if finished_epochs(trainer) % self.epochs_per_round == 0:
            self._save_policy(trainer, pl_module, index + 1)
            if trainer.is_global_zero:
                path = round_data(trainer).store.directory(index) / "training.json"
                write_json(path, {"seconds": self._seconds, "steps": trainer.global_step - self._steps_before})
            self._seconds, self._steps_before = 0.0, trainer.global_step
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.directory / "last.ckpt", weights_only=False)

    def _save_policy(self, trainer: L.Trainer, pl_module: L.LightningModule, rounds: int) -> None:
        if trainer.is_global_zero:
            with using_policy(trainer, pl_module) as policy, atomic_path(self.policy_path(rounds)) as temporary:
                policy.save_trainable_state(temporary)
        trainer.strategy.barrier("policy saved")

    def policy_path(self, rounds: int) -> Path:
        return self.directory / f"policy-{rounds:03d}.safetensors"
