"""A run that trains nothing, from its configuration: what decoding alone achieves, measured as a trained policy is.

Of a configuration it reads what measuring takes, so that settings and studies of trained runs can hold it too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.strategies import SingleDeviceStrategy

from sparring.callbacks.csv_log import CSVLog
from sparring.callbacks.keep_answers import KeepAnswers
from sparring.callbacks.summary import Summary
from sparring.callbacks.win_rate import WinRate
from sparring.cli.build import Experiment, check_switches, make_trainer
from sparring.cli.check import check_targets
from sparring.cli.duties import check_annotators, decoding_duties
from sparring.cli.expenses import check_budget
from sparring.cli.make import make
from sparring.cli.parts import Parts
from sparring.cli.run_directory import identity
from sparring.core.errors import ConfigError
from sparring.core.protocols import PromptSource
from sparring.core.seeding import derive_seed
from sparring.core.types import Prompt
from sparring.data.prompt_chunks import PromptChunks
from sparring.objectives.decoding import Decoding
from sparring.policy.mixture import MixtureSampler
from sparring.policy.policy import Policy
from sparring.policy.principled import PrincipledSampler
from sparring.policy.sampler import Sampler
from sparring.rollout.best_of import drawing
from sparring.rollout.chunks import chunk_ranges

# What only training needs: nobody asked for the first, whose values every configuration has.
_OF_TRAINING = ("checkpoint", "round_optimizer", "stop_rules")
_REFUSED = {
    "export": "there are no new weights to export",
    "payoff_matrix": "there are no rounds whose policies could meet",
    "exploitability": "there are no rounds to be measured",
    "arena": "there are no rounds whose policies could play",
}


@dataclass(frozen=True)
class DecodingExperiment(Experiment):
    """`measured` says whether there is something to be told of the answers, or only answers are wanted."""

    measured: bool

    def start(self, checkpoint: Path | None) -> None:
        """What earlier processes have answered is on disk; there are no checkpoints."""
        if self.measured:
            self.trainer.test(self.objective, datamodule=self.data, verbose=False)
        else:
            self.trainer.predict(self.objective, datamodule=self.data, return_predictions=False)


def build_decoding(cfg: dict[str, Any], run: Path, *, progress_bar: bool) -> DecodingExperiment:
    """Everything the run needs, checked against each other before any work, as `build` does for one that trains."""
    check_targets(cfg)
    check_nothing_trained(cfg)
    check_budget(cfg)
    L.seed_everything(cfg["seed"], verbose=False)
    parts = Parts(cfg, payer=partial(identity, run))
    plain = check_plain(parts.sampler)
    policy: Policy = make(cfg["model"])
    objective: Decoding = parts.make(cfg["objective"], policy=policy, seed=derive_seed(cfg["seed"], "evaluate", 1))
    win_rate = _win_rate(cfg, run, parts)
    source: PromptSource = parts.make(cfg["prompts"]) if win_rate is None else win_rate.prompts
    prompts = source.validation
    chunks = chunk_ranges(len(prompts), objective.chunk_size)
    check_principle(objective.sampler, prompts)
    check_decoding(policy, [plain, drawing(objective.sampler)], prompts)
    answers = KeepAnswers(run, prompts=prompts, chunks=chunks, repeat_ngram=plain.repeat_ngram)
    log = CSVLog(run / "metrics.csv")
    measuring = [] if win_rate is None else [win_rate]
    known = {*_OF_TRAINING, *_REFUSED, "win_rate"}
    further = [make(node) for name, node in cfg["callbacks"].items() if name not in known and node is not None]
    trainer = make_trainer(
        cfg["trainer"],
        max_epochs=1,
        default_root_dir=run,
        callbacks=[Summary(run), answers, *measuring, *further],
        logger=log,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress_bar,
        inference_mode=False,  # annotators may keep what they compute, and use it outside
    )
    check_alone(trainer)
    check_annotators(policy, list(decoding_duties(objective, win_rate, prompts)))
    data = PromptChunks(prompts, chunks, answered=answers.answered)
    return DecodingExperiment(trainer, objective, data, log, measured=win_rate is not None)


def _win_rate(cfg: Mapping[str, Any], run: Path, parts: Parts) -> WinRate | None:
    node = cfg["callbacks"]["win_rate"]
    if node is None:
        return None
    return parts.make(node, directory=run / "evaluation", seed=cfg["seed"], policy_path=None, epochs_per_round=1)


def check_nothing_trained(cfg: Mapping[str, Any]) -> None:
    """What was asked for can be had without training."""
    if cfg["rounds"] != 1:
        raise ConfigError(
            f"rounds is {cfg['rounds']}, but this objective trains nothing, so that all rounds would be the same; set "
            "rounds=1, as arm=linear_alignment does."
        )
    if cfg["game"] is not None:
        raise ConfigError("this objective answers prompts and plays no games; set game=null.")
    check_switches(cfg["callbacks"])
    for name, why in _REFUSED.items():
        if cfg["callbacks"][name] is not None:
            raise ConfigError(
                f"callbacks.{name} is on, but this objective trains nothing, so {why}; set callbacks.{name}=null, as "
                "arm=linear_alignment does."
            )


def check_plain(sampler: Any) -> Sampler:
    """The run's own sampler says how the policy decodes that is measured against."""
    if type(sampler) is not Sampler:
        raise ConfigError(
            f"sampler is a {type(sampler).__name__}, but it says how the policy decodes that objective.sampler is "
            "measured against; use sampler=default, and sampler@objective.sampler=NAME for what is measured."
        )
    return sampler


def check_alone(trainer: L.Trainer) -> None:
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        raise ConfigError(
            f"this objective trains nothing and answers in one process, not under {type(trainer.strategy).__name__}; "
            "use trainer=cpu or trainer=gpu."
        )


def check_principle(sampler: Any, prompts: Sequence[Prompt]) -> None:
    """There are prompts, and a principle for them where the sampler tells one. That each has one is seen later."""
    if not len(prompts):
        raise ConfigError("there are no held-out prompts to answer; raise prompts.validation.")
    drawn = drawing(sampler)
    if isinstance(drawn, PrincipledSampler) and drawn.principle is None and "principle" not in prompts[0].meta:
        key = "objective.sampler.sampler.principle" if drawn is not sampler else "objective.sampler.principle"
        raise ConfigError(
            f"{key} is null and the prompts have none of their own; set it to a sentence on how to answer, or give "
            "prompts with a column 'principle', as prompts=principled_stories."
        )


def check_decoding(policy: Policy, samplers: Sequence[Sampler], prompts: Sequence[Prompt]) -> None:
    """Held-out prompts fit the policy's context beside principles and answers."""
    for sampler in samplers:
        if isinstance(sampler, MixtureSampler):
            sampler.check(policy)
        for positions in chunk_ranges(len(prompts), 1024):
            sampler.check_room(policy, [prompts[place] for place in positions])
