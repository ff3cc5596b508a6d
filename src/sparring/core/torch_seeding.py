"""Torch's generators for a while at a seed; apart from `seeding.py`, which commands that only read a run import."""

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def torch_seed(seed: int, device: torch.device) -> Generator[None]:
    """Torch's generators of the CPU and of `device` start at `seed` inside and are put back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
        yield
