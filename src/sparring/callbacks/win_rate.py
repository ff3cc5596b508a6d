"""After each round: held-out prompts, answered by the policy and judged against the base policy and the previous round.

A second annotator, which nothing is trained on, shows over-optimisation: the first one's win rate rises and its own
does not.
Samples and judgements are stored like a round's, chunk by chunk, so nothing is sampled or judged twice after a kill.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from sparring.analysis.win_rate import measure_win_rate, won
from sparring.callbacks.hooks import finished_epochs, using_policy
from sparring.core.files import read_json, write_json
from sparring.core.protocols import Annotator, PromptSource
from sparring.core.seeding import derive_seed
from sparring.core.types import Candidates
from sparring.data.rounds import Chunks, read_rows, write_parquet
from sparring.data.schema import CANDIDATES, OUTCOMES, to_candidates
from sparring.policy.sampler import Sampler
from sparring.rollout.chunks import chunk_ranges, lend, merged, progress, sample_chunk, total_seconds
from sparring.rollout.contest import hold_contest
from sparring.rollout.reference import score_candidates


class WinRate(L.Callback):
    """Measures every round on `prompts.validation`, which is never trained on.

    Writes `evaluation/round-NNN.json`, and prompt by prompt `round-NNN.parquet`. `sampler` is the rollout's, so that
    what is measured is what is trained; only the number of samples differs, and a principle is not told, for it is the
    policy that is measured. KL divergences, in nats per response, are means of log-ratios over these samples: unbiased
    at temperature 1 without top-p and top-k.

    Where nothing is trained (`objectives/decoding.py`) the answers that `KeepAnswers` has kept stand for those of a
    policy after one round. They have no divergence, for nobody knows their log-probabilities. `policy_path` and
    `epochs_per_round` are then not looked at.
    """

    def __init__(
        self,
        directory: Path,
        *,
        prompts: PromptSource,
        sampler: Sampler,
        annotator: Annotator,
        second_annotator: Annotator | None = None,
        policy_path: Callable[[int], Path] | None,
        chunk_size: int,
        samples_per_prompt: int,
        epochs_per_round: int,
        seed: int,
    ) -> None:
        self.directory = directory
        self.prompts = prompts
        self.annotators = {"first": annotator} | ({} if second_annotator is None else {"second": second_annotator})
        self.policy_path = policy_path
        self.sampler = replace(sampler.single, num_generations=samples_per_prompt)
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

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._sampled(trainer, 0):
            self._sample(trainer, pl_module, 0)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._report_on(trainer, pl_module, 1)

    def _ensure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rounds, within = divmod(finished_epochs(trainer), self.epochs_per_round)
        if rounds == 0 or within or rounds == self._logged:
            return
        if not self._sampled(trainer, rounds):
            self._sample(trainer, pl_module, rounds)
        self._report_on(trainer, pl_module, rounds)

    def _report_on(self, trainer: L.Trainer, pl_module: L.LightningModule, rounds: int) -> None:
        if trainer.is_global_zero and not self._report(rounds).exists():
            with using_policy(trainer, pl_module) as policy:
                for annotator in self.annotators.values():
                    lend(policy, annotator)
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
            mine = [
                (number, [prompts[i] for i in positions])
                for number, positions in enumerate(chunk_ranges(len(prompts), self.chunk_size))
                if number % trainer.world_size == trainer.global_rank
            ]
            for number, asked in mine:
                sample_chunk(
                    policy,
                    self.sampler,
                    asked,
                    chunks,
                    number,
                    seed=derive_seed(self.seed, "evaluate", rounds),
                    fingerprint=fingerprint,
                    teacher=False,
                    bar=bar,
                )
            for opponent in _opponents(rounds).values():
                table = f"logp-{opponent:03d}"
                assert self.policy_path is not None  # what has opponents was trained
                with policy.using_state(self.policy_path(opponent)):
                    for number, _ in mine:
                        if not chunks.has(table, number):
                            budget = self.sampler.scoring_budget
                            score_candidates(policy, chunks, number, table=table, token_budget=budget)
        trainer.strategy.barrier("held-out prompts sampled")
        if trainer.is_global_zero:
            tables = ["candidates", *(f"logp-{opponent:03d}" for opponent in _opponents(rounds).values())]
            seconds = sum(sum(total_seconds(chunks, table).values()) for table in tables)
            divergence = {f"kl_vs_{name}": self._divergence(rounds, each) for name, each in _opponents(rounds).items()}
            write_json(self._facts(rounds), {"seconds": seconds, **divergence})
            write_parquet(self._samples(rounds), CANDIDATES, merged(chunks, "candidates"))
            shutil.rmtree(chunks.directory, ignore_errors=True)
        trainer.strategy.barrier("held-out samples merged")

    def _divergence(self, rounds: int, opponent: int) -> float:
        chunks = self._chunks(rounds)
        own = [row["logp"] for row in merged(chunks, "candidates")]
        others = [value for row in merged(chunks, f"logp-{opponent:03d}") for value in row["ref_logp"]]  # pyright: ignore
        return float(np.mean(np.array(own) - np.array(others)))

    def _facts(self, rounds: int) -> Path:
        return self.directory / f"policy-{rounds:03d}.json"

    def _measure(self, rounds: int, global_step: int) -> None:
        sampled = [rounds, 0] if rounds == 1 else [rounds]  # the base policy's samples are round 0's expense
        seconds = sum(read_json(self._facts(policy))["seconds"] for policy in sampled)
        lengths = [len(response.ids) for candidates in self._read(rounds) for response in candidates.responses]
        metrics = {"eval/mean_length": float(np.mean(lengths))}
        facts = read_json(self._facts(rounds))
        metrics |= {f"eval/{name}": value for name, value in facts.items() if name.startswith("kl_vs_")}
        result: dict[str, Any] = {"round": rounds - 1, "global_step": global_step}
        rows: list[dict[str, Any]] = []
        for which, annotator in self.annotators.items():
            ending, prefix = ("", "eval") if which == "first" else ("-second", "eval/second")
            for name, opponent in _opponents(rounds).items():
                chunks = Chunks(self.directory / f"policy-{rounds:03d}-against-{opponent:03d}{ending}")
                contest = hold_contest(
                    annotator, self._read(rounds), self._read(opponent), chunks, chunk_size=self.chunk_size
                )
                seconds += sum(total_seconds(chunks, "judgements").values())
                rate = measure_win_rate(contest.wins, seed=derive_seed(self.seed, "bootstrap", rounds))
                aspects = {aspect: float(np.mean(values)) for aspect, values in contest.aspects.items()}
                notes = {note: float(np.mean(values)) for note, values in contest.notes.items()}
                result.setdefault(which, {})[name] = asdict(rate) | {
                    "aspects": aspects,
                    "notes": notes,
                    "judge_calls": contest.expense.calls,
                    "expense": asdict(contest.expense),
                }
                metrics[f"{prefix}/win_rate_vs_{name}"] = rate.win_rate
                metrics[f"{prefix}/avg_win_prob_vs_{name}"] = rate.mean_probability
                metrics |= {f"{prefix}/{what}_vs_{name}": value for what, value in (aspects | notes).items()}
                rows += [
                    {"prompt_id": prompt, "annotator": which, "against": name}
                    | {"win": float(won(block).mean()), "probability": float(block.mean())}
                    for prompt, block in zip(contest.prompts, contest.wins, strict=True)
                ]
        if rounds == 1:  # the previous policy is the base
            against_base = [name for name in metrics if name.endswith("_vs_base")]
            metrics |= {f"{name.removesuffix('_base')}_previous": metrics[name] for name in against_base}
        write_parquet(self._report(rounds).with_suffix(".parquet"), OUTCOMES, rows)
        result |= {"mean_length": metrics["eval/mean_length"], "metrics": metrics, "seconds": seconds}
        write_json(self._report(rounds), result)

    def _read(self, rounds: int) -> Iterator[Candidates]:
        return to_candidates(read_rows(self._samples(rounds)))


def _opponents(rounds: int) -> dict[str, int]:
    """Whom the policy after `rounds` rounds is measured against; after the first, the previous one is the base."""
    if rounds == 0:
        return {}
    return {"base": 0} | ({"previous": rounds - 1} if rounds > 1 else {})
