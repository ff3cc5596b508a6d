"""After each round: held-out prompts, answered by the policy and judged against the base policy and the previous round.

Samples and judgements are stored like a round's, chunk by chunk, so nothing is sampled or judged twice after a kill.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from sparring.analysis.win_rate import measure_win_rate
from sparring.callbacks.hooks import finished_epochs, using_policy
from sparring.core.files import read_json, write_json
from sparring.core.protocols import Annotator, PromptSource
from sparring.core.seeding import derive_seed
from sparring.core.types import Candidates
from sparring.data.rounds import Chunks, read_rows, write_parquet
from sparring.data.schema import CANDIDATES, to_candidates
from sparring.policy.sampler import Sampler
from sparring.rollout.chunks import chunk_ranges, merged, progress, sample_chunk, total_seconds
from sparring.rollout.contest import hold_contest


class WinRate(L.Callback):
    """Measures every round on `prompts.validation`, which is never trained on, and writes `evaluation/round-NNN.json`.

    `sampler` is the rollout's, so that what is measured is what is trained; only the number of samples differs.
    """

    def __init__(
        self,
        directory: Path,
        *,
        prompts: PromptSource,
        sampler: Sampler,
        annotator: Annotator,
        chunk_size: int,
        samples_per_prompt: int,
        epochs_per_round: int,
        seed: int,
    ) -> None:
        self.directory = directory
        self.prompts, self.annotator = prompts, annotator
        self.sampler = replace(sampler, num_generations=samples_per_prompt)
        self.chunk_size, self.epochs_per_round, self.seed = chunk_size, epochs_per_round, seed
        self._logged = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.ckpt_path is None and not self._sampled(trainer, 0):
            self._sample(trainer, pl_module, 0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._ensure(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._ensure(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._ensure(trainer, pl_module)  # a run that was killed after its last step resumes without any epoch

    def _ensure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rounds, within = divmod(finished_epochs(trainer), self.epochs_per_round)
        if rounds == 0 or within or rounds == self._logged:
            return
        if not self._sampled(trainer, rounds):
            self._sample(trainer, pl_module, rounds)
        if trainer.is_global_zero and not self._report(rounds).exists():
            self._measure(rounds, trainer.global_step)
        trainer.strategy.barrier("win rate measured")  # outside the condition: a slow rank would see the report
        report = read_json(self._report(rounds))
        if report["global_step"] == trainer.global_step:  # else the resumed log already holds it
            for logger in trainer.loggers:
                metrics = report["metrics"] | {"time/evaluate": report["seconds"], "round": rounds - 1}
                logger.log_metrics(metrics, step=trainer.global_step)
        self._logged = rounds

    # `policy-000` is the base policy, `policy-00N` the policy after N rounds

    def _samples(self, rounds: int) -> Path:
        return self.directory / f"policy-{rounds:03d}.parquet"

    def _report(self, rounds: int) -> Path:
        return self.directory / f"round-{rounds - 1:03d}.json"

    def _sampled(self, trainer: L.Trainer, rounds: int) -> bool:
        there = self._samples(rounds).exists()
        if there and trainer.is_global_zero:  # a kill may have come between the table and the end of its chunks
            shutil.rmtree(self._chunks(rounds).directory, ignore_errors=True)
        return there

    def _chunks(self, rounds: int) -> Chunks:
        return Chunks(self.directory / f"policy-{rounds:03d}-chunks")

    def _sample(self, trainer: L.Trainer, pl_module: L.LightningModule, rounds: int) -> None:
        chunks = self._chunks(rounds)
        prompts = self.prompts.validation
        with (
            using_policy(trainer, pl_module) as policy,
            progress(f"held-out samples after {rounds} rounds", "tok", trainer.global_rank) as bar,
        ):
            fingerprint = policy.fingerprint()
            for number, positions in enumerate(chunk_ranges(len(prompts), self.chunk_size)):
                if number % trainer.world_size == trainer.global_rank:
                    sample_chunk(
                        policy,
                        self.sampler,
                        [prompts[i] for i in positions],
                        chunks,
                        number,
                        seed=derive_seed(self.seed, "evaluate", rounds),
                        fingerprint=fingerprint,
                        teacher=False,
                        bar=bar,
                    )
        trainer.strategy.barrier("held-out prompts sampled")
        if trainer.is_global_zero:
            write_json(self._seconds(rounds), {"seconds": sum(total_seconds(chunks, "candidates").values())})
            write_parquet(self._samples(rounds), CANDIDATES, merged(chunks, "candidates"))
            shutil.rmtree(chunks.directory, ignore_errors=True)
        trainer.strategy.barrier("held-out samples merged")

    def _seconds(self, rounds: int) -> Path:
        return self.directory / f"policy-{rounds:03d}.json"

    def _measure(self, rounds: int, global_step: int) -> None:
        sampled = [rounds, 0] if rounds == 1 else [rounds]  # the base policy's samples are round 0's expense
        seconds = sum(read_json(self._seconds(policy))["seconds"] for policy in sampled)
        lengths = [len(response.ids) for candidates in self._read(rounds) for response in candidates.responses]
        metrics = {"eval/mean_length": float(np.mean(lengths))}
        result: dict[str, Any] = {"round": rounds - 1, "global_step": global_step}
        for name, opponent in ({"base": 0} | ({"previous": rounds - 1} if rounds > 1 else {})).items():
            chunks = Chunks(self.directory / f"policy-{rounds:03d}-against-{opponent:03d}")
            contest = hold_contest(
                self.annotator, self._read(rounds), self._read(opponent), chunks, chunk_size=self.chunk_size
            )
            seconds += sum(total_seconds(chunks, "judgements").values())
            rate = measure_win_rate(contest.wins, seed=derive_seed(self.seed, "bootstrap", rounds))
            aspects = {aspect: float(np.mean(values)) for aspect, values in contest.aspects.items()}
            result[name] = asdict(rate) | {"aspects": aspects, "judge_calls": contest.judge_calls}
            metrics[f"eval/win_rate_vs_{name}"] = rate.win_rate
            metrics[f"eval/avg_win_prob_vs_{name}"] = rate.mean_probability
            metrics |= {f"eval/{aspect}_vs_{name}": value for aspect, value in aspects.items()}
        result |= {"mean_length": metrics["eval/mean_length"], "metrics": metrics, "seconds": seconds}
        write_json(self._report(rounds), result)

    def _read(self, rounds: int) -> Iterator[Candidates]:
        return to_candidates(read_rows(self._samples(rounds)))
