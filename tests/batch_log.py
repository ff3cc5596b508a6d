"""A callback that writes down what training sees."""

import json
from pathlib import Path
from typing import Any

import lightning as L

from sparring.core.batch import PairBatch


def pairs_of(batch: PairBatch) -> list[list[list[int]]]:
    """Prompt, chosen and rejected tokens of each pair, without padding."""
    groups = batch.groups
    prompts = [ids[mask].tolist() for ids, mask in zip(groups.prompt_ids, groups.prompt_mask, strict=True)]
    responses = [ids[mask].tolist() for ids, mask in zip(groups.response_ids, groups.response_mask, strict=True)]
    group = groups.group.tolist()
    sides = zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True)
    return [[prompts[group[chosen]], responses[chosen], responses[rejected]] for chosen, rejected in sides]


class BatchLog(L.Callback):
    """One JSON line per micro-batch and rank."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        optimizer = trainer.optimizers[0]
        steps = {int(state["step"]) for state in optimizer.state.values()}
        line = {
            "rank": trainer.global_rank,
            "epoch": trainer.current_epoch,
            "global_step": trainer.global_step,
            "optimizer_steps": max(steps, default=0),
            "lr": optimizer.param_groups[0]["lr"],
            "pairs": pairs_of(batch),
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
