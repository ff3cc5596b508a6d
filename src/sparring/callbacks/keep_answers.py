"""What a way of decoding answers to the held-out prompts, kept chunk by chunk, and summed up as the round of its run.

Nothing is trained in such a run, so its one round is those answers: what it took to draw them stands where other runs
have what their training pairs took, and where a policy after one round has its samples, `WinRate` finds them.
"""

import importlib.metadata
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sparring.callbacks.hooks import using_policy
from sparring.core.answers import Expense
from sparring.core.files import write_json
from sparring.core.types import Candidates, Judgement, Prompt
from sparring.data.prompt_chunks import PromptChunk
from sparring.data.rounds import Chunks, RoundStore, write_parquet
from sparring.data.schema import CANDIDATES, candidate_rows, to_candidates
from sparring.objectives.decoding import Drawn
from sparring.pairing.funnel import Funnel
from sparring.rollout.chunks import check_sampled, merged, prompts_hash
from sparring.rollout.statistics import SampleStatistics


class KeepAnswers(L.Callback):
    """Writes `evaluation/policy-001.parquet`, and `manifest.json` and `training.json` of round 0.

    `tokens_sampled` are those that were computed: of best-of-n all draws, of a steered policy both contexts. A killed
    run loses one chunk at most.
    """

    def __init__(self, run: Path, *, prompts: Sequence[Prompt], chunks: Sequence[range], repeat_ngram: int) -> None:
        self.directory, self.store = run / "evaluation", RoundStore(run / "rounds")
        self.prompts, self.ranges, self.repeat_ngram = prompts, chunks, repeat_ngram
        self._policy = ""

    @property
    def answers(self) -> Path:
        return self.directory / "policy-001.parquet"

    @property
    def chunks(self) -> Chunks:
        return Chunks(self.directory / "policy-001-chunks")

    def answered(self, chunk: int) -> bool:
        """Whether it need not be drawn, for this process or an earlier one has."""
        return self.answers.exists() or self.chunks.has("candidates", chunk)

    # ---------------------------------------------------------------- Lightning's two ways to run

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._check(trainer, pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._check(trainer, pl_module)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PromptChunk,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._keep(batch, outputs["drawn"])

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PromptChunk,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._keep(batch, outputs)
        if trainer.received_sigterm:  # which Lightning looks at where it trains and tests
            raise SIGTERMException

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._conclude(trainer)

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._conclude(trainer)

    # ---------------------------------------------------------------- what they do

    def _check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What an earlier process has drawn came from this policy."""
        with using_policy(trainer, pl_module) as policy:
            self._policy = policy.fingerprint()
        for number, positions in enumerate(self.ranges):
            if self.chunks.has("candidates", number):
                check_sampled(self.chunks, number, self._policy, [self.prompts[place] for place in positions])

    def _keep(self, batch: PromptChunk, drawn: Drawn) -> None:
        if not batch.prompts:
            return
        facts = {
            "policy": self._policy,
            "prompts": prompts_hash(batch.prompts),
            "seed": drawn.seed,
            "seconds": drawn.seconds,
            "tokens": drawn.tokens,
            "expense": asdict(drawn.expense),
        }
        rows = [row for candidates in drawn.candidates for row in candidate_rows(candidates)]
        self.chunks.write("candidates", batch.number, CANDIDATES, rows, facts)

    def _conclude(self, trainer: L.Trainer) -> None:
        if not self.answers.exists():
            self._sum_up()
            write_parquet(self.answers, CANDIDATES, merged(self.chunks, "candidates"))
        shutil.rmtree(self.chunks.directory, ignore_errors=True)
        manifest = self.store.manifest(0)
        metrics = manifest["metrics"] | {f"time/{stage}": value for stage, value in manifest["seconds"].items()}
        metrics |= {"completions/num_tokens": manifest["tokens_sampled"], "annotator/calls": manifest["judge_calls"]}
        metrics |= {f"annotator/{name}": value for name, value in manifest["expense"].items()}
        for logger in trainer.loggers:
            logger.log_metrics({**metrics, "round": 0}, step=trainer.global_step)

    def _sum_up(self) -> None:
        facts = [self.chunks.facts("candidates", number) for number in range(len(self.ranges))]
        seconds, tokens = (sum(each[name] for each in facts) for name in ("seconds", "tokens"))
        expense = sum((Expense(**each["expense"]) for each in facts), Expense())
        statistics = statistics_of(to_candidates(merged(self.chunks, "candidates")), self.repeat_ngram)
        responses = statistics.funnel.candidates
        price = {"eval/tokens_per_response": tokens / responses, "time/per_response": seconds / responses}
        # The rest of the expense of measuring is WinRate's.
        write_json(self.directory / "policy-001.json", {"seconds": 0.0})
        record = {
            "policy": facts[0]["policy"],
            "engine": {name: importlib.metadata.version(name) for name in ("transformers", "torch")},
            "funnel": statistics.funnel.to_dict(),
            "tokens_sampled": tokens,
            "judge_calls": expense.calls,
            "expense": asdict(expense),
            "metrics": statistics.metrics() | price,
            "seconds": {"sample": seconds},
        }
        self.store.finish(0, (), record)
        write_json(self.store.directory(0) / "training.json", {"seconds": 0.0, "steps": 0})


def statistics_of(candidates: Iterable[Candidates], repeat_ngram: int) -> SampleStatistics:
    """Of samples that nobody has judged: their lengths, ends, repetitions and defects."""
    statistics = SampleStatistics(repeat_ngram=repeat_ngram)
    for one in candidates:
        count = len(one.responses)
        defects = dict(Counter(response.defect for response in one.responses if response.defect is not None))
        funnel = Funnel(prompts=1, candidates=count, defects=defects)
        statistics.add(one, Judgement(np.full((count, count), 0.5)), [], funnel)
    return statistics
