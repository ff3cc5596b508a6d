import csv
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.analysis.comparison import Judged, compare
from sparring.analysis.length_control import fit_length_control, sized_comparisons
from sparring.analysis.payoff import Player
from sparring.core.errors import DataError
from sparring.core.preference import bradley_terry


def players(*labels):
    return [Player(label, "other", None) for label in labels]


def judged(scores, *, lengths=None, aspects=None, prompt="p"):
    """One response of each player, compared by the logistic function of its lead in score."""
    size = len(scores)
    members = tuple((place,) for place in range(size))
    win = bradley_terry(np.array(scores, dtype=float), 1.0)
    return Judged(prompt, win, members, tuple(lengths or [100] * size), aspects or {})


def drawn(seed):
    """Prompts on which each player has responses of its own number, at places in no order."""
    rng = np.random.default_rng(seed)
    count, made = rng.integers(2, 5), []
    for prompt in range(rng.integers(2, 7)):
        shares = rng.integers(1, 4, size=count)
        places = rng.permutation(shares.sum()).tolist()
        ends = shares.cumsum().tolist()
        members = tuple(tuple(places[end - share : end]) for share, end in zip(shares.tolist(), ends, strict=True))
        size = len(places)
        win = bradley_terry(rng.normal(size=size), 1.0)
        lengths = tuple(rng.integers(10, 300, size=size).tolist())
        aspects = {name: tuple(rng.random(size).tolist()) for name in ("plot", "style")}
        made.append(Judged(f"p{prompt}", win, members, lengths, aspects))
    return made, players(*"abcd"[:count])


# ---------------------------------------------------------------- figures


def test_two_prompts_are_compared_as_on_paper():
    win = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.6], [0.8, 0.4, 0.5]])
    first = Judged("p", win, ((0,), (1, 2)), (10, 20, 30), {"plot": (0.2, 0.6, 1.0)})
    second = Judged("q", win, ((0, 1), (2,)), (10, 20, 30), {"plot": (0.2, 0.6, 1.0)})
    found = compare([first, second], players("base", "new"), baseline="base", seed=0)
    # On p new wins 0.1 and 0.8, one of two; on q it wins 0.8 and 0.4, one of two.
    versus = found.versus["new"]
    assert versus.win_rate.win_rate == 0.5
    assert versus.win_rate.mean_probability == pytest.approx((0.45 + 0.6) / 2)
    assert found.payoff.win[1][0] == pytest.approx((0.45 + 0.6) / 2)
    assert versus.length_controlled is not None
    assert versus.length_controlled.raw_win_rate == pytest.approx((0.45 + 0.6) / 2)
    # plot: on p 0.2 against 0.8, on q 0.4 against 1.0; two prompts that agree leave no doubt of the lead.
    new, base = found.aspects["plot"]["new"], found.aspects["plot"]["base"]
    assert (base.value, new.value, new.difference) == pytest.approx((0.3, 0.9, 0.6))
    assert new.difference_ci95 == pytest.approx((0.6, 0.6))
    assert new.ci95 == pytest.approx((0.8, 1.0))
    assert (base.difference, base.difference_ci95, base.prompts) == (0.0, (0.0, 0.0), 2)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_figure_is_what_loops_over_prompts_and_responses_give(seed):
    prompts, who = drawn(seed)
    found = compare(prompts, who, baseline="b", seed=0)
    for i, player in enumerate(who):
        means, leads, chances, wins = [], [], [], []
        for each in prompts:
            own, other = each.members[i], each.members[1]
            means.append(sum(each.aspects["plot"][p] for p in own) / len(own))
            leads.append(means[-1] - sum(each.aspects["plot"][p] for p in other) / len(other))
            met = [each.win[p, q] for p in own for q in other]
            chances.append(sum(met) / len(met))
            wins.append(sum(1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0 for p in met) / len(met))
        mean = found.aspects["plot"][player.label]
        assert mean.value == pytest.approx(sum(means) / len(means))
        assert mean.difference == pytest.approx(sum(leads) / len(leads))
        assert mean.difference == pytest.approx(mean.value - found.aspects["plot"]["b"].value)
        assert found.payoff.win[i][1] == pytest.approx(sum(chances) / len(chances))
        if player.label != "b":
            assert found.versus[player.label].win_rate.win_rate == pytest.approx(sum(wins) / len(wins))
            assert found.versus[player.label].win_rate.mean_probability == pytest.approx(found.payoff.win[i][1])


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_players_changes_nothing(seed):
    prompts, who = drawn(seed)
    order = np.random.default_rng(seed).permutation(len(who)).tolist()
    turned = [replace(each, members=tuple(each.members[place] for place in order)) for each in prompts]
    one = compare(prompts, who, baseline="b", seed=3)
    other = compare(turned, [who[place] for place in order], baseline="b", seed=3)
    assert np.array(other.payoff.win) == pytest.approx(np.array(one.payoff.win)[np.ix_(order, order)])
    assert other.aspects["style"].keys() == one.aspects["style"].keys()
    for label, versus in one.versus.items():
        assert other.versus[label].win_rate == versus.win_rate
        assert versus.length_controlled is not None
        assert other.versus[label].length_controlled is not None
        assert other.versus[label].length_controlled.win_rate == pytest.approx(
            versus.length_controlled.win_rate, abs=1e-4
        )
        assert other.aspects["style"][label].ci95 == pytest.approx(one.aspects["style"][label].ci95)


def test_whoever_answers_as_the_baseline_does_is_its_equal():
    rng = np.random.default_rng(0)
    prompts = [
        judged([score, score, score + 1], lengths=[length, length, length + 40], aspects={"plot": (score, score, 0.0)})
        for score, length in zip(rng.normal(size=20).tolist(), rng.integers(50, 90, size=20).tolist(), strict=True)
    ]
    found = compare(prompts, players("base", "copy", "better"), baseline="base", seed=0)
    copy = found.versus["copy"]
    assert (copy.win_rate.win_rate, copy.win_rate.ci95) == (0.5, (0.5, 0.5))
    assert copy.length_controlled is not None
    assert copy.length_controlled.win_rate == pytest.approx(0.5, abs=1e-6)
    lead = found.aspects["plot"]["copy"]
    assert (lead.difference, lead.difference_ci95) == (0.0, (0.0, 0.0))


def test_a_lead_that_all_prompts_share_is_sure_however_much_the_prompts_differ():
    levels = np.random.default_rng(1).normal(size=60).tolist()
    prompts = [judged([0, 0], aspects={"plot": (level, level + 0.25)}) for level in levels]
    mean = compare(prompts, players("base", "new"), baseline="base", seed=0).aspects["plot"]["new"]
    assert mean.ci95[1] - mean.ci95[0] > 0.3  # 2 * 1.96 / sqrt(60) is 0.5
    assert mean.difference_ci95 == pytest.approx((0.25, 0.25))


def test_intervals_of_means_agree_with_the_normal_approximation():
    values = np.random.default_rng(2).normal(size=500)
    prompts = [judged([0, 0], aspects={"plot": (0.0, value)}) for value in values.tolist()]
    mean = compare(prompts, players("base", "new"), baseline="base", seed=0).aspects["plot"]["new"]
    half = 1.96 * values.std() / np.sqrt(500)
    assert mean.ci95 == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert mean.difference_ci95 == mean.ci95


def test_an_aspect_that_some_prompts_lack_is_a_mean_over_the_others():
    prompts = [judged([0, 0], aspects={"plot": (1.0, 0.0), "fluency": (0.5, 0.25)}), judged([0, 0]), judged([0, 0])]
    means = compare(prompts, players("base", "new"), baseline="base", seed=0).aspects
    assert {name: {each.prompts for each in by.values()} for name, by in means.items()} == {"plot": {1}, "fluency": {1}}
    assert means["fluency"]["new"].difference == -0.25


# ---------------------------------------------------------------- length control


def test_of_two_players_length_is_controlled_without_difficulties():
    rng = np.random.default_rng(3)
    sizes, leads = rng.integers(50, 200, size=(40, 2)).tolist(), rng.normal(0.4, 1.0, size=40).tolist()
    prompts = [judged([0, lead], lengths=size) for lead, size in zip(leads, sizes, strict=True)]
    found = compare(prompts, players("base", "new"), baseline="base", seed=0).versus["new"].length_controlled
    blocks = [each.win[1:, :1] for each in prompts]
    assert found == fit_length_control(sized_comparisons(blocks, [[n] for _, n in sizes], [[b] for b, _ in sizes]))
    assert found.difficulty == 0


def test_the_other_players_say_which_prompts_are_hard():
    rng = np.random.default_rng(4)
    hard, sizes = rng.normal(0, 1.5, size=200).tolist(), rng.integers(50, 200, size=(200, 3)).tolist()
    prompts = [judged([0, 0.3 - each, 0.1 - each], lengths=size) for each, size in zip(hard, sizes, strict=True)]
    found = compare(prompts, players("base", "new", "old"), baseline="base", seed=0).versus
    # Difficulties are shrunk towards 0, as their prior has it, so the coefficient is above 1.
    assert all(
        each.length_controlled is not None and each.length_controlled.difficulty > 0.9 for each in found.values()
    )


def test_equal_lengths_leave_the_mean_probability_and_one_difference_throughout_leaves_it_open():
    leads = np.random.default_rng(5).normal(0.4, 1.0, size=300).tolist()
    prompts = [judged([0, lead, lead], lengths=(100, 100, 180)) for lead in leads]
    found = compare(prompts, players("base", "new", "padded"), baseline="base", seed=0).versus
    equal = found["new"]
    assert equal.length_controlled is not None
    assert equal.length_controlled.win_rate == pytest.approx(equal.win_rate.mean_probability, abs=0.002)
    assert found["padded"].length_controlled is None


def test_a_player_whose_lengths_tell_nothing_is_left_out_of_the_others_difficulties():
    rng = np.random.default_rng(6)
    prompts = [
        judged([0, lead, 3], lengths=[100, size, 150])
        for lead, size in zip(rng.normal(size=30).tolist(), rng.integers(50, 200, size=30).tolist(), strict=True)
    ]
    found = compare(prompts, players("base", "new", "padded"), baseline="base", seed=0).versus
    assert found["padded"].length_controlled is None
    assert found["new"].length_controlled is not None
    assert found["new"].length_controlled.difficulty == 0


@pytest.mark.parametrize("prompts", [1, 2, 50])
def test_one_prompt_and_comparisons_that_are_all_won_are_measured(prompts):
    win = np.array([[0.5, 0.0, 0.0], [1.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
    made = [Judged(f"{n}", win, ((0,), (1,), (2,)), (50, 60 + n, 70 + 2 * n), {}) for n in range(prompts)]
    found = compare(made, players("base", "best", "good"), baseline="base", seed=0)
    for versus in found.versus.values():
        assert (versus.win_rate.win_rate, versus.win_rate.ci95) == (1.0, (1.0, 1.0))
        assert (versus.length_controlled is None) == (prompts == 1)
        assert versus.length_controlled is None or 0.5 < versus.length_controlled.win_rate < 1
    assert found.payoff.nash["all"].weights["best"] == pytest.approx(1)


def test_difficulties_by_the_other_models_bring_rates_of_alpaca_eval_closer_to_the_published_ones(shared):
    """GPT-4's judgements of models that were compared with one baseline; of each other they are not known, so 1/2."""
    data = shared / "data" / "alpaca_eval"
    with (data / "leaderboard_dev_models.csv").open() as file:
        published = {row[""]: row for row in csv.DictReader(file)}
    verdicts: dict[int, dict[str, tuple[float, int, int]]] = {}
    with gzip.open(data / "gpt4_turbo_annotations_compact.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            preference = float(row["preference"])
            win = 0.5 if preference == 0 else preference - 1
            lengths = int(row["len_model"]), int(row["len_reference"])
            verdicts.setdefault(int(row["row"]), {})[row["model"]] = (win, *lengths)
    complete = [name for name in published if all(name in said for said in verdicts.values())]

    def error(controlled, name):
        assert 100 * controlled.raw_win_rate == pytest.approx(float(published[name]["win_rate"]), abs=1e-6)
        return abs(100 * controlled.win_rate - float(published[name]["length_controlled_winrate"]))

    def alone(name):
        win, model, baseline = zip(*(said[name] for said in verdicts.values()), strict=True)
        blocks = np.array(win)[:, None, None]
        return fit_length_control(sized_comparisons(blocks, [[n] for n in model], [[n] for n in baseline]))

    prompts = []
    for number, said in verdicts.items():
        win = np.full((12, 12), 0.5)
        win[1:, 0] = [said[name][0] for name in complete]
        win[0, 1:] = 1 - win[1:, 0]
        lengths = (said[complete[0]][2], *(said[name][1] for name in complete))
        prompts.append(Judged(str(number), win, tuple((place,) for place in range(12)), lengths, {}))
    found = compare(prompts, players("baseline", *complete), baseline="baseline", seed=0).versus
    among_all = [error(versus.length_controlled, name) for name, versus in found.items()]
    assert np.mean(among_all) == pytest.approx(3.7, abs=0.1)
    assert np.mean([error(alone(name), name) for name in complete]) == pytest.approx(8.7, abs=0.1)


# ---------------------------------------------------------------- players and files


def test_recorded_outputs_alone_are_a_game_without_rounds():
    found = compare([judged([0, 1])], players("base", "new"), baseline="base", seed=0).payoff
    assert found.nash.keys() == {"all"}
    assert found.exploitability.keys() == {"all"}
    assert (found.mixtures, found.improvement) == ({}, [])


def test_a_comparison_survives_json_and_the_baseline_may_be_alone():
    prompts = [judged([0.0, 1.0], aspects={"plot": (0.0, 1.0)})] * 3
    written = compare(prompts, players("base", "new"), baseline="base", seed=0).to_dict()
    read = json.loads(json.dumps(written, allow_nan=False))
    assert read["versus"]["new"]["win_rate"]["prompts"] == 3
    alone = compare([judged([0.0])], players("base"), baseline="base", seed=0)
    assert (alone.versus, alone.payoff.win) == ({}, [[0.5]])


@pytest.mark.parametrize(
    ("prompts", "baseline", "sentence"),
    [
        ([], "base", r"^no prompt was judged, .*\.$"),
        ([judged([0, 1])], "bsae", r"^the baseline 'bsae' is none of the players: name one of base, new\.$"),
        ([replace(judged([0, 1], prompt="x7"), members=((0, 1), ()))], "base", r"^prompt x7 has no response of new:"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(prompts, baseline, sentence):
    with pytest.raises(DataError, match=sentence):
        compare(prompts, players("base", "new"), baseline=baseline, seed=0)
