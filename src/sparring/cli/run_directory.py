"""A run's directory: what must be true before a run may start, go on or start over in it."""

import fcntl
import importlib.metadata
import platform
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from sparring.cli.saved_config import ASKING, saved_config
from sparring.core.errors import ConfigError, RoundError
from sparring.core.files import atomic_path, read_json, write_json

# Keys that say how to start, when to stop or how to report, not what to run. What a study gives to an arm stands in the
# keys that it sets.
_CONTROL = ("resume", "overwrite", "dry_run", "callbacks.stop_rules", "answers", "budget", "study")
_PACKAGES = ("sparring", "torch", "transformers", "lightning", "hydra-core", "peft", "datasets", "pyarrow", "numpy")


def check(cfg: DictConfig, run: Path) -> None:
    """Refuse a directory that this run must not start, go on or start over in. Changes nothing."""
    config = run / "config.yaml"
    if not config.exists():
        if run.exists() and any(not path.name.endswith(".tmp") for path in run.iterdir()):
            raise ConfigError(f"{run} is not empty and holds no run; choose another run_name.")
    elif cfg.resume == "auto":
        _same_config(cfg, config)
    elif not cfg.overwrite:
        raise ConfigError(f"{run} holds a run; add overwrite=true to delete it, or choose another run_name.")


def record(cfg: DictConfig, run: Path) -> None:
    """Write down what runs here, and with resume=never delete what ran before. Only rank 0 may call it."""
    config = run / "config.yaml"
    deleted = run.with_name(f".{run.name}.deleted")
    if config.exists() and cfg.resume == "never":
        shutil.rmtree(deleted, ignore_errors=True)
        run.rename(deleted)  # in one step: a run that is half deleted could neither go on nor start over
    shutil.rmtree(deleted, ignore_errors=True)
    for leftover in list(run.rglob(".*.tmp")):  # what a killed process was writing
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)  # it may lie in another one
    if config.exists():
        record_study(cfg, run)
    else:
        with atomic_path(config) as temporary:
            OmegaConf.save(cfg, temporary, resolve=True)
    _record_environment(cfg, run / "environment.json")


def record_study(cfg: DictConfig, run: Path) -> None:
    """A run that was made before takes part in the study as it is told now. Only rank 0 may call it."""
    saved = OmegaConf.load(run / "config.yaml")
    study = None if cfg.study is None else OmegaConf.to_container(cfg.study, resolve=True)
    if OmegaConf.select(saved, "study") != study:
        OmegaConf.update(saved, "study", study, merge=False)
        with atomic_path(run / "config.yaml") as temporary:
            OmegaConf.save(saved, temporary)


def _record_environment(cfg: DictConfig, path: Path) -> None:
    """The first start of a run describes it; later ones, which may be on another machine, are listed beside it."""
    here = environment(cfg)
    if path.exists():
        first = read_json(path)
        write_json(path, first | {"resumed": [*first.get("resumed", []), here]})
    else:
        name = re.sub(r"[^\w.-]", "-", path.parent.name)
        write_json(path, {"run_id": f"{name}-{secrets.token_hex(4)}", **here})


def identity(run: Path) -> str:
    """A name of this run that no other run has, the same after a resume; for trackers that span machines."""
    return read_json(run / "environment.json")["run_id"]


@contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Keeps a second process out of the run's directory; the claim ends with the process, however it ends."""
    lock = run.with_name(f".{run.name}.lock")
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        held = lock.open("w")
    except OSError as error:
        raise ConfigError(f"{run} cannot be written to ({error.strerror}); choose another place.") from error
    with held as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another process is working in {run}; wait for it, or choose another run_name."
            ) from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def global_step(checkpoint: Path) -> int:
    """Optimiser steps that a checkpoint has seen; an error if the file is damaged."""
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    except (RuntimeError, EOFError, UnpicklingError, KeyError) as error:
        raise RoundError(
            f"{checkpoint} is damaged; restore it, or start over with resume=never overwrite=true."
        ) from error


def checkpoint(run: Path) -> Path | None:
    last = run / "checkpoints" / "last.ckpt"
    return last if last.exists() else None


def finished(run: Path) -> bool:
    summary = run / "summary.json"
    return summary.exists() and read_json(summary)["status"] == "finished"


def _same_config(cfg: DictConfig, config: Path) -> None:
    old = _flat(saved_config(config.parent))
    new = _flat(OmegaConf.to_container(cfg, resolve=True))
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    differing = [key for key in differing if not _is_control(key)]
    if differing:
        changes = ", ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"{config.parent} holds a run of another configuration ({changes}{more}); "
            "choose another run_name, or start over with resume=never overwrite=true."
        )


def _is_control(key: str) -> bool:
    """Annotators stand in several places, and hold copies of the keys `answers` and `budget`."""
    names = key.split(".")
    asking = any(name.endswith("annotator") for name in names) and not ASKING.isdisjoint(names)
    return asking or any(f"{key}.".startswith(f"{control}.") for control in _CONTROL)


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, Mapping):
        items = ((f"{prefix}.{key}" if prefix else str(key), value) for key, value in node.items())
        return {key: value for name, child in items for key, value in _flat(child, name).items()}
    return {prefix: node}


def environment(cfg: DictConfig) -> dict[str, Any]:
    """What a reader needs to know to run this again elsewhere."""
    return {
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": _git_commit(),
        "device": _device(cfg.trainer.accelerator),
        "seed": cfg.seed,
        "threads": torch.get_num_threads(),
        "command": sys.argv,
    }


def _device(accelerator: str) -> str:
    """The name of the GPU that the trainer will take, or of the processor."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """The commit of the checkout that sparring runs from; None for an installed wheel."""
    if shutil.which("git") is None:
        return None
    here = Path(__file__).parent
    result = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
