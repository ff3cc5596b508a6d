"""Seeds are functions, not streams: the same (run, round, chunk) gives the same numbers on any rank, in any order."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any path of names and numbers, for example `(run_seed, "sample", round, chunk)`."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_rng(*parts: int | str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(*parts))


@contextmanager
def torch_seed(seed: int, device: torch.device) -> Generator[None]:
    """Torch's generators of the CPU and of `device` start at `seed` inside and are put back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
        yield
