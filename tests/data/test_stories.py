import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from sparring.annotators.critics import AskedLength, EndsProperly, NoRepetition, UsesWords, distinct_sentences, words_of
from sparring.annotators.panel import Critic
from sparring.annotators.story_principles import RULES
from sparring.cli.check import check_targets
from sparring.core.errors import ConfigError
from sparring.core.identity import prompt_id
from sparring.core.types import Message, Prompt, Response
from sparring.data.stories import LENGTHS, PRINCIPLES, Rows, Stories, StoryCorpus, faulty_story, side_of, word_sets
from sparring.data.story_grammar import KIND, TEMPLATES, Style, write_sentences
from sparring.data.story_tokenizer import build_tokenizer


def stories(
    train: int = 5000,
    validation: int = 1000,
    seed: int = 0,
    rounds: int = 1,
    principles: Sequence[Sequence[str]] | None = None,
) -> Stories:
    return Stories(
        train=train, validation=validation, split="disjoint", rounds=rounds, seed=seed, principles=principles
    )


def corpus(train: int = 5000, validation: int = 1000, seed: int = 0) -> StoryCorpus:
    return StoryCorpus(train=train, validation=validation, split="same", rounds=1, seed=seed)


def written(text: str) -> Response:
    return Response(text, ids=(), origin="teacher", finish="stop", logp=0.0)


def teacher(prompt: Prompt) -> str:
    assert prompt.teacher is not None
    return prompt.teacher


@pytest.fixture(scope="module")
def asked() -> list[Prompt]:
    return list(stories().for_round(0))


@pytest.fixture(scope="module")
def told() -> list[Prompt]:
    return list(corpus().for_round(0))


def test_a_prompt_is_a_function_of_seed_and_position() -> None:
    assert list(stories(seed=1).for_round(0)[:20]) == list(stories(seed=1).for_round(0)[:20])
    assert stories(seed=1).validation[7] != stories(seed=2).validation[7]


def test_a_validation_prompt_does_not_depend_on_how_many_there_are() -> None:
    assert stories(train=10, validation=10).validation[9] == stories(train=20, validation=1000).validation[9]


def test_sources_of_different_seeds_share_no_word_set_between_training_and_validation(
    asked: list[Prompt], told: list[Prompt]
) -> None:
    held_out = {frozenset(prompt.meta["words"]) for prompt in stories(seed=3).validation}
    for prompts in (asked, told):
        assert not held_out & {frozenset(prompt.meta["words"]) for prompt in prompts}


def test_no_prompt_occurs_twice_on_a_side(asked: list[Prompt]) -> None:
    assert len({prompt.text for prompt in asked}) == 5000
    assert len({prompt.id for prompt in stories().validation}) == 1000


def test_disjoint_rounds_share_no_prompt() -> None:
    source = stories(train=300, rounds=3)
    rounds = [{prompt.id for prompt in source.for_round(index)} for index in range(3)]
    assert [len(ids) for ids in rounds] == [100, 100, 100]
    assert len(set.union(*rounds)) == 300


def test_one_word_set_in_eight_is_held_out() -> None:
    train, validation = len(word_sets("train")), len(word_sets("validation"))
    assert train + validation == 62 * 61 * 60 // 6
    assert validation / (train + validation) == pytest.approx(1 / 8, abs=0.005)
    assert side_of(["fox", "lamp", "rain"]) == side_of(["rain", "fox", "lamp"])


def test_more_prompts_than_there_are_is_an_error_that_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"20000 validation stories .* set prompts\.validation lower"):
        stories(validation=20_000)


def test_a_prompt_asks_for_its_words_and_length_and_nothing_else() -> None:
    prompt = stories().validation[0]
    words, sentences = prompt.meta["words"], prompt.meta["sentences"]
    assert prompt.text == f"Write a story of {sentences} sentences with the words: {', '.join(words)}."
    assert [message.role for message in prompt.messages] == ["user"]
    assert len(set(words)) == 3
    assert sentences in LENGTHS
    assert json.loads(json.dumps(prompt.meta)) == prompt.meta


def test_prompts_without_principles_are_those_of_every_run_so_far() -> None:
    source, digest = stories(train=576, validation=200, rounds=3), hashlib.sha256()
    for prompt in [*source.validation, *(prompt for index in range(3) for prompt in source.for_round(index))]:
        turns = [(message.role, message.content) for message in prompt.messages]
        digest.update(json.dumps([prompt.id, turns, prompt.teacher, prompt.meta]).encode())
    assert digest.hexdigest()[:16] == "7ab00db3265fc9ef"  # computed before there were principles


def test_principles_change_nothing_of_a_prompt_but_its_meta() -> None:
    plain, principled = stories(seed=4), stories(seed=4, principles=[["sea", "speech"], ["short"]])
    pairs = [*zip(plain.validation[:300], principled.validation[:300], strict=True)]
    pairs += zip(plain.for_round(0)[:300], principled.for_round(0)[:300], strict=True)
    for one, other in pairs:
        meta = {key: value for key, value in other.meta.items() if key not in ("principle", "principles")}
        assert replace(other, meta=meta) == one


def test_every_prompt_draws_one_of_the_sets_by_its_own_seed() -> None:
    sets = [["sea", "speech"], ["short"]]
    prompts = stories(principles=sets).validation
    said = {("sea", "speech"): "Tell it about the sea. Let somebody speak.", ("short",): "Use short sentences."}
    drawn = [tuple(prompt.meta["principles"]) for prompt in prompts]
    assert [prompt.meta["principle"] for prompt in prompts] == [said[names] for names in drawn]
    assert 0.45 < drawn.count(("short",)) / 1000 < 0.55
    assert json.loads(json.dumps(prompts[0].meta)) == prompts[0].meta
    assert prompts[999] == stories(train=0, principles=sets).validation[999]
    assert drawn != [tuple(prompt.meta["principles"]) for prompt in stories(seed=1, principles=sets).validation]


@pytest.mark.parametrize("sets", [[], [[]], [["sea"], []]])
def test_sets_without_a_principle_are_refused(sets: list[list[str]]) -> None:
    with pytest.raises(ConfigError, match=r"prompts\.principles has a set without a principle, or no set"):
        stories(principles=sets)


def test_a_principle_that_stories_do_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has 'loud', which is no principle of stories; choose among short, cheer"):
        stories(principles=[["sea"], ["night", "loud"]])
    node = {"_target_": "sparring.data.stories.Stories", "principles": ["sea"]}
    with pytest.raises(ConfigError, match=r"prompts\.principles is \['sea'\]; it must be .*a list of lists of texts"):
        check_targets({"prompts": node})


def test_rows_slice_lazily() -> None:
    made: list[int] = []

    def make(position: int) -> Prompt:
        made.append(position)
        return Prompt(str(position), (Message("user", "x"),))

    rows = Rows(make, [5, 3, 8, 1])
    assert len(rows[1:]) == 3
    assert made == []
    assert rows[1:][-1].id == "1"
    assert made == [1]


def test_the_identity_of_a_prompt_sees_roles_contents_and_order() -> None:
    one, other = Message("user", "a"), Message("system", "b")
    ids = [prompt_id(messages) for messages in ([one], [other], [one, other], [other, one], [Message("user", "b")])]
    assert len(set(ids)) == 5
    assert ids[0] == "050d8ef56e888db0"  # sha256 of [["user", "a"]]


def test_the_teacher_obeys(asked: list[Prompt]) -> None:
    prompts = asked[:1000]
    critics = (UsesWords(around=3), AskedLength(default=None), EndsProperly(), NoRepetition(run=4, least=12))
    for critic in critics:
        full = sum(critic(prompt, written(teacher(prompt))) == 1.0 for prompt in prompts)
        assert full >= 950, critic


@pytest.mark.parametrize(
    ("critic", "low", "high"),
    [
        (UsesWords(around=3), 0.45, 0.65),  # all three of them
        (AskedLength(default=None), 0.35, 0.65),
        (EndsProperly(), 0.65, 0.85),
        (NoRepetition(run=4, least=12), 0.55, 0.85),
    ],
)
def test_a_story_of_the_corpus_obeys_only_sometimes(
    critic: Critic, low: float, high: float, told: list[Prompt]
) -> None:
    full = [critic(prompt, written(teacher(prompt))) == 1.0 for prompt in told]
    assert low < sum(full) / len(full) < high


def test_faults_are_independent_so_answers_to_one_prompt_differ() -> None:
    rng = Random(0)
    texts = {faulty_story(rng, ["fox", "lamp", "rain"], 4, None) for _ in range(50)}
    assert len(texts) == 50
    assert {sum(word in text for word in ("fox", "lamp", "rain")) for text in texts} == {0, 1, 2, 3}


def kept(principle: str, texts: list[str]) -> float:
    return sum(RULES[principle](text) for text in texts) / len(texts)


@pytest.mark.parametrize("principle", PRINCIPLES)
def test_a_principle_shows_in_stories_told_under_it(principle: str, told: list[Prompt]) -> None:
    under = [teacher(prompt) for prompt in told if prompt.meta.get("told_under") == principle]
    free = [teacher(prompt) for prompt in told if "told_under" not in prompt.meta]
    assert len(under) > 250
    assert kept(principle, under) >= 0.9
    assert 0.01 < kept(principle, free) < 0.15


def test_a_principle_is_a_system_message_before_the_request(told: list[Prompt]) -> None:
    prompts = [prompt for prompt in told if "told_under" in prompt.meta]
    assert 0.3 < len(prompts) / 5000 < 0.4
    for prompt in prompts[:50]:
        assert [message.role for message in prompt.messages] == ["system", "user"]
        assert prompt.messages[0].content == PRINCIPLES[prompt.meta["told_under"]]


def test_every_noun_can_stand_in_every_role() -> None:
    for noun in KIND:
        for count in (1, 2, 3, 6):
            sentences = write_sentences(Random(0), [noun] * count, Style())
            assert all(noun in words_of(sentence) for sentence in sentences)
            assert len(sentences) == count


def test_sentences_are_short_well_formed_and_of_few_words(told: list[Prompt]) -> None:
    texts = [teacher(prompt) for prompt in told]
    for text in texts:
        assert not re.search(r"[{}]|  |\ba [aeiou]|\ban [^aeiou]", text), text
        assert all(len(words_of(sentence)) <= 15 for sentence in distinct_sentences(text))
    assert 200 < len({word.lower() for text in texts for word in words_of(text)}) < 350


def test_a_story_does_not_use_a_template_twice_while_another_is_left() -> None:
    for seed in range(50):
        sentences = write_sentences(Random(seed), ["fox"] * 6, Style(naming=0.0))  # 4 middles, as many templates
        assert len(set(sentences)) == 6


def test_stories_of_one_noun_each_use_all_its_templates() -> None:
    told = {write_sentences(Random(seed), ["fox"] * 3, Style(plain=True, naming=0.0))[2] for seed in range(60)}
    assert len({sentence.replace("she", "he") for sentence in told}) == len(TEMPLATES["closing"]["animal"])


@pytest.fixture(scope="module")
def texts(told: list[Prompt]) -> list[str]:
    return [text for prompt in told[:2500] for text in (prompt.text, teacher(prompt))]


def test_any_text_survives_the_tokenizer(texts: list[str]) -> None:
    tokenizer = build_tokenizer(texts, vocab_size=768)
    for text in [*texts[:1000], "Ünïcode, 日本語 🦊 and\n\ttabs  twice "]:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids) == text


def test_most_words_are_one_token(texts: list[str]) -> None:
    tokenizer = build_tokenizer(texts, vocab_size=768)
    assert len(tokenizer) == 768
    known = sum(len(tokenizer(f" {noun}", add_special_tokens=False).input_ids) == 1 for noun in KIND)
    assert known >= 0.9 * len(KIND)


def test_the_same_texts_give_the_same_tokenizer(texts: list[str]) -> None:
    one, other = (build_tokenizer(texts[:500], vocab_size=400) for _ in range(2))
    assert one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()


def test_a_rendered_conversation_has_one_bos_and_closes_each_answer(texts: list[str]) -> None:
    tokenizer = build_tokenizer(texts[:500], vocab_size=400)
    turns = [{"role": role, "content": "x"} for role in ("system", "user", "assistant", "user")]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<s><|system|>x<|user|>x<|assistant|>x</s><|user|>x<|assistant|>"
    assert isinstance(text, str)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]
