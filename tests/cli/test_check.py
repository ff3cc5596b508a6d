from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from sparring.cli.check import check_targets, fits, suggestion
from sparring.core.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "allowed", "verdict"),
    [
        (1, int, True),
        (True, int, False),  # a bool is an int to Python, not to a user
        (1.0, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        (None, float, False),
        (None, float | None, True),
        (None, None, True),
        ("same", Literal["disjoint", "same"], True),
        ("sane", Literal["disjoint", "same"], False),
        ("a", str | Sequence[str], True),
        (1, str | Sequence[str], False),
        (["a"], str | Sequence[str], True),
        (["a"], str, False),
        ([1], str | Sequence[str], False),
        ([True], Sequence[str], False),  # what YAML makes of an unquoted yes
        ([[0.5, 1], [0]], Sequence[Sequence[float]], True),
        ([[0.5, "1"]], Sequence[Sequence[float]] | None, False),
        ([{"_target_": "x"}], Sequence[Path], True),
        ({"a": 1}, Mapping[str, int], True),
        ({"_target_": "x"}, Path, True),  # a node, whose target tells what comes out
        ({"_target_": "x"}, int, False),
        ("x", Path, False),
        (None, Callable[[int], int], False),
        (3, Any, True),
    ],
)
def test_a_plain_value_fits_what_is_annotated(value, allowed, verdict):
    assert fits(value, allowed) is verdict


def test_nodes_are_checked_however_deep():
    tree = {"a": [{"_target_": "datetime.timedelta", "hours": 1}, {"b": {"_target_": "fractions.Fraction", "top": 1}}]}
    with pytest.raises(ConfigError, match=r"^a\[1\]\.b has no key 'top'; its keys are numerator, denominator"):
        check_targets(tree)


def test_a_target_that_is_no_name_is_refused_by_place():
    with pytest.raises(ConfigError, match=r"^objective\._target_ is 'no\.such\.thing', which cannot be imported\.$"):
        check_targets({"objective": {"_target_": "no.such.thing"}})


def test_a_list_is_refused_for_what_it_holds():
    node = {"_target_": "sparring.games.catalogue.table", "labels": ["a", "b"], "matrix": [[0.5, "x"], [0.5, 0.5]]}
    with pytest.raises(ConfigError, match=r"it must be a list of lists of numbers\.$"):
        check_targets(node, "games.one")
    with pytest.raises(ConfigError, match=r"^games\.one\.labels is \[1, 2\]; it must be a list of texts\.$"):
        check_targets(node | {"labels": [1, 2]}, "games.one")


def test_a_plain_value_in_the_place_of_an_object_is_told_what_belongs_there():
    node = {"_target_": "sparring.annotators.answer_book.SqliteBook", "path": "x", "payer": 3}
    with pytest.raises(ConfigError, match=r"^answers\.payer is 3; it must be a node with a _target_\.$"):
        check_targets(node, "answers")
    node = {"_target_": "sparring.annotators.judge.judge.LLMJudge", "prices": 3}
    with pytest.raises(ConfigError, match=r"^annotator\.prices is 3; it must be a node with a _target_ or null\.$"):
        check_targets(node, "annotator")


def test_what_stands_under_a_name_of_the_user_s_own_is_checked_too():
    node = {"_target_": "sparring.cli.preference_suite.evaluate_preference", "annotators": {"a": {}, "b": None, "c": 3}}
    with pytest.raises(ConfigError, match=r"^suite\.annotators\.c is 3; it must be a node with a _target_ or null\.$"):
        check_targets(node, "suite")
    with pytest.raises(ConfigError, match=r"^suite\.decodings\.b is None; it must be a node with a _target_\.$"):
        check_targets(node | {"annotators": {}, "decodings": {"a": {}, "b": None}}, "suite")


def test_a_target_that_takes_any_name_takes_any_name():
    check_targets({"_target_": f"{partial.__module__}.partial", "anything": 1})


def test_a_suggestion_is_the_closest_key_or_all_of_them():
    keys = ["num_generations", "temperature", "_partial_"]
    assert suggestion("num_generation", keys) == "; did you mean 'num_generations'?"
    assert suggestion("x", keys) == "; its keys are num_generations, temperature."
    assert suggestion("x", []) == "."
