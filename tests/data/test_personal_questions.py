import gzip
import json
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personal_sets import PEOPLE, personal_file, personal_row
from sparring.core.errors import DataError
from sparring.data.personal_questions import LETTERS, items_of, read_choice, read_personal_questions


def test_a_file_is_read_in_any_of_its_forms(tmp_path):
    rows = [personal_row(number) for number in range(3)]
    array = personal_file(tmp_path / "a.json", range(3))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "b.jsonl").write_text(lines)
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    read = read_personal_questions(array)
    assert [(question.index, question.domain) for question in read] == [(0, "food"), (1, "pets"), (2, "food")]
    assert read[1].question == "What is 1?"
    assert read[1].users == PEOPLE
    assert read[1].answers[3] == "1, says meone"
    for name in ("b.jsonl", "c.jsonl.gz", "d.parquet"):
        assert read_personal_questions(tmp_path / name) == read


def test_the_authors_questions_have_names_of_their_own(shared, tmp_path):
    """Their 400 questions without people and answers, which are lent."""
    path = shared / "data" / "personal_preference" / "la_personal_preference_questions_dev.jsonl"
    asked = [json.loads(line)["question"] for line in path.read_text().splitlines()]
    [lent] = read_personal_questions(personal_file(tmp_path / "a.json", [0]))
    assert len({replace(lent, question=question).id for question in asked}) == 400


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"answer_d": None}, "row 2 of {path} has no text in column 'answer_d'; a row needs index, domain, question"),
        ({"preference_c": "  "}, "row 2 of {path} has no text in column 'preference_c'"),
        ({"question": 7}, "row 2 of {path} has no text in column 'question'"),
        ({"domain": None}, "row 2 of {path} has no text in column 'domain'"),
        ({"index": None}, "row 2 of {path} has no column 'index'"),
        ({"answer_b": "0, says young"}, "row 2 of {path} has two answers that are the same, so no letter is right"),
        ({"preference_b": "a chess player "}, "row 2 of {path} has two people that are the same"),
    ],
)
def test_a_row_that_does_not_have_all_four_is_refused(tmp_path, change, sentence):
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (personal_row(1), personal_row(0) | change)))
    with pytest.raises(DataError) as refused:
        read_personal_questions(path)
    assert sentence.replace("{path}", str(path)) in str(refused.value)


def test_a_question_that_stands_twice_and_a_file_of_none_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"rows 1 and 3 of .* are the same question; keep one of them\."):
        read_personal_questions(personal_file(tmp_path / "twice.json", [4, 5, 4]))
    with pytest.raises(DataError, match="holds no questions"):
        read_personal_questions(personal_file(tmp_path / "none.json", []))
    with pytest.raises(DataError, match="does not exist"):
        read_personal_questions(tmp_path / "nowhere.json")


def test_every_person_asks_and_their_answer_is_at_the_right_letter(tmp_path):
    for question in read_personal_questions(personal_file(tmp_path / "a.json", range(20))):
        items = items_of(question, seed=3)
        assert [item.user for item in items] == [0, 1, 2, 3]
        assert sorted(item.right for item in items) == [0, 1, 2, 3]
        assert len({item.prompt.messages for item in items}) == 1  # the person is in the principle alone
        assert len({item.prompt.id for item in items}) == 4
        for item in items:
            assert f"\n\n{LETTERS[item.right]}. {question.answers[item.user]}\n\n" in item.prompt.text
            assert question.question in item.prompt.text
            assert item.prompt.meta["principle"].endswith(question.users[item.user])
            assert not any(person in item.prompt.text for person in PEOPLE)


def test_the_answers_stand_in_all_orders_equally_often(tmp_path):
    questions = read_personal_questions(personal_file(tmp_path / "a.json", range(2400)))
    orders = Counter(tuple(item.right for item in items_of(question, seed=1)) for question in questions)
    assert len(orders) == 24
    assert all(60 <= count <= 140 for count in orders.values())  # 100 expected, sd 9.8


def test_an_order_depends_on_the_seed_and_the_question_but_not_on_its_row(tmp_path):
    here = read_personal_questions(personal_file(tmp_path / "a.json", range(30)))
    turned = read_personal_questions(personal_file(tmp_path / "b.json", range(29, -1, -1)))
    assert [items_of(question, 1) for question in turned] == [items_of(question, 1) for question in reversed(here)]
    rights = {seed: [item.right for question in here for item in items_of(question, seed)] for seed in (1, 2)}
    assert rights[1] != rights[2]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *(("B", "B"), (" \n b", "B"), ("(C)", "C"), ("**D**", "D"), ("[[A]]", "A"), ("“A”", "A"), ("_c_", "C")),
        *(("B.", "B"), ("B: Try it", "B"), ("D) Try it", "D"), ("A\nIt suits", "A"), ("**C** suits", "C")),
        *(("B. A good one", "B"), ("C - as", "C")),
        *(("", None), ("  ", None), ("E", None), ("1", None), ("...", None), ("Because", None), ("DD", None)),
        *(("A good answer", None), ("a", "A"), ("B or C", None), ("A, B, C or D", None), ("A/B", None)),
        *(("The answer is B", None), ("1. B", None), ("É", None), ("В", None)),  # a Cyrillic letter at last
    ],
)
def test_a_choice_is_a_letter_by_itself_at_the_beginning(text, letter):
    assert read_choice(text) == (None if letter is None else LETTERS.index(letter))


@given(st.sampled_from(LETTERS), st.text(st.characters(categories=["L", "N"]), min_size=1), st.text())
def test_a_word_is_no_choice_whatever_it_begins_with(letter, more, rest):
    assert read_choice(letter + more + rest) is None


@given(st.sampled_from(LETTERS), st.text(st.sampled_from(" \n\t*([\"'`"), max_size=5), st.booleans())
def test_marks_before_a_letter_and_its_case_change_nothing(letter, marks, lower):
    assert read_choice(marks + (letter.lower() if lower else letter)) == LETTERS.index(letter)
