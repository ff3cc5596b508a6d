import json

import numpy as np
import pytest
from rich.console import Console

from sparring.analysis.comparison import Judged, compare
from sparring.analysis.payoff import Player
from sparring.cli.comparison_tables import aspects_table, notes, payoff_table, policies_tables
from sparring.cli.tables import print_whole
from sparring.core.preference import bradley_terry

FREE = {"calls": 9, "prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0, "cached": 0}
PAID = {"calls": 1200, "prompt_tokens": 5000, "completion_tokens": 70, "cost": 1.5, "cached": 4}


def policy(label, **figures):
    known = {"tokens": 61.25, "computed": 306.5, "characters": 1240.4, "seconds": 0.01234, "ended": 0.5}
    named = {"label": label, "place": label, "decoding": None, "rounds": None, "expense": FREE, "tokenizer": None}
    return named | known | figures


def compared(labels, *, prompts=3, aspects=("plot",), lacking=0):
    """Each policy beats the ones before it, by as much on every prompt; `lacking` prompts have no aspects."""
    size = len(labels)
    win = bradley_terry(np.arange(size) / 4, 1.0)
    members = tuple((place,) for place in range(size))
    marks = {name: tuple(place / 8 for place in range(size)) for name in aspects}
    judged = [
        Judged(f"{n}", win, members, tuple(range(100 + n, 100 + n + size)), marks if n >= lacking else {})
        for n in range(prompts)
    ]
    players = [Player(label, "other", None) for label in labels]
    about = {"expense": FREE, "unjudged": {}, "chose_for": []}
    return compare(judged, players, baseline=labels[0], seed=0).to_dict() | about


def summary(labels, annotators=("panel",), policies=None, **options):
    """As it is read back from the file."""
    comparison = compared(labels, **options)
    return json.loads(
        json.dumps(
            {
                "prompts": 3,
                "samples": 1,
                "trained_on": {},
                "baseline": labels[0],
                "policies": policies or [policy(label) for label in labels],
                "annotators": dict.fromkeys(annotators, comparison),
            }
        )
    )


def printed(table, capsys):
    print_whole(Console(width=150), table)
    return capsys.readouterr().out


def row(text, label):
    [line] = [line for line in text.splitlines() if line.strip().startswith(label)]
    return line.strip().removeprefix(label).split()


def test_a_policy_has_its_win_rate_and_what_its_responses_cost_in_one_row(capsys):
    said = printed(policies_tables(summary(["base", "new [b]"]))[0], capsys)
    assert "3 prompts; win rate against base" in said
    # 1 / (1 + exp(-1/4)) is 0.562; its response is the longer by one on every prompt, so length control has no say.
    figures = ["61.2", "306.5", "1,240", "50.0%", "0.0123"]
    assert row(said, "new [b]") == ["1.000", "[1.000,", "1.000]", "0.562", "-", *figures]
    assert row(said, "base") == ["-", "-", "-", *figures]
    assert "cost" not in said


def test_what_nobody_knows_is_a_dash_and_costs_have_a_column_where_there_are_some(capsys):
    unknown = policy("gpt", tokens=None, computed=None, seconds=None, expense=FREE | {"cost": 0.004})
    said = printed(policies_tables(summary(["base", "gpt"], policies=[policy("base"), unknown]))[0], capsys)
    assert row(said, "gpt")[-6:] == ["-", "-", "1,240", "50.0%", "-", "0.004"]
    assert row(said, "base")[-2:] == ["0.0123", "-"]


def test_length_controlled_rates_stand_beside_the_mean_probability(capsys):
    read = summary(["base", "new"])
    read["annotators"]["panel"]["versus"]["new"]["length_controlled"] = {"win_rate": 0.4321}
    assert row(printed(policies_tables(read)[0], capsys), "new")[3:5] == ["0.562", "0.432"]


def test_more_annotators_than_two_go_on_in_further_tables():
    read = summary(["base", "new"], ("panel", "fluency", "judge"))
    first, second = policies_tables(read)
    assert [len(table.columns) for table in (first, second)] == [1 + 2 * 3 + 5, 1 + 3]
    assert "fluency" in str(first.columns[4].header)
    assert "judge" in str(second.columns[1].header)


def test_a_dozen_policies_under_two_annotators_fit_150_columns_and_are_whole(capsys):
    labels = ["base", *(f"stories_dno round {n} + principle"[:24] for n in range(11))]
    labels = [f"{label} {n}" if n else label for n, label in enumerate(labels)]
    aspects = ("uses_words", "ends_properly", "no_repetition", "asked_length", "varied_vocabulary", "keeps_hero")
    read = summary(labels, ("panel", "fluency"), aspects=aspects)
    read["policies"][0]["expense"] = PAID
    for table in (*policies_tables(read), aspects_table(read, "panel"), payoff_table(read, "fluency")):
        said = printed(table, capsys)
        assert max(map(len, said.splitlines())) <= 150
        assert "…" not in said
        assert all(label in said for label in labels)


def test_aspects_have_means_and_leads_over_the_baseline(capsys):
    read = summary(["base", "new", "better"], aspects=("plot", "style"), lacking=1)
    said = printed(aspects_table(read, "panel"), capsys)
    assert "aspects by panel: mean, lead over base and its 95% interval" in " ".join(said.split())
    assert row(said, "(2 prompts)") == ["(2", "prompts)"]  # of both aspects, for the third prompt had none
    assert row(said, "base") == ["0.000", "-", "0.000", "-"]
    assert row(said, "better") == ["0.250", "+0.250", "0.250", "+0.250"]
    assert said.count("[+0.125, +0.125]") == said.count("[+0.250, +0.250]") == 2


def test_the_payoff_matrix_counts_its_columns_and_marks_what_is_decided(capsys):
    said = printed(payoff_table(summary(["base", "new", "better"]), "panel"), capsys)
    # 1 / (1 + exp(-1/2)) is 0.622, and 2 * 0.622 - 1 the most that anybody wins against base.
    assert row(said, "1 base") == ["-", "0.44*", "0.38*", "0.00", "0.245", "[0.245,", "0.245]", "3"]
    assert row(said, "3 better") == ["0.62*", "0.56*", "-", "1.00", "0.000", "[0.000,", "0.000]", "-"]


def test_a_payoff_whose_interval_holds_one_half_has_no_mark(capsys):
    read = summary(["base", "new"])
    payoff = read["annotators"]["panel"]["payoff"]
    payoff["ci95_low"][1][0], payoff["ci95_high"][0][1] = 0.5, 0.5
    assert "*" not in printed(payoff_table(read, "panel"), capsys).partition("\n")[2]


def test_a_remark_says_whose_tokens_are_not_the_same():
    def remarks(*tokenizers):
        labels = ["base", "b", "c", "d"][: len(tokenizers)]
        counted = [policy(label, tokenizer=one) for label, one in zip(labels, tokenizers, strict=True)]
        return notes(summary(labels, policies=counted))[1:]

    assert remarks("x", "x", None) == remarks(None, None) == []
    assert remarks("x", "y", None, "x") == [
        "tokens are not comparable between policies whose tokenizers differ (base, d; b); characters are."
    ]


@pytest.mark.parametrize("paid", [False, True])
def test_notes_tell_what_was_not_judged_and_what_was_asked(paid):
    read = summary(["base", "new"], ("panel", "judge"))
    read["annotators"]["judge"] |= {"unjudged": {"unreadable": 2, "too long": 1}, "expense": PAID if paid else FREE}
    first, *further = notes(read)
    assert "same length" in first
    assert further == [
        "judge has not judged 3 of 3 prompts: unreadable 2, too long 1",
        *(
            ["judge: 1,200 calls, 4 of them answered before; 5,000 prompt and 70 answer tokens, worth 1.50"]
            if paid
            else []
        ),
    ]


def test_who_was_chosen_by_an_annotator_is_named_beside_its_figures():
    read = summary(["base", "best"], ("panel", "fluency"))
    read["annotators"]["panel"] |= {"chose_for": ["best", "told best"]}
    [said] = notes(read)[1:]
    assert said.startswith("panel has chosen what best, told best said: ahead by it")


def test_who_was_trained_on_the_prompts_is_said():
    read = summary(["base", "new"]) | {"trained_on": {"new": 2, "old": None}}
    lines = notes(read)
    assert "new was trained on 2 of these 3 prompts: give held-out ones" in lines
    assert "whether old was trained on these prompts is not known: its own cannot be read here" in lines
