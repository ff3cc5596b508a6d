"""Rounds made by a small random policy: what is stored, and under which policy it is scored."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from sparring.core.errors import ConfigError, RoundError
from sparring.core.preference import bradley_terry
from sparring.core.types import Candidates, Judgement, Prompt
from sparring.data.rounds import RoundStore
from sparring.data.schema import to_candidates, to_judgement
from sparring.pairing.dno_margin import ScoredPairs
from sparring.pairing.filters import DefectMayOnlyLose, Duplicate, MinMargin
from sparring.pairing.funnel import Pairing
from sparring.policy.sampler import Sampler
from sparring.policy.scoring import score_groups
from sparring.rollout.context import RoundContext
from sparring.rollout.preference import PreferenceRollout
from sparring.rollout.reference import rescore_pairs

torch.set_num_threads(1)

PROMPTS = 10


class Prompts:
    """The same prompts every round; every other one has a teacher."""

    def __init__(self, ask) -> None:
        self.all = [
            ask(f"the word {number}", name=str(number), teacher="the girl said hello" if number % 2 else None)
            for number in range(PROMPTS)
        ]

    @property
    def validation(self) -> Sequence[Prompt]:
        return []

    def for_round(self, index: int) -> Sequence[Prompt]:
        return self.all


class LettersJudge:
    """Prefers answers with more different letters, and counts the prompts it has judged."""

    def __init__(self) -> None:
        self.judged = Counter()

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        self.judged.update(candidates.prompt.id for candidates in batch)
        return [self.judge(candidates) for candidates in batch]

    def judge(self, candidates: Candidates) -> Judgement:
        scores = np.array([float(len(set(response.text))) for response in candidates.responses])
        return Judgement(bradley_terry(scores, 4.0), tuple(scores.tolist()), calls=2)


@pytest.fixture
def prompts(ask):
    return Prompts(ask)


@pytest.fixture
def rollout(prompts):
    rules = {"defect_may_only_lose": DefectMayOnlyLose(), "duplicate": Duplicate(), "min_margin": MinMargin(0.05)}
    return PreferenceRollout(
        prompts=prompts,
        sampler=Sampler(3, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=6, token_budget=300),
        annotator=LettersJudge(),
        pairing=Pairing(ScoredPairs(scale="win_rate"), rules),
        chunk_size=4,
        reference="previous",
        replay=0.3,
        teacher=True,
    )


@pytest.fixture
def store(tmp_path):
    return RoundStore(tmp_path / "rounds")


def make(rollout, policy, store, index, **where) -> list[dict]:
    """Round `index`, and the rows of its pairs."""
    context = RoundContext(store, index, seed=1, **where)
    rollout.collect(policy, context)
    rollout.assemble(context)
    return rows(store, index, "pairs")


def rows(store, index, table) -> list[dict]:
    return pq.read_table(store.table(index, table)).to_pylist()


def train(policy) -> None:
    """Some change of all weights."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)


def logp(policy, row, side) -> float:
    [[value]] = score_groups(policy, [row["prompt_ids"]], [[row[f"{side}_ids"]]], token_budget=1000)
    return value


def test_a_round_stores_every_candidate_with_its_judgement(rollout, chat_policy, store):
    make(rollout, chat_policy, store, 0)
    candidates = list(to_candidates(rows(store, 0, "candidates")))
    assert [one.prompt.id for one in candidates] == [str(number) for number in range(PROMPTS)]
    assert [len(one.responses) for one in candidates] == [3, 4] * 5
    for one, row in zip(candidates, rows(store, 0, "judgements"), strict=True):
        assert row["prompt_id"] == one.prompt.id
        assert (to_judgement(row).win == LettersJudge().judge(one).win).all()


def test_the_teacher_is_left_out_when_asked(rollout, chat_policy, store):
    pairs = make(replace(rollout, teacher=False), chat_policy, store, 0)
    assert {row["origin"] for row in rows(store, 0, "candidates")} == {"policy"}
    assert {row["kind"] for row in pairs} == {"student>student"}


def test_a_teachers_answer_is_its_tokens_and_one_end(rollout, chat_policy, store):
    make(rollout, chat_policy, store, 0)
    teachers = [row for row in rows(store, 0, "candidates") if row["origin"] == "teacher"]
    assert {tuple(row["ids"]) for row in teachers} == {chat_policy.encode_response("the girl said hello")}
    assert {(row["index"], row["finish"], row["defect"]) for row in teachers} == {(3, "stop", None)}


def test_win_rates_are_against_the_policys_own_samples(rollout, chat_policy, store):
    pairs = make(rollout, chat_policy, store, 0)
    wins = {row["prompt_id"]: np.array(row["win"]) for row in rows(store, 0, "judgements")}
    for row in pairs:
        for side in ("chosen", "rejected"):
            assert row[f"{side}_win_rate"] == pytest.approx(wins[row["prompt_id"]][row[f"{side}_index"], :3].mean())
        assert row["win"] == wins[row["prompt_id"]][row["chosen_index"], row["rejected_index"]]


def test_the_funnel_accounts_for_everything(rollout, chat_policy, store):
    make(rollout, chat_policy, store, 0)
    train(chat_policy)
    pairs = make(rollout, chat_policy, store, 1)
    manifest, candidates = store.manifest(1), rows(store, 1, "candidates")
    funnel = manifest["funnel"]
    assert funnel["prompts"] == PROMPTS
    assert funnel["candidates"] == len(candidates) == manifest["files"]["candidates.parquet"]["rows"]
    assert funnel["defects"] == Counter(row["defect"] for row in candidates if row["defect"] is not None)
    assert funnel["proposed"] == sum(funnel["dropped"].values()) + sum(funnel["kept"].values())
    own = [row for row in pairs if row["source_round"] == 1]
    assert funnel["kept"] == Counter(row["kind"] for row in own)
    assert funnel["replayed"] == len(pairs) - len(own) == manifest["files"]["pairs.parquet"]["rows"] - len(own)
    assert manifest["judge_calls"] == 2 * PROMPTS
    assert manifest["tokens_sampled"] == sum(len(row["ids"]) for row in candidates if row["origin"] == "policy")
    assert manifest["policy"] == chat_policy.fingerprint()


def test_replayed_pairs_are_of_the_earlier_round_but_scored_by_the_new_policy(rollout, chat_policy, store):
    first = make(rollout, chat_policy, store, 0)
    train(chat_policy)
    replayed = [row for row in make(rollout, chat_policy, store, 1) if row["source_round"] == 0]
    assert len(replayed) == int(0.3 * len(first))
    known = {(row["prompt_id"], row["chosen_index"], row["rejected_index"]): row for row in first}
    for row in replayed:
        old = known[row["prompt_id"], row["chosen_index"], row["rejected_index"]]
        for side in ("chosen", "rejected"):
            assert row[f"{side}_ref_logp"] == pytest.approx(logp(chat_policy, row, side), abs=1e-4)
            assert abs(row[f"{side}_ref_logp"] - old[f"{side}_ref_logp"]) > 1e-3
        scores = {"chosen_ref_logp", "rejected_ref_logp"}
        assert {name: row[name] for name in row if name not in scores} == {
            name: old[name] for name in old if name not in scores
        }


def test_older_rounds_are_replayed_half_as_much_and_never_twice_removed(rollout, chat_policy, store):
    made = [make(rollout, chat_policy, store, index) for index in range(3)]
    own = [sum(row["source_round"] == index for row in pairs) for index, pairs in enumerate(made)]
    assert Counter(row["source_round"] for row in made[2]) == {2: own[2], 1: int(0.3 * own[1]), 0: int(0.15 * own[0])}


def test_without_replay_a_round_has_its_own_pairs_only(rollout, chat_policy, store):
    rollout = replace(rollout, replay=0.0)
    make(rollout, chat_policy, store, 0)
    assert {row["source_round"] for row in make(rollout, chat_policy, store, 1)} == {1}


def test_the_reference_is_the_policy_that_sampled_the_round(rollout, chat_policy, store):
    pairs = make(rollout, chat_policy, store, 0)
    assert all(row["ref_logp"] == row["logp"] for row in rows(store, 0, "candidates"))
    for row in pairs:
        assert row["chosen_ref_logp"] == pytest.approx(logp(chat_policy, row, "chosen"), abs=1e-4)


@pytest.fixture
def after(rollout, chat_policy, store, tmp_path):
    """`after(rollout)` makes two rounds, with training in between: the pairs of round 1 and the policies' files."""

    def made(rollout) -> tuple[list[dict], tuple[Path, ...]]:
        files = (tmp_path / "0.safetensors", tmp_path / "1.safetensors")
        chat_policy.save_trainable_state(files[0])
        make(rollout, chat_policy, store, 0, policies=files[:1])
        train(chat_policy)
        chat_policy.save_trainable_state(files[1])
        trained = chat_policy.fingerprint()
        pairs = make(rollout, chat_policy, store, 1, policies=files)
        assert chat_policy.fingerprint() == trained
        assert {row["source_round"] for row in pairs} == {0, 1}  # replayed pairs are scored like new ones
        return pairs, files

    return made


def test_the_reference_can_stay_the_initial_policy(rollout, chat_policy, store, after):
    pairs, (initial, _) = after(replace(rollout, reference="initial"))
    for row in rows(store, 1, "candidates"):
        assert abs(row["ref_logp"] - row["logp"]) > 1e-3
    with chat_policy.using_state(initial):
        for row in pairs:
            assert row["rejected_ref_logp"] == pytest.approx(logp(chat_policy, row, "rejected"), abs=1e-4)


def test_an_anchor_mixes_the_log_probabilities_of_the_round_s_and_the_initial_policy(rollout, chat_policy, after):
    pairs, (initial, _) = after(replace(rollout, anchor=0.25))
    previous = [logp(chat_policy, row, "chosen") for row in pairs]
    with chat_policy.using_state(initial):
        first = [logp(chat_policy, row, "chosen") for row in pairs]
    assert max(abs(a - b) for a, b in zip(previous, first, strict=True)) > 1e-2
    mixture = [0.75 * a + 0.25 * b for a, b in zip(previous, first, strict=True)]
    assert [row["chosen_ref_logp"] for row in pairs] == pytest.approx(mixture, abs=1e-4)


def test_the_reference_can_be_an_average_of_the_weights_of_all_rounds(rollout, chat_policy, after):
    pairs, (initial, trained) = after(replace(rollout, reference="ema", ema_decay=0.25))
    average = {name: 0.25 * weight + 0.75 * load_file(trained)[name] for name, weight in load_file(initial).items()}
    with chat_policy.using_state(average):
        for row in pairs:
            assert row["chosen_ref_logp"] == pytest.approx(logp(chat_policy, row, "chosen"), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"anchor": 1.0}, "rollout.anchor is 1.0"),
        ({"ema_decay": -0.1}, "rollout.ema_decay is -0.1"),
    ],
)
def test_a_reference_that_cannot_be_is_refused(rollout, change, said):
    with pytest.raises(ConfigError, match=said):
        replace(rollout, **change)


def test_two_ranks_make_the_round_that_one_makes(rollout, chat_policy, tmp_path):
    alone, together = RoundStore(tmp_path / "alone"), RoundStore(tmp_path / "together")
    for index in (0, 1):
        make(rollout, chat_policy, alone, index)
        contexts = [RoundContext(together, index, seed=1, rank=rank, world_size=2) for rank in (1, 0)]
        for context in contexts:
            rollout.collect(chat_policy, context)
        rollout.assemble(contexts[1])
        for table in ("candidates", "judgements", "pairs"):
            assert rows(together, index, table) == rows(alone, index, table)
        train(chat_policy)


def test_what_is_on_disk_is_not_judged_again(rollout, chat_policy, store):
    context = RoundContext(store, 0, seed=1)
    rollout.collect(chat_policy, context)
    context.chunks.path("judgements", 1).unlink()
    rollout.collect(chat_policy, context)
    rollout.assemble(context)
    assert rollout.annotator.judged == {str(number): 2 if 4 <= number < 8 else 1 for number in range(PROMPTS)}


def test_samples_of_another_policy_are_refused(rollout, chat_policy, store):
    context = RoundContext(store, 0, seed=1)
    rollout.collect(chat_policy, context)
    context.chunks.path("judgements", 1).unlink()
    train(chat_policy)
    with pytest.raises(RoundError, match=r"candidates-00000.parquet was sampled with policy \w+, but now"):
        rollout.collect(chat_policy, context)


def test_pairs_of_one_prompt_are_rescored_as_one_group(rollout, chat_policy, store, monkeypatch):
    pairs = make(rollout, chat_policy, store, 0)
    calls = []

    def noted(policy, prompts, responses, *, token_budget):
        calls.append(responses)
        return score_groups(policy, prompts, responses, token_budget=token_budget)

    monkeypatch.setattr("sparring.rollout.reference.score_groups", noted)
    again = rescore_pairs(chat_policy, pairs, token_budget=1000)
    [groups] = calls
    assert len(groups) == len({row["prompt_id"] for row in pairs})
    standing = {(row["prompt_id"], row[f"{side}_index"]) for row in pairs for side in ("chosen", "rejected")}
    assert sum(map(len, groups)) == len(standing)
    for old, new in zip(pairs, again, strict=True):
        assert new["chosen_ref_logp"] == pytest.approx(old["chosen_ref_logp"], abs=1e-4)


class ForgetsOne(LettersJudge):
    def __call__(self, batch):
        return super().__call__(batch)[1:]


class NoProbabilities(LettersJudge):
    def judge(self, candidates):
        return Judgement(np.ones((len(candidates.responses),) * 2))


class OneTooMany(LettersJudge):
    def judge(self, candidates):
        return Judgement(np.full((len(candidates.responses) + 1,) * 2, 0.5))


@pytest.mark.parametrize(
    ("annotator", "complaint"),
    [
        (ForgetsOne(), "ForgetsOne returned 3 judgements for 4 prompts"),
        (NoProbabilities(), "1/2 on its diagonal"),
        (OneTooMany(), "OneTooMany judged 4 candidates of prompt 0, which has 3"),
    ],
)
def test_an_annotator_that_breaks_its_contract_is_stopped_at_its_first_chunk(
    rollout, chat_policy, store, annotator, complaint
):
    context = RoundContext(store, 0, seed=1)
    with pytest.raises(RoundError, match=complaint):
        replace(rollout, annotator=annotator).collect(chat_policy, context)
    assert context.chunks.count("judgements") == 0
    assert context.chunks.count("candidates") == 1


def test_a_round_without_a_pair_stops_with_its_funnel(rollout, chat_policy, store):
    strict = replace(rollout, pairing=Pairing(rollout.pairing.strategy, {"min_margin": MinMargin(1.0)}))
    with pytest.raises(RoundError, match=r"no pair of round 0 passed the filters(.|\n)*min_margin"):
        make(strict, chat_policy, store, 0)
    assert not store.complete(0)


def test_one_sample_is_no_preference(rollout):
    with pytest.raises(ConfigError, match="at least 2"):
        replace(rollout, sampler=replace(rollout.sampler, num_generations=1))
