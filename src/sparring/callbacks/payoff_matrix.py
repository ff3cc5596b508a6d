"""At the end of a run: all its policies against each other on held-out prompts, and how far each is from Nash.

One joint judgement per prompt of everything that was sampled on it; whatever is asked of the game afterwards is index
arithmetic. Everything is read from artefacts, so a killed run judges nothing twice.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import lightning as L
import numpy as np
from jaxtyping import Float

from sparring.analysis.payoff import estimate_payoff, payoff_on_prompt, players_of
from sparring.analysis.payoff_picture import draw_payoff
from sparring.callbacks.hooks import finished_epochs, using_policy
from sparring.core.answers import Expense
from sparring.core.errors import RoundError
from sparring.core.files import write_json
from sparring.core.protocols import Annotator, PromptSource
from sparring.core.seeding import derive_seed
from sparring.core.types import Candidates, Prompt, Response
from sparring.data.rounds import Chunks, read_rows
from sparring.data.schema import to_candidates, to_judgement
from sparring.policy.policy import Policy
from sparring.rollout.chunks import annotate_chunk, lend, merged, total_cached, total_seconds


class PayoffMatrix(L.Callback):
    """Writes `payoff.json` and `payoff.png` from the samples that `WinRate` has stored in the same directory.

    Players are the policies after every number of rounds, the teacher where every prompt has one, and, given at least
    four samples per prompt, the best of half a policy's samples: an approximate best response.
    """

    def __init__(
        self,
        directory: Path,
        *,
        prompts: PromptSource,
        annotator: Annotator,
        chunk_size: int,
        epochs_per_round: int,
        seed: int,
    ) -> None:
        self.directory = directory
        self.prompts = prompts
        self.annotator = annotator
        self.chunk_size, self.epochs_per_round, self.seed = chunk_size, epochs_per_round, seed

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rounds = finished_epochs(trainer) // self.epochs_per_round
        if trainer.is_global_zero and not (self.directory / "payoff.json").exists():
            with using_policy(trainer, pl_module) as policy:
                lend(policy, self.annotator)
                self._measure(rounds, policy)
        trainer.strategy.barrier("payoff measured")

    def _measure(self, rounds: int, policy: Policy) -> None:
        chunks = Chunks(self.directory / "payoff-judgements")
        contestants = self._contestants(rounds, policy)
        for number in itertools.count():
            part = list(itertools.islice(contestants, self.chunk_size))
            if not part:
                break
            if not chunks.has("judgements", number):
                annotate_chunk(self.annotator, part, chunks, number)
        started = time.perf_counter()
        samples = self._samples_per_prompt()
        best_of = samples // 2 if samples >= 4 else 0
        judged = [to_judgement(row) for row in merged(chunks, "judgements")]
        teacher = self._has_teacher()
        blocks = [
            _payoffs(judgement.win, rounds + 1, samples, teacher=teacher, best_of=best_of > 0)
            for judgement in judged
            if judgement.status == "ok"
        ]
        if not blocks:
            raise RoundError(
                "the annotator gave no verdict on any held-out prompt with all policies' answers; "
                f"see the status column in {chunks.directory}, or set callbacks.payoff_matrix=null."
            )
        players = players_of(rounds, teacher=teacher, best_of=best_of)
        payoff = estimate_payoff(np.stack(blocks), players, seed=derive_seed(self.seed, "payoff"))
        draw_payoff(payoff, self.directory / "payoff.png")
        expense = sum((judgement.expense for judgement in judged), Expense())
        facts = {
            "samples_per_prompt": samples,
            "judge_calls": expense.calls,
            "expense": asdict(replace(expense, cached=total_cached(chunks))),
            "seconds": sum(total_seconds(chunks, "judgements").values()) + time.perf_counter() - started,
        }
        write_json(self.directory / "payoff.json", facts | payoff.to_dict())

    def _contestants(self, rounds: int, policy: Policy) -> Iterator[Candidates]:
        """Of each held-out prompt the samples of all policies, oldest first, and the teacher's answer."""
        teacher = self._has_teacher()
        tables = [to_candidates(read_rows(self._samples(number))) for number in range(rounds + 1)]
        for position, answers in enumerate(zip(*tables, strict=True)):
            prompt = self.prompts.validation[position]
            responses = [response for candidates in answers for response in candidates.responses]
            if teacher:
                responses.append(_teachers(prompt, policy))
            yield Candidates(prompt, answers[0].prompt_ids, tuple(responses))

    def _has_teacher(self) -> bool:
        held_out = self.prompts.validation
        return all(held_out[position].teacher is not None for position in range(len(held_out)))

    def _samples(self, rounds: int) -> Path:
        return self.directory / f"policy-{rounds:03d}.parquet"

    def _samples_per_prompt(self) -> int:
        return len(next(to_candidates(read_rows(self._samples(0)))).responses)


def _payoffs(
    win: Float[np.ndarray, "k k"], policies: int, samples: int, *, teacher: bool, best_of: bool
) -> Float[np.ndarray, "players players"]:
    members = [range(start, start + samples) for start in range(0, policies * samples, samples)]
    return payoff_on_prompt(win, members, policies * samples if teacher else None, best_of=best_of)


def _teachers(prompt: Prompt, policy: Policy) -> Response:
    assert prompt.teacher is not None
    return Response(prompt.teacher, policy.encode_response(prompt.teacher), "teacher", "stop", float("nan"))
