"""At the end of a run: the trained policy in Hugging Face layout."""

import shutil
from pathlib import Path

import lightning as L

from sparring.callbacks.hooks import using_policy


class Export(L.Callback):
    """Writes `export/`, whole or not at all; a LoRA policy as its adapter, or merged into its base on request."""

    def __init__(self, directory: Path, *, merge_lora: bool) -> None:
        self.directory = directory
        self.merge_lora = merge_lora

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            temporary = self.directory.with_name(f".{self.directory.name}.tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            with using_policy(trainer, pl_module) as policy:
                policy.save(temporary, merge_lora=self.merge_lora)
            shutil.rmtree(self.directory, ignore_errors=True)
            temporary.rename(self.directory)
        trainer.strategy.barrier("exported")
