"""From a configuration to the objects of a run, which are checked against each other."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger

from sparring.callbacks.checkpoint import RoundCheckpoint
from sparring.callbacks.checkpoint_file import AtomicCheckpoints
from sparring.callbacks.csv_log import CSVLog
from sparring.callbacks.reference_check import ReferenceCheck
from sparring.callbacks.regenerate import Regenerate
from sparring.callbacks.starting_advantages import StartingAdvantages
from sparring.callbacks.step_log import StepLog
from sparring.callbacks.stop_rules import StopRules, read_rules
from sparring.callbacks.summary import Summary
from sparring.cli.check import check_targets
from sparring.cli.duties import check_annotators, duties
from sparring.cli.expenses import check_budget
from sparring.cli.make import make
from sparring.cli.parts import Parts
from sparring.cli.run_directory import identity
from sparring.core.errors import ConfigError, DataError
from sparring.core.protocols import PromptSource
from sparring.core.types import Prompt
from sparring.data.datamodule import RoundDataModule
from sparring.data.rounds import RoundStore
from sparring.data.rows import ROW_KINDS
from sparring.objectives.base import Objective, PairObjective
from sparring.objectives.spag import SPAG
from sparring.objectives.turns import TurnObjective
from sparring.pairing.funnel import Pairing
from sparring.policy.mixture import MixtureSampler
from sparring.policy.policy import Policy
from sparring.policy.principled import PrincipledSampler
from sparring.policy.room import check_prompts
from sparring.policy.sampler import Sampler
from sparring.rollout.chunks import chunk_ranges
from sparring.rollout.context import ChecksItself, Rollout
from sparring.rollout.preference import PreferenceRollout
from sparring.rollout.recorded_pairs import RecordedPairs
from sparring.rollout.recorded_rounds import RecordedRounds
from sparring.rollout.supervised import SupervisedRollout


@dataclass(frozen=True, slots=True)
class Experiment:
    """`log` is the run's metrics.csv, which belongs to the trainer's loggers."""

    trainer: L.Trainer
    objective: L.LightningModule
    data: L.LightningDataModule
    log: CSVLog

    def start(self, checkpoint: Path | None) -> None:
        """From `checkpoint`, or from the beginning."""
        self.trainer.fit(self.objective, datamodule=self.data, ckpt_path=checkpoint)


def build(cfg: dict[str, Any], run: Path, *, progress_bar: bool) -> Experiment:
    """Everything a run needs; prompts, sampler and model are checked against each other before any work.

    `cfg` is the resolved configuration as plain dictionaries.
    """
    check_game(cfg)
    check_targets(cfg)
    check_budget(cfg)
    L.seed_everything(cfg["seed"], verbose=False)
    parts = Parts(cfg, payer=partial(identity, run))
    check_sampler(parts.sampler)
    rollout: Rollout = parts.make(cfg["rollout"])
    policy: Policy = make(cfg["model"])
    objective: Objective[Any] = make(cfg["objective"])(policy)
    check_table(objective, rollout)
    check_source(policy, rollout, rounds=cfg["rounds"])
    if cfg["callbacks"]["win_rate"] is not None:
        check_held_out(policy, rollout, parts.sampler)
    check_objective(objective, rollout)
    data = RoundDataModule(
        RoundStore(run / "rounds"),
        ROW_KINDS[rollout.table],
        batch_size=cfg["batch_size"],
        accumulate=cfg["accumulate"],
        pad_id=policy.pad_id,
        seed=cfg["seed"],
    )
    log = CSVLog(run / "metrics.csv")
    callbacks = _callbacks(cfg, run, rollout, objective, parts, log)
    trainer = make_trainer(
        cfg["trainer"],
        max_epochs=cfg["rounds"] * cfg["stop_after_epochs"],
        accumulate_grad_batches=cfg["accumulate"],
        default_root_dir=run,
        callbacks=callbacks,
        logger=log,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,  # batches know their rank
        enable_checkpointing=False,  # RoundCheckpoint
        plugins=[AtomicCheckpoints()],
        enable_model_summary=False,
        enable_progress_bar=progress_bar,
    )
    ahead = list(duties(rollout, callbacks, rounds=cfg["rounds"]))
    check_annotators(policy, ahead)  # last: nobody is asked about what cannot run
    return Experiment(trainer, objective, data, log)


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


def _callbacks(
    cfg: dict[str, Any], run: Path, rollout: Rollout, objective: Objective[Any], parts: Parts, log: CSVLog
) -> list[L.Callback]:
    """In the order in which they act: log a step, save, measure, sum up, stop, make the next round, export."""
    nodes = dict(cfg["callbacks"])
    check_callbacks(nodes)
    epochs: dict[str, Any] = {"epochs_per_round": cfg["stop_after_epochs"]}
    checkpoint: RoundCheckpoint = make(nodes.pop("checkpoint"))(run / "checkpoints", **epochs)
    callbacks: list[L.Callback] = [make(nodes.pop("round_optimizer"))(**epochs), StepLog(), checkpoint]
    win_rate, payoff, export = (nodes.pop(name) for name in ("win_rate", "payoff_matrix", "export"))
    exploitability, arena, rules = nodes.pop("exploitability"), nodes.pop("arena"), read_rules(nodes.pop("stop_rules"))
    if isinstance(rollout, PreferenceRollout | RecordedPairs | RecordedRounds):
        callbacks.append(ReferenceCheck(every_round=rollout.policy_is_reference, **epochs))
    elif rollout.table == "turns":
        callbacks.append(ReferenceCheck(every_round=True, **epochs))
    if isinstance(objective, SPAG):
        callbacks.append(StartingAdvantages(**epochs))
    if win_rate is not None:
        given = {"seed": cfg["seed"], "policy_path": checkpoint.policy_path, **epochs}
        callbacks.append(parts.make(win_rate, directory=run / "evaluation", **given))
    if arena is not None:
        given = {"seed": cfg["seed"], "policy_path": checkpoint.policy_path, **epochs}
        callbacks.append(parts.make(arena, directory=run / "evaluation", **given))
    if exploitability is not None:
        callbacks.append(parts.make(exploitability, directory=run / "evaluation", **epochs))
    callbacks += [Summary(run), StopRules(rules, log=log, **epochs)]
    callbacks.append(Regenerate(rollout, seed=cfg["seed"], policy_path=checkpoint.policy_path, **epochs))
    if win_rate is not None and payoff is not None:
        callbacks.append(parts.make(payoff, directory=run / "evaluation", seed=cfg["seed"], **epochs))
    if export is not None:
        callbacks.append(make(export)(run, policy_path=checkpoint.policy_path, **epochs))
    return callbacks + [make(node) for node in nodes.values() if node is not None]


def check_sampler(sampler: Any) -> None:
    """What is trained on was drawn from a distribution, and not chosen."""
    if not isinstance(sampler, Sampler):
        raise ConfigError(
            f"sampler is a {type(sampler).__name__}, which chooses what it answers, and a run draws; use another one, "
            "or arm=best_of to measure what choosing achieves without training."
        )


def check_callbacks(nodes: dict[str, Any]) -> None:
    """What cannot be switched off, and what callbacks need of each other."""
    for name in ("checkpoint", "round_optimizer"):
        if nodes[name] is None:
            raise ConfigError(f"callbacks.{name} is null, but no run goes without it; leave it on.")
    check_switches(nodes)
    export, unmeasured = nodes["export"], nodes["win_rate"] is None or nodes["payoff_matrix"] is None
    if export is not None and export["mixture"] == "nash" and unmeasured:
        raise ConfigError(
            "callbacks.export.mixture=nash takes its weights from the payoff matrix, which is off; leave "
            "callbacks.win_rate on and add callbacks/payoff_matrix=default, or set callbacks.export.mixture=uniform."
        )


def check_switches(nodes: dict[str, Any]) -> None:
    """A callback is on as a whole, or off."""
    for name, node in nodes.items():
        if name != "stop_rules" and node is not None and "_target_" not in node:
            raise ConfigError(
                f"callbacks.{name} is off, but some of its keys are given; add callbacks/{name}=default, or drop them."
            )


def check_game(cfg: dict[str, Any]) -> None:
    """A rollout of games has one to play."""
    if "game" in cfg["rollout"] and cfg["rollout"]["game"] is None:
        raise ConfigError("rollout.game is null, but this rollout plays games; choose one with game=taboo.")


def check_table(objective: Objective[Any], rollout: Rollout) -> None:
    """Preferences and games are trained on by different objectives."""
    if objective.table == rollout.table:
        return
    name = type(objective).__name__
    if objective.table == "turns":
        raise ConfigError(
            f"objective {name} learns from turns of games, but this rollout makes pairs; use rollout=taboo game=taboo, "
            "or an objective of pairs, such as dno."
        )
    raise ConfigError(
        f"objective {name} learns from pairs, but this rollout plays games; use objective=spag or imitation, or "
        "rollout=preference."
    )


def check_objective(objective: Objective[Any], rollout: Rollout) -> None:
    """What the objective needs of the data, and its optimiser, which Lightning would build after the first round."""
    if isinstance(objective, PairObjective):
        _check_pairs(objective, rollout)
    elif isinstance(objective, TurnObjective):
        _check_turns(objective, rollout)
    try:
        objective.configure_optimizers()
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"objective.optimizer cannot be built: {str(error).rstrip('.')}.") from error


def _check_turns(objective: TurnObjective, rollout: Rollout) -> None:
    if getattr(rollout, "supervised", None) is not None and not objective.takes_supervised:
        raise ConfigError(
            f"objective {type(objective).__name__} imitates winners of games alone, but rollout.supervised gives other "
            "answers; set rollout.supervised=null, or use objective=spag."
        )


def _check_pairs(objective: PairObjective, rollout: Rollout) -> None:
    name = type(objective).__name__
    pairing: Pairing | None = getattr(rollout, "pairing", None)
    paired = not isinstance(rollout, SupervisedRollout) if pairing is None else pairing.paired
    if objective.needs_rejected and not paired:
        raise ConfigError(
            f"objective {name} compares two responses, but "
            + (
                "this rollout makes single ones; use objective=sft, or rollout=preference."
                if pairing is None
                else "this pairing makes single ones; use pairing=best_vs_worst, or objective=sppo or kto."
            )
        )
    if paired and not objective.takes_rejected:
        raise ConfigError(
            f"objective {name} takes single responses, but this run makes pairs; "
            "use rollout=preference pairing=every_response."
        )
    if objective.needs_win_rates and pairing is None:
        raise ConfigError(
            f"objective {name} regresses on win rates against the round's policy, which this rollout does not give; "
            "use rollout=preference, or an objective of pairs alone, such as dno or sppo_hard."
        )
    if objective.needs_win_rates and getattr(rollout, "replay", 0):
        raise ConfigError(
            f"objective {name} regresses on win rates against the round's own policy, which replayed pairs lack; "
            "set rollout.replay=0."
        )


def check_source(policy: Policy, rollout: Rollout, *, rounds: int) -> None:
    """Every prompt of every round fits the policy's context beside its answers, and there is something to train on."""
    if isinstance(rollout, ChecksItself):
        rollout.check(policy, rounds=rounds)
        return
    source: PromptSource = rollout.prompts
    for index in range(rounds):
        if len(source.for_round(index)) == 0:
            raise DataError(f"round {index} has no prompts; give more prompts, or fewer rounds.")
    training = (source.for_round(index) for index in range(rounds))
    if isinstance(rollout, PreferenceRollout):
        check_pairing(rollout, source.for_round(0))
        if isinstance(rollout.sampler, MixtureSampler):
            rollout.sampler.check(policy)
        max_new_tokens = rollout.sampler.max_new_tokens
        for prompts in distinct(training, rollout.chunk_size):
            check_prompts(policy, prompts, max_new_tokens=max_new_tokens, teacher=rollout.teacher)
            if isinstance(rollout.sampler, PrincipledSampler):
                rollout.sampler.check_room(policy, prompts)
    elif isinstance(rollout, SupervisedRollout):
        for prompts in distinct(training, rollout.chunk_size):
            check_prompts(policy, prompts, max_new_tokens=0, teacher=True)


def check_pairing(rollout: PreferenceRollout, prompts: Sequence[Prompt]) -> None:
    """What the pairing needs of the annotator and of the first round's prompts."""
    mode, name = rollout.pairing.win_rate_mode, type(rollout.annotator).__name__
    if mode != "pairwise_sym" and not getattr(rollout.annotator, "gives_logits", False):
        raise ConfigError(
            f"pairing.win_rate_mode={mode} reads a pair ranker's logits, which annotator {name} does not give; "
            "use pairing.win_rate_mode=pairwise_sym, or an annotator that gives logits."
        )
    if not rollout.pairing.needs_teacher:
        return
    if not rollout.teacher:
        raise ConfigError("this pairing needs teachers' answers, but rollout.teacher is false; set it to true.")
    if all(prompt.teacher is None for prompt in prompts):
        raise DataError(
            "this pairing needs teachers' answers, but no prompt of round 0 has one; give prompts with a teacher, "
            "or choose another pairing."
        )


def check_held_out(policy: Policy, rollout: Rollout, sampler: Sampler) -> None:
    """There are prompts to measure on, and they fit the policy's context beside their answers."""
    if rollout.table == "turns":
        raise ConfigError(
            "callbacks.win_rate compares answers to prompts, but this run plays games; set callbacks.win_rate=null, "
            "and callbacks/arena=default to measure by games."
        )
    held_out = rollout.prompts.validation
    if not len(held_out):
        raise ConfigError(
            "there are no held-out prompts to measure win rates on; raise prompts.validation, "
            "or set callbacks.win_rate=null."
        )
    for positions in chunk_ranges(len(held_out), 1024):
        prompts = [held_out[i] for i in positions]
        check_prompts(policy, prompts, max_new_tokens=sampler.max_new_tokens, teacher=False)


def distinct(tables: Iterable[Sequence[Prompt]], chunk_size: int) -> Iterator[list[Prompt]]:
    """The prompts of all tables, each once, at most `chunk_size` at a time: only their ids stay in memory."""
    seen: set[str] = set()
    for table in tables:
        for positions in chunk_ranges(len(table), chunk_size):
            new = {prompt.id: prompt for prompt in (table[i] for i in positions) if prompt.id not in seen}
            seen.update(new)
            yield list(new.values())
