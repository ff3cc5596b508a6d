"""Rounds that another run has sampled and judged, paired anew: what is taken over, and what is this run's own."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from candidate_sets import configured
from recorded_runs import PAIRING, LettersRanker, Prompts, change, logp, make_by_two, make_round, make_run, rows
from sparring.core.errors import ConfigError, DataError, RoundError
from sparring.data.rounds import RoundStore
from sparring.data.schema import to_candidates, to_judgement
from sparring.pairing.dno_margin import ScoredPairs
from sparring.pairing.filters import MinMargin
from sparring.pairing.funnel import Pairing
from sparring.policy.loading import load_policy
from sparring.policy.policy import Policy
from sparring.rollout.context import RoundContext
from sparring.rollout.recorded_rounds import RecordedRounds

torch.set_num_threads(1)


@pytest.fixture
def store(tmp_path: Path) -> RoundStore:
    return RoundStore(tmp_path / "run" / "rounds")


@pytest.fixture(scope="module")
def earlier(chat_model, ask, tmp_path_factory) -> RoundStore:
    run = tmp_path_factory.mktemp("outputs") / "earlier"
    return make_run(run, load_policy(str(chat_model)), Prompts(ask))


@pytest.fixture
def recorded(earlier: RoundStore, ask):
    def rollout(pairing: Pairing = PAIRING, **options: Any) -> RecordedRounds:
        given = {"run": str(earlier.root.parent), "chunk_size": 3, "token_budget": 500, **options}
        return RecordedRounds(prompts=Prompts(ask), pairing=pairing, **given)

    return rollout


def own(store: RoundStore, index: int) -> list[dict]:
    return [row for row in rows(store, index, "pairs") if row["source_round"] == index]


def in_order(pairs: list[dict]) -> list[dict]:
    return sorted(pairs, key=lambda row: (row["prompt_id"], row["chosen_index"], row["rejected_index"]))


def test_the_same_policy_and_pairing_make_the_recorded_round(recorded, earlier, chat_policy, store):
    pairs = make_round(recorded(), chat_policy, store, 0)
    assert in_order(pairs) == in_order(own(earlier, 0))
    for table in ("candidates", "judgements"):
        assert rows(store, 0, table) == rows(earlier, 0, table)
    manifest = store.manifest(0)
    assert manifest["funnel"] == earlier.manifest(0)["funnel"]
    assert (manifest["tokens_sampled"], manifest["judge_calls"]) == (0, 0)


def test_another_policy_scores_the_samples_itself(recorded, earlier, chat_policy, store):
    change(chat_policy)
    change(chat_policy)
    pairs = make_round(recorded(), chat_policy, store, 0)
    columns = ("prompt_id", "chosen_index", "rejected_index", "win", "chosen_win_rate")
    assert [[row[c] for c in columns] for row in in_order(pairs)] == [
        [row[c] for c in columns] for row in in_order(own(earlier, 0))
    ]
    for row in pairs:
        for side in ("chosen", "rejected"):
            assert row[f"{side}_ref_logp"] == pytest.approx(logp(chat_policy, row, side), abs=1e-4)
    for new, old in zip(rows(store, 0, "candidates"), rows(earlier, 0, "candidates"), strict=True):
        assert new["logp"] == old["logp"]
        assert abs(new["ref_logp"] - old["ref_logp"]) > 1e-4


def test_round_t_is_round_t_and_its_pairing_this_runs(recorded, earlier, chat_policy, store):
    pairing = Pairing(ScoredPairs(scale="rating"), {}, "aggregated_code")
    rollout = recorded(pairing)
    make_round(rollout, chat_policy, store, 0)
    pairs = make_round(rollout, chat_policy, store, 1)
    candidates = {one.prompt.id: one for one in to_candidates(rows(earlier, 1, "candidates"))}
    judged = {row["prompt_id"]: to_judgement(row) for row in rows(earlier, 1, "judgements")}
    expected = {name: pairing(one, judged[name])[0] for name, one in candidates.items()}
    found = [(row["prompt_id"], row["chosen_index"], row["rejected_index"], row["win"]) for row in pairs]
    assert sorted(found) == sorted(
        (name, pair.chosen, pair.rejected, pair.win) for name, kept in expected.items() for pair in kept
    )
    assert {row["source_round"] for row in pairs} == {1}


def test_the_union_has_the_pairs_of_all_rounds_with_one_reference(recorded, earlier, chat_policy, store):
    rollout = recorded(union=True)
    rollout.check(chat_policy, rounds=1)
    pairs = make_round(rollout, chat_policy, store, 0)
    for index in (0, 1):
        mine, theirs = (
            [row for row in table if row["source_round"] == index] for table in (pairs, own(earlier, index))
        )
        assert [row["chosen_ids"] for row in in_order(mine)] == [row["chosen_ids"] for row in in_order(theirs)]
    for row in pairs:
        assert row["chosen_ref_logp"] == pytest.approx(logp(chat_policy, row, "chosen"), abs=1e-4)


def test_two_ranks_make_the_round_that_one_makes(recorded, chat_policy, store, tmp_path):
    make_round(recorded(), chat_policy, store, 0)
    together = RoundStore(tmp_path / "together")
    make_by_two(recorded(), chat_policy, together, 0)
    for table in ("candidates", "judgements", "pairs"):
        assert rows(together, 0, table) == rows(store, 0, table)
    assert together.manifest(0)["metrics"] == store.manifest(0)["metrics"]


def test_nobody_is_asked_again(recorded, chat_policy, store, monkeypatch):
    def forbidden(*_: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(LettersRanker, "__call__", forbidden)
    assert make_round(recorded(), chat_policy, store, 0)


def test_chunks_of_another_policy_are_refused(recorded, chat_policy, store):
    context = RoundContext(store, 0, seed=1)
    recorded().collect(chat_policy, context)
    change(chat_policy)
    with pytest.raises(RoundError, match=r"was made with policy \w+, but now it is"):
        recorded().collect(chat_policy, context)


def test_more_rounds_than_there_are_is_refused(recorded, chat_policy):
    recorded().check(chat_policy, rounds=2)
    with pytest.raises(ConfigError, match=r"rounds is 3, but .* has 2 finished rounds to take"):
        recorded().check(chat_policy, rounds=3)
    with pytest.raises(ConfigError, match=r"union=true puts all rounds .* set rounds=1"):
        recorded(union=True).check(chat_policy, rounds=2)


def test_a_run_that_is_not_there_is_refused_at_once(recorded, tmp_path):
    with pytest.raises(DataError, match="has no finished round"):
        recorded(run=str(tmp_path / "nothing"))


def test_tokens_of_another_tokenizer_are_refused(recorded, plain_policy: Policy):
    with pytest.raises(DataError, match=r"round 0 of .* holds tokens of another tokenizer"):
        recorded().check(plain_policy, rounds=1)


def test_rounds_that_nobody_judged_are_refused(recorded, earlier, chat_policy, tmp_path):
    run = Path(shutil.copytree(earlier.root.parent, tmp_path / "earlier"))
    copy = RoundStore(run / "rounds")
    copy.finish(0, ("pairs",), {name: value for name, value in copy.manifest(0).items() if name != "files"})
    with pytest.raises(DataError, match=r"round 0 of .* has no judgements"):
        recorded(run=str(run)).check(chat_policy, rounds=1)


def test_a_pairing_for_teachers_needs_rounds_with_teachers(chat_policy, ask, tmp_path):
    make_run(tmp_path / "alone", chat_policy, Prompts(ask, teachers=False), rounds=1)
    given = {"run": str(tmp_path / "alone"), "chunk_size": 3, "token_budget": 500}
    spin = RecordedRounds(prompts=Prompts(ask), pairing=configured("spin"), **given)
    with pytest.raises(DataError, match="has no teacher's answers, which this pairing needs"):
        spin.check(chat_policy, rounds=1)


def test_a_round_without_a_pair_stops_with_its_funnel(recorded, chat_policy, store):
    strict = Pairing(PAIRING.strategy, {"min_margin": MinMargin(1.0)})
    with pytest.raises(RoundError, match=r"no pair of round 0 passed the filters(.|\n)*min_margin"):
        make_round(recorded(strict), chat_policy, store, 0)
    assert not store.complete(0)
