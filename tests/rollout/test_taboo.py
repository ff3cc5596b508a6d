"""Rounds of Taboo played by a small random policy: what is kept of them, and what it is worth."""

import math
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
import torch

from sparring.core.errors import ConfigError, DataError, RoundError
from sparring.data.episodes import to_episode
from sparring.data.rounds import RoundStore
from sparring.games.taboo.credit import turn_rewards
from sparring.games.taboo.game import Game, Taboo
from sparring.games.taboo.players import position_of
from sparring.games.taboo.strict import StrictJudge
from sparring.games.taboo.wording import FixedWording, RandomWording, ShortWording
from sparring.policy.mixture import Mixture, MixtureSampler
from sparring.policy.principled import PrincipledSampler
from sparring.policy.sampler import Sampler
from sparring.policy.scoring import score_groups
from sparring.rollout.context import RoundContext
from sparring.rollout.taboo import TabooRollout
from sparring.rollout.taboo_opponents import Earlier, Itself, Scripted
from taboo_rounds import Parrot, Words, lottery, outcomes

torch.set_num_threads(1)

WORDS = ["apple", "river", "horse", "market", "cat", "dog", "mat", "park", "door", "bird", "ball", "girl"]


@pytest.fixture
def rollout() -> TabooRollout:
    return TabooRollout(
        prompts=Words(WORDS),
        game=Taboo(lottery, max_turns=3),
        sampler=Sampler(1, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=4, token_budget=10_000),
        wording=ShortWording(),
        training_wording=ShortWording(),
        chunk_size=5,
        games_per_word=2,
    )


@pytest.fixture
def store(tmp_path) -> RoundStore:
    return RoundStore(tmp_path / "rounds")


def make(rollout, policy, store, index=0, **where) -> tuple[list[dict], list[dict]]:
    """The rows of a round's games and turns."""
    context = RoundContext(store, index, seed=1, **where)
    rollout.collect(policy, context)
    rollout.assemble(context)
    return rows(store, index, "episodes"), rows(store, index, "turns")


def rows(store, index, table) -> list[dict]:
    return pq.read_table(store.table(index, table)).to_pylist()


def change(policy, seed=7) -> None:
    """Some other weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)


def test_every_word_is_played_for_and_every_game_is_stored(rollout, chat_policy, store):
    episodes, _ = make(rollout, chat_policy, store)
    assert [row["game"] for row in episodes] == list(range(24))
    assert [row["target"] for row in episodes] == WORDS * 2
    manifest = store.manifest(0)
    counted = outcomes(episodes)
    assert len(counted) == 4
    assert manifest["games"] == {**counted, "cut": sum(row["cut"] for row in episodes)}
    said = [utterance for row in episodes for utterance in row["utterances"]]
    assert manifest["tokens_sampled"] == sum(len(utterance["ids"]) for utterance in said)
    assert manifest["metrics"]["games/utterances"] == pytest.approx(len(said) / 24)
    assert manifest["metrics"]["games/attacker_share"] == pytest.approx(
        counted["attacker"] / (counted["attacker"] + counted["defender"])
    )


def test_the_winners_utterances_are_kept_as_they_were_sampled(rollout, chat_policy, store):
    episodes, turns = make(rollout, chat_policy, store)
    kept = {(row["game"], row["turn"]): row for row in turns}
    expected = {
        (row["game"], turn): utterance
        for row in episodes
        for turn, utterance in enumerate(row["utterances"])
        if utterance["role"] == row["outcome"]
    }
    assert kept.keys() == expected.keys()
    for key, utterance in expected.items():
        assert kept[key]["response_ids"] == utterance["ids"]
        assert kept[key]["prompt_ids"] == utterance["prompt_ids"]  # the same wording here
        assert kept[key]["kind"] == utterance["role"]


def test_rewards_of_a_game_are_those_of_its_winners_turns(rollout, chat_policy, store):
    _, turns = make(rollout, chat_policy, store)
    games = defaultdict(dict)
    for row in turns:
        games[row["game"]][row["turn"]] = row["reward"]
    for rewards in games.values():
        assert [rewards[turn] for turn in sorted(rewards)] == pytest.approx(turn_rewards(len(rewards), 0.8))


def test_both_roles_weigh_the_same_over_the_whole_round(rollout, chat_policy, store):
    _, turns = make(rollout, chat_policy, store)
    decided = len({row["game"] for row in turns})
    for role in ("attacker", "defender"):
        own = [row for row in turns if row["kind"] == role]
        assert sum(row["weight"] * row["reward"] for row in own) == pytest.approx(decided / 2)
        assert store.manifest(0)["metrics"][f"games/{role}_weight"] == own[0]["weight"]


def test_the_reference_is_the_rounds_policy_under_the_training_wording(rollout, chat_policy, store):
    seen = replace(rollout, training_wording=RandomWording(), wording=ShortWording())
    tall = Words(WORDS)
    _, turns = make(replace(seen, prompts=tall, game=Taboo(lottery, max_turns=1)), wide(chat_policy), store)
    assert len({row["prompt"][:9] for row in turns}) > 2
    for row in turns:
        [[logp]] = score_groups(chat_policy, [row["prompt_ids"]], [[row["response_ids"]]], token_budget=2000)
        assert row["ref_logp"] == pytest.approx(logp, abs=1e-3)
        assert chat_policy.decode((), row["prompt_ids"]).endswith(row["prompt"][-20:])


def wide(policy):
    """With room for the rules; the model has no learned positions."""
    policy.context = 2000
    return policy


def test_turns_that_the_training_wording_leaves_no_room_for_are_counted(rollout, chat_policy, store):
    _, turns = make(rollout, chat_policy, store)
    longest = max(len(row["prompt_ids"]) + len(row["response_ids"]) for row in turns)
    fewer = RoundStore(store.root.parent / "fewer")
    context = RoundContext(fewer, 0, seed=1)
    rollout.collect(chat_policy, context)
    for number in range(5):
        context.chunks.path("turns", number).unlink()
    chat_policy.context = longest - 1
    rollout.collect(chat_policy, context)
    rollout.assemble(context)
    lost = len(turns) - len(rows(fewer, 0, "turns"))
    assert lost > 0
    assert fewer.manifest(0)["metrics"]["games/turns_without_room"] == lost


def test_two_ranks_play_the_round_that_one_plays(rollout, chat_policy, tmp_path):
    alone, together = RoundStore(tmp_path / "alone"), RoundStore(tmp_path / "together")
    make(rollout, chat_policy, alone)
    contexts = [RoundContext(together, 0, seed=1, rank=rank, world_size=2) for rank in (1, 0)]
    for context in contexts:
        rollout.collect(chat_policy, context)
    rollout.assemble(contexts[1])
    for table in ("episodes", "turns"):
        assert rows(together, 0, table) == rows(alone, 0, table)


@pytest.mark.parametrize("lost", [["episodes", "turns"], ["turns"]])
def test_a_killed_round_is_played_to_the_same_end(rollout, chat_policy, tmp_path, lost):
    whole, killed = RoundStore(tmp_path / "whole"), RoundStore(tmp_path / "killed")
    make(rollout, chat_policy, whole)
    context = RoundContext(killed, 0, seed=1)
    rollout.collect(chat_policy, context)
    for table in lost:
        context.chunks.path(table, 2).unlink()
    make(rollout, chat_policy, killed)
    for table in ("episodes", "turns"):
        assert rows(killed, 0, table) == rows(whole, 0, table)


def test_games_of_another_policy_or_other_words_are_refused(rollout, chat_policy, store):
    context = RoundContext(store, 0, seed=1)
    rollout.collect(chat_policy, context)
    context.chunks.path("turns", 1).unlink()
    with pytest.raises(RoundError, match=r"episodes-00000.parquet was made with words \w+, but now"):
        replace(rollout, prompts=Words(WORDS[::-1])).collect(chat_policy, context)
    change(chat_policy)
    with pytest.raises(RoundError, match=r"episodes-00000.parquet was made with policy \w+, but now"):
        rollout.collect(chat_policy, context)


def test_rounds_and_repetitions_are_different_games(rollout, chat_policy, store):
    first, _ = make(rollout, chat_policy, store, 0)
    second, _ = make(rollout, chat_policy, store, 1)
    said = [[[u["ids"] for u in row["utterances"]] for row in part] for part in (first, second)]
    assert said[0] != said[1]
    assert all(said[0][number] != said[0][number + 12] for number in range(12))


# ---------------------------------------------------------------- who plays


def test_scripted_players_teach_both_roles(rollout, chat_policy, store):
    scripted = replace(rollout, attacker=Parrot("a fruit"), defender=Parrot("hello"))
    episodes, turns = make(scripted, chat_policy, store)
    assert {(row["attacker"], row["defender"]) for row in episodes} == {("scripted", "scripted")}
    assert {row["kind"]: row["response"] for row in turns} == {"attacker": "a fruit", "defender": "hello"}
    assert {tuple(row["response_ids"]) for row in turns if row["kind"] == "attacker"} == {
        chat_policy.encode_response("a fruit")
    }
    assert store.manifest(0)["tokens_sampled"] == 0


def test_against_a_scripted_player_only_what_the_policy_said_is_learnt(rollout, chat_policy, store):
    episodes, turns = make(replace(rollout, attacker=Parrot("a fruit")), chat_policy, store)
    assert outcomes(episodes)["attacker"] > 0
    assert {row["kind"] for row in turns} == {"defender"}
    assert {row["weight"] for row in turns} == {0.5}  # the weight of the only role


def test_earlier_rounds_play_with_their_own_weights(rollout, chat_policy, store, tmp_path):
    policies = tuple(tmp_path / f"{number}.safetensors" for number in range(3))
    for number, path in enumerate(policies):
        change(chat_policy, seed=number)
        chat_policy.save_trainable_state(path)
    league = [Earlier("previous"), Earlier([0]), Itself(), Scripted(Parrot("a fruit"), Parrot("hello"), name="parrot")]
    games, turns = make(
        replace(rollout, opponents=league, games_per_word=5), chat_policy, store, index=2, policies=policies
    )
    names = Counter(name for row in games for name in (row["attacker"], row["defender"]))
    assert names.keys() == {"policy", "round 0", "base", "parrot"}
    assert all("policy" in (row["attacker"], row["defender"]) for row in games)
    winners = {row["game"]: row[row["outcome"]] for row in games if row["outcome"] in ("attacker", "defender")}
    assert {row["game"] for row in turns} == {game for game, name in winners.items() if name == "policy"}
    assert set(winners.values()) >= {"base", "policy"}  # a game that an opponent wins teaches nothing
    states = dict(zip(("base", "round 0", "policy"), policies, strict=True))
    for name, state in states.items():
        said = [u for row in games for u in row["utterances"] if row[u["role"]] == name]
        with chat_policy.using_state(state):
            own = mean_logp(chat_policy, said)
        for other in set(states.values()) - {state}:
            with chat_policy.using_state(other):
                assert mean_logp(chat_policy, said) < own


def mean_logp(policy, said) -> float:
    scores = score_groups(policy, [u["prompt_ids"] for u in said], [[u["ids"]] for u in said], token_budget=5000)
    return sum(logp for (logp,) in scores) / len(scores)


def test_roles_may_be_sampled_differently(rollout, chat_policy, store):
    hot = replace(rollout.sampler, max_new_tokens=2, min_new_tokens=2)
    episodes, _ = make(replace(rollout, defender_sampler=hot), chat_policy, store)
    lengths = defaultdict(set)
    for row in episodes:
        for utterance in row["utterances"]:
            lengths[utterance["role"]].add(len(utterance["ids"]))
    assert lengths["defender"] == {2}
    assert max(lengths["attacker"]) == 4


# ---------------------------------------------------------------- supervised answers


def test_supervised_answers_stand_among_the_turns_in_proportion(rollout, chat_policy, store):
    answers = Words([f"question{number}" for number in range(100)], ["the girl said hello"] * 100)
    _, turns = make(replace(rollout, supervised=answers, supervised_per_turn=0.5), chat_policy, store)
    supervised = [row for row in turns if row["kind"] == "supervised"]
    games = len(turns) - len(supervised)
    assert abs(len(supervised) - 0.5 * games) <= 5  # each of 5 chunks rounds
    assert len({row["prompt"] for row in supervised}) == len(supervised)
    for row in turns:
        assert row["share"] == pytest.approx(len(turns) / (len(supervised) if row in supervised else games))
    for row in supervised:
        assert (row["reward"], row["weight"], row["game"], row["turn"]) == (1.0, 1.0, None, None)
        assert tuple(row["response_ids"]) == chat_policy.encode_response("the girl said hello")
        assert math.isfinite(row["ref_logp"])
    assert store.manifest(0)["funnel"]["kept"]["supervised"] == len(supervised)
    kinds = [row["kind"] == "supervised" for row in turns]
    assert sum(a != b for a, b in pairwise(kinds)) > 10  # mixed, not one after the other


def test_no_supervised_answer_is_seen_twice_in_a_round(rollout, chat_policy, store):
    answers = Words([f"question{number}" for number in range(7)], ["hello"] * 7)
    _, turns = make(replace(rollout, supervised=answers, supervised_per_turn=3.0), chat_policy, store)
    assert Counter(row["prompt"] for row in turns if row["kind"] == "supervised") == dict.fromkeys(
        (f"question{number}" for number in range(7)), 1
    )


# ---------------------------------------------------------------- bad input


def test_a_round_that_nobody_wins_stops_with_its_counts(rollout, chat_policy, store):
    hopeless = replace(rollout, attacker=Parrot("hm"), defender=Parrot("hm"), game=Taboo(StrictJudge()))
    with pytest.raises(RoundError, match=r"no game of round 0 was won .* \(tie 24, cut 0\); play for more words"):
        make(hopeless, chat_policy, store)


def test_a_context_that_holds_no_first_prompt_is_refused_before_the_first_game(rollout, chat_policy):
    rollout.check(chat_policy, rounds=3)
    with pytest.raises(ConfigError, match=r"the attacker's first prompt \(FixedWording, word '\w+'\) has \d+ tokens"):
        replace(rollout, wording=FixedWording()).check(chat_policy, rounds=3)
    with pytest.raises(ConfigError, match=r"the defender's first prompt .* exceeds the model's context of 128"):
        replace(rollout, defender_sampler=replace(rollout.sampler, max_new_tokens=120)).check(chat_policy, rounds=3)


def test_a_word_that_the_tokenizer_cannot_write_is_refused(rollout, chat_policy, plain_policy):
    odd = replace(rollout, prompts=Words(["apple", "été"]))
    odd.check(chat_policy, rounds=1)  # bytes write anything
    plain_policy.tokenizer.backend_tokenizer.model.byte_fallback = False
    with pytest.raises(DataError, match=r"the tokenizer writes the word 'été' as '.*', so no player can say it"):
        odd.check(plain_policy, rounds=1)


def test_no_words_are_refused(rollout, chat_policy):
    with pytest.raises(DataError, match="round 0 has no words to play for"):
        replace(rollout, prompts=Words([])).check(chat_policy, rounds=1)


def test_a_supervised_prompt_without_an_answer_is_refused(rollout, chat_policy):
    with pytest.raises(DataError, match=r"prompt b .* has no teacher answer to imitate"):
        replace(rollout, supervised=Words(["a", "b"], ["hello", None])).check(chat_policy, rounds=1)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"chunk_size": 0}, "rollout.chunk_size is 0"),
        ({"games_per_word": 0}, "rollout.games_per_word is 0"),
        ({"gamma": 0.0}, "gamma is 0.0"),
        ({"supervised_per_turn": -1.0}, "rollout.supervised_per_turn is -1.0"),
        ({"opponents": [Itself(weight=0.0)]}, r"rollout.opponents\[0\].weight is 0.0"),
        ({"opponents": [Earlier([-2])]}, r"rollout.opponents\[0\].rounds is \[-2\]"),
        ({"opponents": [Itself()], "attacker": Parrot("a")}, "attacker and rollout.defender must be null"),
        ({"opponents": [Earlier([])]}, r"rollout.opponents\[0\].rounds is \[\]"),
        ({"opponents": [Scripted(Parrot("a"), Parrot("a"), name="policy")]}, "called 'policy', as policies are"),
        ({"opponents": [Scripted(Parrot("a"), Parrot("a"), name="base"), Earlier([0])]}, "'base', as policies are"),
        ({"opponents": [Scripted(Parrot("a"), Parrot("a"), name="round 0")]}, "'round 0', as policies are"),
        ({"opponents": [Scripted(Parrot("a"), Parrot("a"))] * 2}, "name each its own"),
    ],
)
def test_settings_that_cannot_play_are_refused(rollout, setting, said):
    with pytest.raises(ConfigError, match=said):
        replace(rollout, **setting)


def test_neither_a_mixture_of_policies_nor_a_steered_one_plays_games(rollout):
    settings = {name: getattr(rollout.sampler, name) for name in ("temperature", "top_p", "top_k", "max_new_tokens")}
    mixture = MixtureSampler(num_generations=1, token_budget=100, mixture=Mixture(["a"], [1.0]), **settings)
    steered = PrincipledSampler(num_generations=1, token_budget=100, principle="be kind.", **settings)
    for sampler in (mixture, steered):
        said = f"played under sampler=default, and {type(sampler).__name__} is another"
        with pytest.raises(ConfigError, match=said):
            replace(rollout, sampler=sampler)
        with pytest.raises(ConfigError, match=said):
            replace(rollout, defender_sampler=sampler)


def test_an_episode_can_be_put_before_a_player_again(rollout, chat_policy, store):
    episodes, _ = make(rollout, chat_policy, store)
    for row in episodes[:5]:
        episode = to_episode(row)
        for turn, utterance in enumerate(episode.utterances):
            before = Game(episode.target, episode.game.utterances[:turn])
            prompt = ShortWording()(position_of(before, max_turns=3, seed=utterance.seed))
            assert chat_policy.render(prompt) == utterance.reply.prompt_ids
