"""In which precision a policy is used beside training steps."""

from contextlib import AbstractContextManager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins import MixedPrecision


def decoding_precision(trainer: L.Trainer) -> AbstractContextManager[Any]:
    """The trainer's. Lightning's context for a step casts the weights in every forward; decoding would, every token."""
    plugin = trainer.precision_plugin
    if isinstance(plugin, MixedPrecision):
        dtype = torch.bfloat16 if plugin.precision == "bf16-mixed" else torch.float16
        return torch.autocast(plugin.device, dtype=dtype)
    return plugin.forward_context()
