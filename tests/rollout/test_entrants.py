"""Who answers prompts: what they say is what their sampler, file or prompts say, and it is kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sparring.annotators.critics import NoRepetition
from sparring.annotators.panel import Panel
from sparring.core.answers import Expense
from sparring.core.errors import DataError, RoundError
from sparring.core.types import Output, Prompt
from sparring.data.rounds import Chunks
from sparring.policy.loading import load_policy
from sparring.policy.policy import Policy
from sparring.policy.principled import PrincipledSampler
from sparring.policy.sampler import Sampler
from sparring.rollout.best_of import BestOfSampler
from sparring.rollout.chunks import merged
from sparring.rollout.entrants import (
    TABLE,
    Answers,
    Entrant,
    Foreseen,
    PolicyEntrant,
    RecordedEntrant,
    TeacherEntrant,
    collect,
    prompts_hash,
)

torch.set_num_threads(1)

SETTINGS = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8, "token_budget": 10_000}
SAMPLER = Sampler(2, **SETTINGS)  # type: ignore
TOLD = PrincipledSampler(1, **SETTINGS, principle=None)  # type: ignore


@pytest.fixture
def prompts(ask: Callable[..., Prompt]) -> list[Prompt]:
    return [ask(f"the cat {number}", f"p{number}", teacher=f"taught {number}") for number in range(5)]


def entrant(policy: Policy, sampler: Sampler | BestOfSampler = SAMPLER, weights: Path | None = None) -> PolicyEntrant:
    return PolicyEntrant("ours", "our model", None, lambda: policy, weights, sampler, "as it is")


def answered(one: Entrant, prompts: list[Prompt], seed: int = 1) -> Answers:
    with one.opened() as answering:
        return answering(prompts, seed=seed, on_tokens=lambda _: None)


def texts(answers: Answers) -> list[list[str]]:
    return [[each.text for each in said] for said in answers.said]


def not_to_be_loaded() -> Policy:
    raise AssertionError("a model was loaded")


# ---------------------------------------------------------------- policies


def test_a_policy_says_what_its_sampler_draws_and_counts_its_tokens(chat_policy, prompts):
    heard: list[int] = []
    with entrant(chat_policy).opened() as answering:
        answers = answering(prompts, seed=3, on_tokens=heard.append)
    drawn = SAMPLER(chat_policy, prompts, seed=3)
    assert texts(answers) == [[each.text for each in one.responses] for one in drawn]
    tokens = [[len(each.ids) for each in one.responses] for one in drawn]
    assert [[each.tokens for each in said] for said in answers.said] == tokens
    assert [[each.finish for each in said] for said in answers.said] == [
        [each.finish for each in one.responses] for one in drawn
    ]
    assert answers.computed == sum(heard) == sum(map(sum, tokens))
    assert answers.expense == Expense()


def test_a_round_answers_with_its_weights_and_leaves_the_policys_own(chat_policy, prompts, tmp_path):
    before, own = chat_policy.fingerprint(), answered(entrant(chat_policy), prompts)
    with torch.no_grad():
        for weight in chat_policy.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    chat_policy.save_trainable_state(tmp_path / "policy.safetensors")
    changed, later = chat_policy.fingerprint(), answered(entrant(chat_policy), prompts)
    fresh = load_policy(chat_policy.base.name_or_path)
    with entrant(fresh, weights=tmp_path / "policy.safetensors").opened() as answering:
        assert texts(answering(prompts, seed=1, on_tokens=lambda _: None)) == texts(later) != texts(own)
        assert changed in answering.identity
    assert fresh.fingerprint() == before


def test_tokens_are_known_to_be_others_where_the_tokenizer_is_another(chat_policy, plain_policy):
    kinds = set()
    for policy in (chat_policy, plain_policy, load_policy(chat_policy.base.name_or_path)):
        with entrant(policy).opened() as answering:
            kinds.add(answering.tokenizer)
    assert len(kinds) == 2


def test_of_best_of_n_all_draws_are_computed_and_choosing_is_paid_for(chat_policy, prompts):
    best = BestOfSampler(replace(SAMPLER, num_generations=1), Panel({"no_repetition": NoRepetition(4, 12)}), 3)
    answers = answered(entrant(chat_policy, best), prompts)
    drawn = replace(SAMPLER, num_generations=3)(chat_policy, prompts, seed=1)
    assert answers.computed == sum(len(each.ids) for one in drawn for each in one.responses)
    assert all(len(said) == 1 for said in answers.said)
    assert answers.expense.calls == 5 * 3  # pairs of three draws


def test_what_a_policy_will_say_is_foreseen_without_its_model(prompts):
    ours = PolicyEntrant("a", "a", None, not_to_be_loaded, None, SAMPLER, "")
    assert ours.foreseen(prompts[:2]) == [Foreseen(2, 16)] * 2
    best = replace(ours, sampler=BestOfSampler(SAMPLER, Panel({"no_repetition": NoRepetition(4, 12)}), 3))
    assert best.foreseen(prompts[:1]) == [Foreseen(2, 16)]


@pytest.mark.parametrize("chosen", [False, True])
def test_a_missing_principle_is_known_without_the_model(prompts, chosen):
    sampler = BestOfSampler(TOLD, Panel({"no_repetition": NoRepetition(4, 12)}), 3) if chosen else TOLD
    ours = PolicyEntrant("a", "a", None, not_to_be_loaded, None, sampler, "")
    told = [replace(prompt, meta={"principle": "be kind."}) for prompt in prompts]
    assert len(ours.foreseen(told)) == 5
    with pytest.raises(DataError, match=r"^prompt p4 has no principle in its column 'principle'; give it one"):
        ours.foreseen([*told[:4], prompts[4]])


@pytest.mark.parametrize("sampler", [SAMPLER, replace(TOLD, principle="be kind. " * 20)], ids=["plain", "told"])
def test_a_prompt_without_room_is_found_before_the_first_is_answered(chat_policy, prompts, sampler, ask, tmp_path):
    late = [*prompts, ask("the cat sat " * 60, "long")] if sampler is SAMPLER else prompts
    with pytest.raises(DataError, match="exceeds the model's context of 128"):
        collect(entrant(chat_policy, sampler), late, Chunks(tmp_path), chunk_size=2, seed=1)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- what was said before


def test_all_outputs_to_a_prompt_are_its_responses_with_what_is_known_of_them(prompts):
    first, second = (Output(prompts[0], text, "gpt", tokens=3, seconds=0.5) for text in ("one é", "two"))
    theirs = RecordedEntrant("gpt", "gpt.json", {"p0": [first, second], "p1": [Output(prompts[1], "", "gpt")]})
    answers = answered(theirs, [prompts[1], prompts[0]])
    assert texts(answers) == [[""], ["one é", "two"]]
    assert [(each.tokens, each.seconds, each.finish) for said in answers.said for each in said] == [
        (None, None, None),
        (3, 0.5, None),
        (3, 0.5, None),
    ]
    assert answers.computed is None
    # "one é" has six bytes, and a token is taken to have three
    assert theirs.foreseen(prompts[:2]) == [Foreseen(2, 2 + 1), Foreseen(1, 0)]


def test_a_prompt_that_a_file_does_not_answer_is_named_before_anything_is_kept(prompts, tmp_path):
    theirs = RecordedEntrant("gpt", "gpt.json", {"p0": [Output(prompts[0], "one", "gpt")]})
    sentence = r"gpt.json has no output of 'gpt' for prompt p1 \(the cat 1\); give a file that answers every prompt.$"
    with pytest.raises(DataError, match=sentence):
        theirs.foreseen(prompts)
    with pytest.raises(DataError, match=sentence):
        collect(theirs, prompts, Chunks(tmp_path), chunk_size=1, seed=1)
    assert not list(tmp_path.iterdir())


def test_recorded_answers_are_others_where_one_text_is(prompts):
    def identity(*said: str) -> str:
        with RecordedEntrant("a", "a", {"p0": [Output(prompts[0], text, "a") for text in said]}).opened() as answering:
            return answering.identity

    assert identity("one", "two") == identity("one", "two")
    assert len({identity("one", "two"), identity("one", "tw o"), identity("onetwo"), identity("two", "one")}) == 4


def test_a_teachers_answers_are_those_that_prompts_bring_with_them(prompts):
    teacher = TeacherEntrant("teacher")
    assert texts(answered(teacher, prompts)) == [[f"taught {number}"] for number in range(5)]
    with pytest.raises(DataError, match=r"^prompt p2 \(the cat 2\) has no teacher's answer; leave teacher out"):
        teacher.foreseen([*prompts[:2], replace(prompts[2], teacher=None)])


# ---------------------------------------------------------------- keeping


def rows(directory: Path) -> list[dict[str, object]]:
    return list(merged(Chunks(directory), TABLE))


def test_a_collection_that_was_interrupted_ends_as_one_that_was_not(chat_policy, prompts, tmp_path):
    ours = entrant(chat_policy)
    for name in ("whole", "broken"):
        collect(ours, prompts, Chunks(tmp_path / name), chunk_size=2, seed=1)
    kept = Chunks(tmp_path / "broken")
    kept.path(TABLE, 1).unlink()
    before = kept.path(TABLE, 0).stat().st_mtime_ns
    collect(ours, prompts, kept, chunk_size=2, seed=1)
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    assert kept.path(TABLE, 0).stat().st_mtime_ns == before
    assert [(row["prompt_id"], row["index"]) for row in rows(tmp_path / "whole")] == [
        (f"p{number}", index) for number in range(5) for index in range(2)
    ]


def test_chunks_have_seeds_of_their_own(chat_policy, prompts, tmp_path):
    same = [replace(prompts[0], id=f"p{number}") for number in range(4)]
    collect(entrant(chat_policy), same, Chunks(tmp_path), chunk_size=2, seed=1)
    said = [row["text"] for row in rows(tmp_path)]
    assert said[:4] != said[4:]


def changed_meta(prompts: list[Prompt]) -> list[Prompt]:
    return [replace(prompts[0], meta={"words": ["fish"]}), *prompts[1:]]


@pytest.mark.parametrize("what", ["entrant", "prompts", "seed"])
def test_answers_of_another_or_to_something_else_are_not_overwritten(chat_policy, prompts, what, tmp_path):
    chunks = Chunks(tmp_path)
    collect(entrant(chat_policy), prompts, chunks, chunk_size=3, seed=1)
    before = rows(tmp_path)
    ours = replace(entrant(chat_policy), manner="otherwise") if what == "entrant" else entrant(chat_policy)
    asked = changed_meta(prompts) if what == "prompts" else prompts
    sentence = rf"outputs-00000.parquet was answered with {what} .*, but now it is .*; give another label or output"
    with pytest.raises(RoundError, match=sentence):
        collect(ours, asked, chunks, chunk_size=3, seed=2 if what == "seed" else 1)
    assert rows(tmp_path) == before


def test_all_of_a_prompt_is_in_its_hash(prompts, ask):
    one = prompts[0]
    others = [replace(one, teacher=None), replace(one, meta={"principle": "p"}), ask("the dog", one.id, one.teacher)]
    assert len({prompts_hash([each]) for each in (one, *others)}) == 4
    assert prompts_hash([one]) == prompts_hash([replace(one)])
