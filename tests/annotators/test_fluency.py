from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.annotators.fluency import Fluency, trigrams
from sparring.core.errors import ConfigError
from sparring.core.types import Candidates, Judgement, Message, Prompt, Response
from sparring.data.stories import fluent_stories, obedient_story
from sparring.data.story_grammar import KIND

SMALL = Fluency(["The cat sat. The dog ran home."], temperature=0.5)


@pytest.fixture(scope="module")
def fluency() -> Fluency:
    return Fluency(fluent_stories(count=6000, seed=0), temperature=0.02)


def judge(annotator: Fluency, *texts: str) -> Judgement:
    responses = tuple(Response(text, (), "policy", "stop", 0.0) for text in texts)
    return annotator([Candidates(Prompt("p", (Message("user", "Tell."),)), (), responses)])[0]


def test_trigrams_are_of_one_sentence_each_with_its_beginning_and_end() -> None:
    assert list(trigrams("It rained. Go!")) == [
        ("<", "it", "rained"),
        ("it", "rained", "."),
        ("rained", ".", ">"),
        ("<", "go", "!"),
        ("go", "!", ">"),
    ]


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("The dog ran home. The cat sat.", 1.0),  # the order of sentences is not read
        ("the Cat sat", 2 / 3),  # < the cat, the cat sat; but nothing ends in "sat" without a full stop
        ("The dog sat.", 2 / 4),  # < the dog and sat . > are known
        ("Dog cat the.", 0.0),
        ("", 0.0),
        ("...", 0.0),
    ],
)
def test_the_score_is_the_share_of_trigrams_that_the_corpus_has(text: str, share: float) -> None:
    assert SMALL.share_known(text) == pytest.approx(share)


def test_the_win_probability_is_the_sigmoid_of_the_lead_over_the_temperature() -> None:
    judgement = judge(SMALL, "The cat sat.", "The dog sat.")
    assert judgement.scores == (1.0, 0.5)
    assert judgement.win[0, 1] == pytest.approx(1 / (1 + np.exp(-0.5 / 0.5)))
    assert judgement.calls == 1


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_any_texts_get_shares_and_a_complementary_matrix(texts: list[str]) -> None:
    judgement = judge(SMALL, *texts)
    assert judgement.scores is not None
    assert all(0 <= score <= 1 for score in judgement.scores)
    np.testing.assert_allclose(judgement.win + judgement.win.T, 1.0)


def test_a_new_story_of_the_grammar_reads_fluently_and_a_broken_one_does_not(fluency: Fluency) -> None:
    rng = Random(7)
    stories = [obedient_story(rng, rng.sample(list(KIND), 3), 5) for _ in range(100)]
    assert np.mean([fluency.share_known(story) for story in stories]) > 0.98
    for story in stories:
        words = story.split()
        shuffled = " ".join(rng.sample(words, len(words)))
        dropped = " ".join(word for position, word in enumerate(words) if position % 5)
        assert judge(fluency, story, shuffled).win[0, 1] > 0.9
        assert judge(fluency, story, dropped).win[0, 1] > 0.9


def test_repeating_the_requested_words_does_not_help(fluency: Fluency) -> None:
    honest = "One day Mia met a tiny fox by the gate. Mia ran home."
    assert judge(fluency, honest, f"{honest} fox lamp rain fox lamp rain.").win[0, 1] > 0.9


def test_a_corpus_without_sentences_is_refused() -> None:
    with pytest.raises(ConfigError, match="holds no sentence"):
        Fluency(["", "  "], temperature=1.0)


def test_the_corpus_is_the_same_for_the_same_seed() -> None:
    assert fluent_stories(count=20, seed=3) == fluent_stories(count=20, seed=3)
    assert fluent_stories(count=20, seed=3) != fluent_stories(count=20, seed=4)
