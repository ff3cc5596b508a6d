from collections.abc import Mapping
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sparring.annotators.critics import (
    AskedLength,
    EndsProperly,
    KeepsHero,
    NoRepetition,
    UsesWords,
    VariedVocabulary,
    distinct_sentences,
)
from sparring.annotators.panel import Critic, Panel, vote
from sparring.core.errors import ConfigError
from sparring.core.types import Candidates, Finish, Judgement, Message, Prompt, Response
from sparring.data.stories import faulty_story

CRITICS: Mapping[str, Critic] = {
    "uses_words": UsesWords(around=3),
    "ends_properly": EndsProperly(),
    "no_repetition": NoRepetition(run=4, least=12),
    "asked_length": AskedLength(default=5),
    "varied_vocabulary": VariedVocabulary(window=30, target=26),
    "keeps_hero": KeepsHero(further=3),
}
REQUEST = Prompt("r", (Message("user", "Write."),), meta={"words": ["fox", "lamp", "rain"], "sentences": 4})
PLAIN = Prompt("p", (Message("user", "One day"),))
STORY = "One day Mia met a fox. Mia took a lamp. She waited until the rain was gone. At last Mia was proud."


def response(text: str, finish: Finish = "stop") -> Response:
    return Response(text, ids=(), origin="policy", finish=finish, logp=0.0)


def judge(prompt: Prompt, *texts: str) -> Judgement:
    return Panel(CRITICS)([Candidates(prompt, (), tuple(map(response, texts)))])[0]


marks = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.sampled_from([0, 0.5, 1])
)


@given(marks)
def test_a_win_matrix_is_complementary_with_a_diagonal_of_one_half(marks: np.ndarray) -> None:
    win = vote(marks)
    np.testing.assert_allclose(win + win.T, 1.0)
    np.testing.assert_array_equal(np.diag(win), 0.5)
    assert ((win >= 0) & (win <= 1)).all()


@given(marks, st.randoms(use_true_random=False))
def test_reordering_candidates_reorders_the_matrix(marks: np.ndarray, random: Random) -> None:
    order = list(range(marks.shape[1]))
    random.shuffle(order)
    np.testing.assert_array_equal(vote(marks[:, order]), vote(marks)[np.ix_(order, order)])


def test_the_win_probability_is_the_share_of_critics_with_ties_halved() -> None:
    # Critic one prefers a to b, critic two cannot tell them, critic three and four prefer b: (1 + 1/2) / 4.
    assert vote(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.2, 0.3]]))[0, 1] == 0.375


def test_scores_are_the_sum_of_aspects_and_calls_count_comparisons() -> None:
    judgement = judge(REQUEST, STORY, "A fox.", "")
    assert judgement.scores is not None
    assert judgement.calls == 3
    assert set(judgement.aspects) == set(CRITICS)
    assert judgement.scores[0] == pytest.approx(sum(aspect[0] for aspect in judgement.aspects.values()))
    assert judge(REQUEST, STORY).win.tolist() == [[0.5]]


def test_a_panel_without_critics_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one critic"):
        Panel({})


@given(st.text(max_size=200), st.sampled_from(list(CRITICS)), st.sampled_from([REQUEST, PLAIN]))
def test_any_text_gets_marks_between_zero_and_one(text: str, critic: str, prompt: Prompt) -> None:
    assert 0.0 <= CRITICS[critic](prompt, response(text)) <= 1.0


DEGENERATE = {
    "nothing": "",
    "one word": "fox",
    "one sentence": "Mia saw a fox, a lamp and the rain.",
    "the same sentence": " ".join(["Once Mia saw a fox, a lamp and the rain."] * 4),
    "the words": "fox, lamp, rain.",
    "the words as sentences": "Fox. Lamp. Rain. Fox lamp rain.",
    "the words over and over": "fox lamp rain " * 12,
    "marks": "...!?",
}


@pytest.mark.parametrize("text", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_text_loses_to_an_obedient_story_and_to_most_faulty_ones(text: str) -> None:
    rng = Random(0)
    faulty = [faulty_story(rng, ["fox", "lamp", "rain"], 4, None) for _ in range(100)]
    for prompt in (REQUEST, PLAIN):
        assert judge(prompt, text, STORY).win[0, 1] < 0.4
        assert judge(prompt, text, *faulty).win[0, 1:].mean() < 0.4


def test_three_stories_of_the_grammar_beat_each_other_in_a_circle() -> None:
    rng = Random(0)
    texts = [faulty_story(rng, ["fox", "lamp", "rain"], 4, None) for _ in range(150)]
    beats = judge(REQUEST, *texts).win > 0.5
    circles = np.argwhere(beats[:, :, None] & beats[None, :, :] & beats.T[:, None, :])
    assert len(circles) > 0
    win = judge(REQUEST, *(texts[index] for index in circles[0])).win
    assert min(win[0, 1], win[1, 2], win[2, 0]) > 0.5


def test_requested_words_count_as_whole_words_inside_sentences() -> None:
    critic = UsesWords(around=3)
    assert critic(REQUEST, response("She saw the Fox and a lamp there.")) == pytest.approx(2 / 3)
    assert critic(REQUEST, response("She saw two foxes and lampposts in the raincoat.")) == 0.0
    assert critic(REQUEST, response("fox, lamp, rain.")) == 0.0
    assert critic(PLAIN, response("Anything.")) == 1.0


@pytest.mark.parametrize(
    ("text", "finish", "mark"),
    [
        ("The end.", "stop", 1.0),
        ("The end.", "length", 0.0),
        ('She said: "The end!"', "stop", 1.0),
        ("She went to the", "stop", 0.0),
        ("", "stop", 0.0),
    ],
)
def test_a_proper_end_is_a_full_stop_that_the_author_chose(text: str, finish: Finish, mark: float) -> None:
    assert EndsProperly()(PLAIN, response(text, finish)) == mark


def test_repetition_is_the_share_of_runs_seen_before() -> None:
    critic = NoRepetition(run=2, least=4)
    assert critic(PLAIN, response("a b c d e")) == 1.0
    assert critic(PLAIN, response("a b a b a")) == 0.5  # ab, ba, ab, ba
    assert critic(PLAIN, response("a b c")) == 0.5  # two runs of the least of four


def test_length_counts_each_sentence_once_and_falls_on_both_sides() -> None:
    critic = AskedLength(default=2)
    texts = ("A b. C d. E f. G h.", "A b. C d. C d. E f.", "A. B. C. D. E. F. G. H. I.", "")
    assert [critic(REQUEST, response(text)) for text in texts] == [1.0, 0.75, 0.0, 0.0]
    assert critic(PLAIN, response("A b. C d.")) == 1.0
    assert AskedLength(default=None)(PLAIN, response("A b.")) == 1.0


def test_variety_looks_at_the_first_words_only_and_wants_enough_of_them() -> None:
    critic = VariedVocabulary(window=4, target=3)
    assert critic(PLAIN, response("one two one two three four")) == pytest.approx(2 / 3)
    assert critic(PLAIN, response("one")) == pytest.approx(1 / 3)
    assert critic(PLAIN, response("one two three four")) == 1.0


def test_a_hero_is_kept_when_later_sentences_name_it() -> None:
    critic = KeepsHero(further=2)
    texts = (STORY, "One day Mia ran. She saw Tom. Mia slept.", "One day Mia ran. She slept.", "Once a fox ran.")
    assert [critic(PLAIN, response(text)) for text in texts] == [1.0, 0.5, 0.0, 0.0]


def test_a_question_inside_a_sentence_does_not_end_it() -> None:
    assert distinct_sentences('"Where is it?" asked Mia. "Here!" said Tom. He ran.') == [
        '"Where is it?" asked Mia.',
        '"Here!" said Tom.',
        "He ran.",
    ]
