"""A run with finished rounds, made without training: what commands and rollouts read that begin where others ended."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from candidate_sets import CONF
from sparring.core.types import Candidates, Judgement, Prompt
from sparring.data.rounds import RoundStore
from sparring.pairing.dno_margin import ScoredPairs
from sparring.pairing.filters import DefectMayOnlyLose, Duplicate, MinMargin
from sparring.pairing.funnel import Pairing
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler
from sparring.policy.scoring import score_groups
from sparring.rollout.context import RoundContext
from sparring.rollout.preference import PreferenceRollout
from sparring.rollout.recorded_pairs import RecordedPairs
from sparring.rollout.recorded_rounds import RecordedRounds

PROMPTS = 8
PAIRING = Pairing(
    ScoredPairs(scale="win_rate"),
    {"defect": DefectMayOnlyLose(), "duplicate": Duplicate(), "min_margin": MinMargin(0.05)},
)


class Prompts:
    """The same prompts every round; every other one has a teacher, unless none has."""

    def __init__(self, ask: Callable[..., Prompt], *, teachers: bool = True) -> None:
        self.all = [
            ask(
                f"the word {number}",
                name=str(number),
                teacher="the girl said hello" if teachers and number % 2 else None,
            )
            for number in range(PROMPTS)
        ]

    @property
    def validation(self) -> Sequence[Prompt]:
        return []

    def for_round(self, index: int) -> Sequence[Prompt]:
        return self.all


class LettersRanker:
    """Answers by how many different letters a text has, with a liking for what is shown first."""

    gives_logits = True

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return [self.judge(candidates) for candidates in batch]

    def judge(self, candidates: Candidates) -> Judgement:
        scores = np.array([float(len(set(response.text))) for response in candidates.responses])
        gaps = (scores[:, None] - scores[None, :]) / 4.0
        logits = gaps + 0.5 * (1.0 - np.eye(len(scores)))
        return Judgement(0.5 * (1 + np.tanh(gaps / 2)), tuple(scores.tolist()), calls=2, logits=logits)


def make_run(run: Path, policy: Policy, prompts: Prompts, *, rounds: int = 2, replay: float = 0.3) -> RoundStore:
    """Rounds of `policy`, which changes a little after each, and the configuration of a run with pairing=dno_margin."""
    rollout = PreferenceRollout(
        prompts=prompts,
        sampler=Sampler(3, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=6, token_budget=300),
        annotator=LettersRanker(),
        pairing=PAIRING,
        chunk_size=4,
        reference="previous",
        replay=replay,
        teacher=True,
    )
    store = RoundStore(run / "rounds")
    for index in range(rounds):
        make_round(rollout, policy, store, index)
        change(policy)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        OmegaConf.save(compose("train", ["run_name=earlier", "seed=3"]), run / "config.yaml", resolve=True)
    return store


def make_round(
    rollout: PreferenceRollout | RecordedPairs | RecordedRounds, policy: Policy, store: RoundStore, index: int
) -> list[dict[str, Any]]:
    """Round `index`, and the rows of its pairs."""
    context = RoundContext(store, index, seed=1)
    rollout.collect(policy, context)
    rollout.assemble(context)
    return rows(store, index, "pairs")


def make_by_two(rollout: RecordedPairs | RecordedRounds, policy: Policy, store: RoundStore, index: int) -> None:
    contexts = [RoundContext(store, index, seed=1, rank=rank, world_size=2) for rank in (1, 0)]
    for context in contexts:
        rollout.collect(policy, context)
    rollout.assemble(contexts[1])


def rows(store: RoundStore, index: int, table: str) -> list[dict[str, Any]]:
    return pq.read_table(store.table(index, table)).to_pylist()


def change(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)


def logp(policy: Policy, row: dict[str, Any], side: str) -> float:
    [[value]] = score_groups(policy, [row["prompt_ids"]], [[row[f"{side}_ids"]]], token_budget=1000)
    return value
