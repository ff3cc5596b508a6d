"""`sparring train`: compose the configuration, prepare the run's directory, build, fit, report."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from sparring.core.errors import ConfigError, SparringError
from sparring.core.files import read_json


def conf_directory(name: str = "conf") -> Path:
    """`conf/` or `sweeps/`: inside an installed wheel, or at the root of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / name, package.parents[1] / name):
        if candidate.is_dir():
            return candidate
    raise ConfigError(f"{package} comes without its {name} directory; install sparring again.")


def main() -> None:
    """Entry point; leaves with status 2 and one sentence where the user can mend it."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us whole, and leave as one sentence
    with one_sentence():
        hydra.main(config_path=str(conf_directory()), config_name="train", version_base="1.3")(task)()


def task(cfg: DictConfig) -> float | None:
    with one_sentence():  # here too: Hydra prints lines of its own about an exception that leaves a job
        return train(cfg)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turns an error that the user can mend into its sentence and exit status 2; others keep their traceback."""
    try:
        yield
    except (SparringError, HydraException, OmegaConfBaseException) as error:
        sentence = explain(error)
        if sentence is None:
            raise
        print(f"sparring: {sentence}", file=sys.stderr)
        sys.exit(2)


def explain(error: BaseException) -> str | None:
    """The sentence a user needs, found along the chain of causes; None for an error of ours."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None:
        chain.append(current)
        current = current.__cause__
    for link in chain:
        if isinstance(link, SparringError):
            return str(link)
    for link in chain:
        if isinstance(link, MissingMandatoryValue | InterpolationToMissingValueError):
            return f"{_first_line(link).rstrip('.')}: give the value on the command line, or choose an experiment=NAME."
    if isinstance(error, HydraException | OmegaConfBaseException):
        return " ".join(dict.fromkeys(_first_line(link).rstrip(".") + "." for link in chain))
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]


def train(cfg: DictConfig) -> float | None:
    """One run; returns the last held-out win rate against the base policy, for sweepers that optimise."""
    missing = OmegaConf.missing_keys(cfg)
    if missing:
        raise ConfigError(f"{', '.join(sorted(missing))} must be given, for example {sorted(missing)[0]}=VALUE.")
    _refuse_subprocesses_in_sweeps(cfg)
    run = Path(HydraConfig.get().runtime.output_dir)
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore[reportAssignmentType]

    # Heavy imports come after everything that a typing error can stop.
    import torch

    from sparring.cli import run_directory
    from sparring.cli.tables import print_rounds

    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    main_process = int(os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0"))) == 0
    checkpoint = run_directory.prepare(cfg, run) if main_process else run_directory.checkpoint(run)
    if run_directory.finished(run):
        if main_process:
            print(f"{run} is finished; resume=never overwrite=true runs it again.")
            print_rounds(run)
        return _last_win_rate(run)
    _fit(config, run, checkpoint)
    if main_process:
        print_rounds(run)
    return _last_win_rate(run)


def _fit(config: dict[str, Any], run: Path, checkpoint: Path | None) -> None:
    _quiet()
    from sparring.analysis.summary import write_summary
    from sparring.cli.build import build

    try:
        experiment = build(config, run, progress_bar=sys.stderr.isatty())
        experiment.log.forget_after(0 if checkpoint is None else _global_step(checkpoint))
        experiment.trainer.fit(experiment.objective, datamodule=experiment.data, ckpt_path=checkpoint)
    except BaseException:
        if (run / "rounds").exists():
            write_summary(run, status="stopped", objective=config["objective"]["_target_"].rsplit(".", 1)[-1])
        raise
    finally:
        if "wandb" in config["logger"]:
            import wandb

            wandb.finish()


def _global_step(checkpoint: Path) -> int:
    import torch

    return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"]


def _last_win_rate(run: Path) -> float | None:
    rounds = read_json(run / "summary.json")["rounds"]
    return rounds[-1].get("win_rate_vs_base") if rounds else None


def _refuse_subprocesses_in_sweeps(cfg: DictConfig) -> None:
    """Lightning's subprocess launcher replays `-m`: ranks of two settings can then meet in one process group."""
    if HydraConfig.get().mode != RunMode.MULTIRUN or "RANK" in os.environ or "SLURM_PROCID" in os.environ:
        return
    devices = cfg.trainer.get("devices", 1)
    if devices not in (1, "1", [0]) and cfg.trainer.get("strategy") != "ddp_spawn":
        raise ConfigError(
            "a sweep cannot start several processes per job; use trainer.devices=1, trainer.strategy=ddp_spawn, "
            "or a launcher that starts one process group per job (torchrun, SLURM)."
        )


def _quiet() -> None:
    """Notices that are about other people's set-ups, not about this run."""
    from transformers.utils import logging as transformers_logging

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*modules? in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=r".*GPU available but not used.*")
    transformers_logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "WANDB_API_KEY" not in os.environ:
        os.environ.setdefault("WANDB_MODE", "offline")


if __name__ == "__main__":
    main()
