"""`sparring train`: compose the configuration, prepare the run's directory, build, fit, report."""

import logging
import os
import signal
import sys
import traceback
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sparring.cli.check import check_run, trains_nothing
from sparring.cli.explain import Stopped, one_sentence, reason_of
from sparring.core.errors import BudgetError, ConfigError
from sparring.core.files import read_json

_ended: list[Path] = []  # the runs of this command: a sweep has several


def conf_directory(name: str = "conf") -> Path:
    """`conf/` or `sweeps/`: inside an installed wheel, or at the root of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / name, package.parents[1] / name):
        if candidate.is_dir():
            return candidate
    raise ConfigError(f"{package} comes without its {name} directory; install sparring again.")


def offer_sweeps() -> None:
    """Makes every study in sweeps/ an option of the group `sweeps`; files for other programs may lie beside them.

    Not by Hydra's search path: in a directory on it, all that lies beside sweeps/ would be a configuration group.
    """
    for path in sorted(conf_directory("sweeps").glob("*.yaml")):
        if path.read_text().startswith("# @package _global_\n"):
            study = OmegaConf.load(path)
            ConfigStore.instance().store(path.stem, study, "sweeps", package="_global_", provider="sparring")


def main() -> None:
    """Entry point; leaves with status 2 and one sentence where the user can mend it, with 130 when interrupted."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us whole, and leave as one sentence
    offer_sweeps()
    _ended.clear()
    with one_sentence():
        hydra.main(config_path=str(conf_directory()), config_name="train", version_base="1.3")(task)()
    if len(_ended) > 1:
        from sparring.cli.tables import print_games

        if games := [run for run in _ended if "games" in read_json(run / "summary.json")]:
            print_games(games)


def task(cfg: DictConfig) -> float | None:
    run = Path(HydraConfig.get().runtime.output_dir)
    try:
        with one_sentence():  # here too: Hydra prints lines of its own about an exception that leaves a job
            return train(cfg, run)
    except Exception:
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            raise
        traceback.print_exc()  # Hydra would begin the sweep's next run first, whose end may hide this one's
        sys.exit(1)
    finally:
        if run.is_dir() and not any(run.iterdir()):  # Hydra makes it before anything is checked
            run.rmdir()


def train(cfg: DictConfig, run: Path) -> float | None:
    """One run in directory `run`; returns the last held-out win rate against the base policy, for sweepers."""
    give(cfg)
    _require_arm(cfg)
    missing = OmegaConf.missing_keys(cfg)
    if missing:
        raise ConfigError(f"{', '.join(sorted(missing))} must be given, for example {sorted(missing)[0]}=VALUE.")
    _refuse_subprocesses_in_sweeps(cfg)
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore[reportAssignmentType]
    check_run(config)
    if cfg.dry_run:
        from sparring.cli.expenses import print_foreseen

        if not any(run.iterdir()):  # Hydra has made it
            run.rmdir()
        print_foreseen(config)
        return None

    # Heavy imports come after everything that a typing error can stop.
    import torch

    from sparring.cli import run_directory
    from sparring.cli.tables import print_rounds

    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    with run_directory.claimed(run) if _main_process() else nullcontext():
        if _main_process():
            run_directory.check(cfg, run)
        if cfg.resume == "auto" and run_directory.finished(run):
            if _main_process():
                run_directory.record_study(cfg, run)
                print(f"{run} is finished; resume=never overwrite=true runs it again.")
                print_rounds(run)
                _ended.append(run)
            return _last_win_rate(run)
        _fit(cfg, config, run)
    if _main_process():
        print_rounds(run)
        _ended.append(run)
    return _last_win_rate(run)


def give(cfg: DictConfig) -> None:
    """Set what the run's study gives to its arm alone."""
    arms = {} if cfg.study is None else cfg.study.get("given") or {}
    for key, value in arms.get(cfg.arm_name, {}).items():
        OmegaConf.update(cfg, key, value)


def _fit(cfg: DictConfig, config: dict[str, Any], run: Path) -> None:
    _quiet()
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from sparring.analysis.summary import write_summary
    from sparring.cli import run_directory
    from sparring.cli.build import build, make_loggers
    from sparring.cli.build_decoding import build_decoding

    building = build_decoding if trains_nothing(config) else build
    experiment = building(config, run, progress_bar=sys.stderr.isatty())
    trainer, objective = experiment.trainer, type(experiment.objective).__name__
    if _main_process():
        run_directory.record(cfg, run)  # not before the build: what cannot run leaves no trace
        trainer.loggers = [*trainer.loggers, *make_loggers(config, run, run_directory.identity(run))]
    checkpoint = run_directory.checkpoint(run) if cfg.resume == "auto" else None
    try:
        experiment.log.forget_after(0 if checkpoint is None else run_directory.global_step(checkpoint))
        experiment.start(checkpoint)
    except BaseException as error:
        if trainer.strategy.launcher is not None:  # ranks that it started would wait for this one, on SIGTERM too
            trainer.strategy.launcher.kill(signal.SIGKILL)
        if _main_process():
            status = "paused" if isinstance(error, BudgetError) else "stopped"
            write_summary(run, status=status, objective=objective, reason=reason_of(error))
        _finish_wandb(config, exit_code=1)
        # Lightning makes exits of the two, with status 1 and 0.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        if isinstance(error, SIGTERMException):
            raise Stopped(signal.SIGTERM) from error
        raise
    if _main_process():
        write_summary(run, status="finished", objective=objective)
    _finish_wandb(config, exit_code=0)


def _main_process() -> bool:
    """Whether this is rank 0, before there is a trainer to ask: torchrun, Lightning's own children, SLURM."""
    ranks = (os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ)
    return int(next(ranks, "0")) == 0


def _finish_wandb(config: dict[str, Any], *, exit_code: int) -> None:
    if "wandb" in config["logger"]:
        import wandb

        wandb.finish(exit_code=exit_code)


def _last_win_rate(run: Path) -> float | None:
    rounds = read_json(run / "summary.json")["rounds"]
    return rounds[-1].get("win_rate_vs_base") if rounds else None


def _require_arm(cfg: DictConfig) -> None:
    """A setting that names its runs after methods is none by itself."""
    if cfg.arm_name is None and "${arm_name}" in str(OmegaConf.to_container(cfg)["run_name"]):  # pyright: ignore
        raise ConfigError("this experiment compares methods; choose one with arm=NAME, or name your own with arm_name.")


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
    import lightning.fabric
    import lightning.pytorch
    from transformers.utils import logging as transformers_logging

    for library in (lightning.fabric, lightning.pytorch):  # they set their levels when they are imported
        logging.getLogger(library.__name__).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    warnings.filterwarnings("ignore", message=r".*modules? in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=r".*GPU available but not used.*")
    transformers_logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "WANDB_API_KEY" not in os.environ:
        os.environ.setdefault("WANDB_MODE", "offline")


if __name__ == "__main__":
    main()
