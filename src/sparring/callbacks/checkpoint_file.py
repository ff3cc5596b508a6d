"""How checkpoints reach the disk: whole or not at all, and without a second copy of them in memory."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from sparring.core.files import atomic_path


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's own writer holds the bytes of a checkpoint in memory and moves it over from the system's temporary
    directory, which between disks can be cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)
