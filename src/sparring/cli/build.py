"""From a configuration to objects: the only caller of `hydra.utils.instantiate`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger

from sparring.callbacks.checkpoint import RoundCheckpoint
from sparring.callbacks.checkpoint_file import AtomicCheckpoints
from sparring.callbacks.csv_log import CSVLog
from sparring.callbacks.reference_check import ReferenceCheck
from sparring.callbacks.regenerate import Regenerate
from sparring.callbacks.step_log import StepLog
from sparring.callbacks.summary import Summary
from sparring.cli.check import check_targets
from sparring.core.errors import ConfigError, DataError
from sparring.core.protocols import PromptSource
from sparring.core.types import Prompt
from sparring.data.datamodule import RoundDataModule
from sparring.data.rounds import RoundStore
from sparring.objectives.base import Objective
from sparring.policy.policy import Policy
from sparring.policy.room import check_prompts
from sparring.rollout.chunks import chunk_ranges
from sparring.rollout.context import Rollout
from sparring.rollout.preference import PreferenceRollout
from sparring.rollout.supervised import SupervisedRollout


@dataclass(frozen=True, slots=True)
class Experiment:
    trainer: L.Trainer
    objective: Objective
    data: RoundDataModule
    log: CSVLog


def build(cfg: dict[str, Any], run: Path, *, progress_bar: bool) -> Experiment:
    """Everything a run needs; prompts, sampler and model are checked against each other before any work.

    `cfg` is the resolved configuration as plain dictionaries.
    """
    check_targets(cfg)
    L.seed_everything(cfg["seed"], verbose=False)
    rollout: Rollout = make(cfg["rollout"])
    policy: Policy = make(cfg["model"])
    check_source(policy, rollout, rounds=cfg["rounds"])
    objective: Objective = make(cfg["objective"])(policy)
    check_objective(objective, rollout)
    data = RoundDataModule(
        RoundStore(run / "rounds"),
        batch_size=cfg["batch_size"],
        accumulate=cfg["accumulate"],
        pad_id=policy.pad_id,
        seed=cfg["seed"],
    )
    log = CSVLog(run / "metrics.csv")
    trainer = make_trainer(
        cfg["trainer"],
        max_epochs=cfg["rounds"] * cfg["stop_after_epochs"],
        accumulate_grad_batches=cfg["accumulate"],
        default_root_dir=run,
        callbacks=_callbacks(cfg, run, rollout),
        logger=log,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,  # batches know their rank
        enable_checkpointing=False,  # RoundCheckpoint
        plugins=[AtomicCheckpoints()],
        enable_model_summary=False,
        enable_progress_bar=progress_bar,
    )
    return Experiment(trainer, objective, data, log)


def make(node: dict[str, Any]) -> Any:
    """What a `_target_` node describes; containers arrive as plain lists and dictionaries."""
    return instantiate(node, _convert_="all")


def make_loggers(cfg: dict[str, Any], run: Path, identity: str) -> list[Logger]:
    """What `logger=` names, beside metrics.csv. W&B continues the run that has the same id."""
    return [
        make(node)(save_dir=run, **({"id": identity} if name == "wandb" else {}))
        for name, node in cfg["logger"].items()
    ]


def make_trainer(node: dict[str, Any], **given: Any) -> L.Trainer:
    if taken := sorted(node.keys() & {*given, "max_steps", "max_time"}):
        raise ConfigError(f"trainer.{taken[0]} cannot be set: rounds, accumulate and the run's directory decide it.")
    try:
        return make(node)(**given)
    except (MisconfigurationException, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the trainer cannot be built: {reason.rstrip('.!')}; see the keys of trainer.") from error


def _callbacks(cfg: dict[str, Any], run: Path, rollout: Rollout) -> list[L.Callback]:
    """In the order in which they act: log a step, save, measure, sum up, make the next round, export."""
    nodes = dict(cfg["callbacks"])
    for name in ("checkpoint", "round_optimizer"):
        if nodes[name] is None:
            raise ConfigError(f"callbacks.{name} is null, but no run goes without it; leave it on.")
    epochs: dict[str, Any] = {"epochs_per_round": cfg["stop_after_epochs"]}
    checkpoint: RoundCheckpoint = make(nodes.pop("checkpoint"))(run / "checkpoints", **epochs)
    callbacks: list[L.Callback] = [make(nodes.pop("round_optimizer"))(**epochs), StepLog(), checkpoint]
    win_rate, export = nodes.pop("win_rate"), nodes.pop("export")
    if isinstance(rollout, PreferenceRollout):
        callbacks.append(ReferenceCheck(reference=rollout.reference, **epochs))
        if win_rate is not None:
            if not len(rollout.prompts.validation):
                raise ConfigError(
                    "there are no held-out prompts to measure win rates on; raise prompts.validation, "
                    "or set callbacks.win_rate=null."
                )
            callbacks.append(
                make(win_rate)(
                    run / "evaluation",
                    prompts=rollout.prompts,
                    sampler=rollout.sampler,
                    annotator=rollout.annotator,
                    seed=cfg["seed"],
                    **epochs,
                )
            )
    elif win_rate is not None:
        raise ConfigError("this rollout has no annotator to measure win rates with; set callbacks.win_rate=null.")
    callbacks.append(Summary(run))
    callbacks.append(Regenerate(rollout, seed=cfg["seed"], initial_policy=checkpoint.policy_path(0), **epochs))
    if export is not None:
        callbacks.append(make(export)(run / "export"))
    return callbacks + [make(node) for node in nodes.values() if node is not None]


def check_objective(objective: Objective, rollout: Rollout) -> None:
    """What the objective needs of the data, and its optimiser, which Lightning would build after the first round."""
    name = type(objective).__name__
    if objective.needs_rejected and not isinstance(rollout, PreferenceRollout):
        raise ConfigError(
            f"objective {name} compares two responses, but this rollout makes single ones; "
            "use objective=sft, or rollout=preference."
        )
    if objective.needs_win_rates and isinstance(rollout, PreferenceRollout) and rollout.replay:
        raise ConfigError(
            f"objective {name} regresses on win rates against the round's own policy, which replayed pairs lack; "
            "set rollout.replay=0."
        )
    try:
        objective.configure_optimizers()
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"objective.optimizer cannot be built: {str(error).rstrip('.')}.") from error


def check_source(policy: Policy, rollout: Rollout, *, rounds: int) -> None:
    """Every prompt of every round fits the policy's context beside its answers, and there is something to train on."""
    source: PromptSource = rollout.prompts
    for index in range(rounds):
        if len(source.for_round(index)) == 0:
            raise DataError(f"round {index} has no prompts; give more prompts, or fewer rounds.")
    training = (source.for_round(index) for index in range(rounds))
    if isinstance(rollout, PreferenceRollout):
        max_new_tokens = rollout.sampler.max_new_tokens
        for prompts in distinct([source.validation], rollout.chunk_size):
            check_prompts(policy, prompts, max_new_tokens=max_new_tokens, teacher=False)
        for prompts in distinct(training, rollout.chunk_size):
            check_prompts(policy, prompts, max_new_tokens=max_new_tokens, teacher=rollout.teacher)
    elif isinstance(rollout, SupervisedRollout):
        for prompts in distinct(training, rollout.chunk_size):
            check_prompts(policy, prompts, max_new_tokens=0, teacher=True)


def distinct(tables: Iterable[Sequence[Prompt]], chunk_size: int) -> Iterator[list[Prompt]]:
    """The prompts of all tables, each once, at most `chunk_size` at a time: only their ids stay in memory."""
    seen: set[str] = set()
    for table in tables:
        for positions in chunk_ranges(len(table), chunk_size):
            new = {prompt.id: prompt for prompt in (table[i] for i in positions) if prompt.id not in seen}
            seen.update(new)
            yield list(new.values())
