"""Training on pairs that were made elsewhere: whose tokens, whose reference, and what is left out."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from recorded_runs import Prompts, change, logp, make_by_two, make_round, make_run, rows
from sparring.core.errors import ConfigError, DataError, RoundError
from sparring.data.rounds import RoundStore
from sparring.policy.loading import load_policy
from sparring.rollout.context import RoundContext
from sparring.rollout.recorded_pairs import RecordedPairs

torch.set_num_threads(1)

TRL = [
    {"prompt": "the cat", "chosen": "sat on the mat", "rejected": "no", "score_chosen": 5, "score_rejected": 3},
    {"prompt": "the dog", "chosen": "ran", "rejected": "to the door", "score_chosen": 5, "score_rejected": 4.5},
    {"prompt": "the cat", "chosen": "was happy", "rejected": "sat on the mat", "score_chosen": 6, "score_rejected": 5},
    {"prompt": "the bird", "chosen": "the same", "rejected": "the same", "score_chosen": 6, "score_rejected": 5},
    {"prompt": "a ball", "chosen": "a " * 200, "rejected": "no", "score_chosen": 6, "score_rejected": 1},
]


@pytest.fixture
def store(tmp_path: Path) -> RoundStore:
    return RoundStore(tmp_path / "run" / "rounds")


@pytest.fixture(scope="module")
def earlier(chat_model, ask, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("outputs") / "earlier"
    make_run(run, load_policy(str(chat_model)), Prompts(ask))
    return run


@pytest.fixture
def trl(tmp_path: Path) -> str:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in TRL))
    return str(path)


@pytest.fixture
def recorded(ask):
    def rollout(path: str | Sequence[str], **options: Any) -> RecordedPairs:
        return RecordedPairs(Prompts(ask), path, **{"chunk_size": 2, "token_budget": 500, **options})

    return rollout


def test_texts_become_tokens_of_this_policy_scored_by_it(recorded, trl, chat_policy, store, ask):
    pairs = make_round(recorded(trl), chat_policy, store, 0)
    assert [(row["chosen"], row["rejected"]) for row in pairs] == [(row["chosen"], row["rejected"]) for row in TRL[:3]]
    for row in pairs:
        assert tuple(row["prompt_ids"]) == chat_policy.render(ask(row["prompt"]))
        for side in ("chosen", "rejected"):
            assert tuple(row[f"{side}_ids"]) == chat_policy.encode_response(row[side])
            assert row[f"{side}_ref_logp"] == pytest.approx(logp(chat_policy, row, side), abs=1e-4)


def test_what_is_left_out_is_counted_by_reason(recorded, trl, chat_policy, store):
    pairs = make_round(recorded(trl, min_margin=1.0), chat_policy, store, 0)
    assert [row["margin"] for row in pairs] == [2.0, 1.0]
    funnel = store.manifest(0)["funnel"]
    assert funnel["dropped"] == {"min_margin": 1, "duplicate": 1, "context": 1}
    assert (funnel["proposed"], funnel["kept"]) == (5, {"recorded": 2})
    assert (funnel["prompts"], funnel["candidates"]) == (1, 3)  # "sat on the mat" stands in both pairs


def test_responses_of_a_prompt_have_numbers_of_their_own_across_chunks_and_files(
    recorded, trl, earlier, chat_policy, store
):
    path = str(earlier / "rounds/round-*/pairs.parquet")
    pairs = make_round(recorded([trl, path]), chat_policy, store, 0)
    found: dict[tuple, tuple] = {}
    for row in pairs:
        for side in ("chosen", "rejected"):
            ids = tuple(row[f"{side}_ids"])
            assert found.setdefault((row["prompt_id"], row[f"{side}_index"]), ids) == ids
    assert len(set(found.values())) > 10


def test_pairs_of_rounds_are_theirs_once_with_their_tokens_and_a_new_reference(recorded, earlier, chat_policy, store):
    source = RoundStore(earlier / "rounds")
    own = [row for index in (0, 1) for row in rows(source, index, "pairs") if row["source_round"] == index]
    assert len(rows(source, 1, "pairs")) > sum(row["source_round"] == 1 for row in rows(source, 1, "pairs"))
    change(chat_policy)
    rollout = recorded(str(earlier / "rounds/round-*/pairs.parquet"))
    rollout.check(chat_policy, rounds=1)
    pairs = make_round(rollout, chat_policy, store, 0)
    assert len(pairs) == len(own)
    key = ("prompt_id", "chosen_ids", "rejected_ids", "kind", "win", "chosen_win_rate")
    assert sorted([str([row[k] for k in key]) for row in pairs]) == sorted([str([row[k] for k in key]) for row in own])
    for row in pairs:
        assert row["chosen_ref_logp"] == pytest.approx(logp(chat_policy, row, "chosen"), abs=1e-4)


def test_every_round_has_the_pairs_and_the_reference_of_the_first(recorded, trl, chat_policy, store):
    first = make_round(recorded(trl), chat_policy, store, 0)
    change(chat_policy)
    assert make_round(recorded(trl), chat_policy, store, 1) == first
    assert store.manifest(1)["policy"] == store.manifest(0)["policy"] != chat_policy.fingerprint()


def test_two_ranks_make_the_round_that_one_makes(recorded, trl, chat_policy, store, tmp_path):
    alone = make_round(recorded(trl), chat_policy, store, 0)
    together = RoundStore(tmp_path / "together")
    make_by_two(recorded(trl), chat_policy, together, 0)
    assert rows(together, 0, "pairs") == alone
    assert together.manifest(0)["funnel"] == store.manifest(0)["funnel"]


def test_after_a_kill_only_missing_chunks_are_made(recorded, trl, chat_policy, store, monkeypatch):
    context = RoundContext(store, 0, seed=1)
    recorded(trl).collect(chat_policy, context)
    context.chunks.path("pairs", 1).unlink()
    asked = []
    encode = chat_policy.encode_response
    monkeypatch.setattr(chat_policy, "encode_response", lambda text: (asked.append(text), encode(text))[1])
    recorded(trl).collect(chat_policy, context)
    assert asked == [text for row in TRL[2:4] for text in (row["chosen"], row["rejected"])]


def test_chunks_of_another_policy_or_other_pairs_are_refused(recorded, trl, chat_policy, store):
    context = RoundContext(store, 0, seed=1)
    recorded(trl).collect(chat_policy, context)
    with Path(trl).open("a") as file:
        file.write(json.dumps(TRL[0]) + "\n")
    with pytest.raises(RoundError, match="was made with source"):
        recorded(trl).collect(chat_policy, context)
    change(chat_policy)
    with pytest.raises(RoundError, match=r"was made with policy \w+, but now it is"):
        recorded(trl).collect(chat_policy, context)


def test_files_are_missed_before_anything_begins(recorded, tmp_path):
    with pytest.raises(DataError, match="No file is at"):
        recorded(str(tmp_path / "nothing.parquet"))


def test_a_margin_needs_ratings(recorded, chat_policy, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "the cat", "chosen": "sat", "rejected": "no"}))
    recorded(str(path)).check(chat_policy, rounds=1)
    with pytest.raises(ConfigError, match=r"min_margin is 1.0, but .* has pairs without ratings"):
        recorded(str(path), min_margin=1.0).check(chat_policy, rounds=1)


def test_a_file_that_leaves_nothing_is_refused(recorded, trl, chat_policy):
    with pytest.raises(DataError, match=r"holds no pairs of different responses with ratings 6.0 apart"):
        recorded(trl, min_margin=6.0).check(chat_policy, rounds=1)


def test_tokens_of_another_tokenizer_are_refused(recorded, earlier, plain_policy):
    with pytest.raises(DataError, match="holds tokens of another tokenizer"):
        recorded(str(earlier / "rounds/round-000/pairs.parquet")).check(plain_policy, rounds=1)


def test_single_responses_are_no_pairs(recorded, earlier, chat_policy, tmp_path):
    from sparring.cli.pair import pair

    run = Path(shutil.copytree(earlier, tmp_path / "earlier"))
    pair(run, ["pairing=every_response"])
    with pytest.raises(DataError, match="holds single responses"):
        recorded(str(run / "pairings/every_response.parquet")).check(chat_policy, rounds=1)
