"""What `sparring calibrate` has found, as tables for a terminal."""

from collections.abc import Sequence
from itertools import product

from rich import box
from rich.markup import escape
from rich.table import Table

from sparring.analysis.calibration import (
    Comparisons,
    Judge,
    Reliability,
    against_the_others,
    agreement,
    among_each_other,
    habits,
    majority,
)
from sparring.analysis.resampling import Estimate, Resampling

NAMED = 4  # raters that get rows and columns of their own; of more, only what they have in common is shown
HABITS = {
    "ties": "tied",
    "first shown wins": "first",
    "changed by the order": "changed",
    "reversed by the order": "reversed",
    "longer wins": "longer",
    "circles of three": "cyclic",
}


def agreement_table(annotator: Judge | None, raters: Sequence[Judge], draw: Resampling) -> Table:
    table = _table("agreement", ("", "with"), ("comparisons", "all", "decided", "kappa"))
    for one, other, pairs in _questions(annotator, raters):
        found = agreement(pairs, draw)
        if found.all is not None:
            table.add_row(
                escape(one),
                escape(other),
                f"{found.all.count:,}",
                *map(_interval, (found.all, found.decided, found.kappa)),
            )
    return table


def _questions(
    annotator: Judge | None, raters: Sequence[Judge]
) -> list[tuple[str, str, Sequence[tuple[Judge, Judge]]]]:
    several, named = len(raters) > 1, raters if len(raters) <= NAMED else []
    rows: list[tuple[str, str, Sequence[tuple[Judge, Judge]]]] = []
    if annotator is not None:
        if several:
            rows.append((annotator.name, "majority of raters", [(annotator, majority(raters))]))
            rows.append((annotator.name, "one rater, mean", list(product([annotator], raters))))
        rows += [(annotator.name, rater.name, [(annotator, rater)]) for rater in named]
    if several:
        others = against_the_others(raters)
        rows.append(("one rater, mean", "majority of others", others))
        rows.append(("one rater, mean", "another rater", among_each_other(raters)))
        rows += [(pair[0].name, "majority of others", [pair]) for pair in others if pair[0] in named]
    return rows


def habits_table(annotator: Judge | None, raters: Sequence[Judge], comparisons: Comparisons, draw: Resampling) -> Table:
    judges = [*([] if annotator is None else [annotator]), *(raters if len(raters) <= NAMED else [])]
    if len(raters) > 1:
        judges.append(majority(raters))
    table = _table("habits", ("",), [escape(judge.name) for judge in judges])
    found = [habits(judge, comparisons, draw) for judge in judges]
    table.add_row("verdicts", *(f"{each.verdicts:,}" for each in found))
    for title, name in HABITS.items():
        table.add_row(title, *(_interval(getattr(each, name)) for each in found))
    return table


def reliability_table(found: Reliability) -> Table:
    """By how probable the annotator calls its winner, against the majority where that has a winner."""
    table = _table("reliability", (), ("gives its winner", "is right", "comparisons"))
    for each in found.bins:
        table.add_row(f"{each.confidence:.3f}", _interval(each.right), f"{each.count:,}")
    return table


def errors(found: Reliability) -> str:
    return (
        f"Brier {_interval(found.brier)} (a coin: 0.250), log loss {_interval(found.log_loss)} (a coin: 0.693), "
        f"expected calibration error {_interval(found.error)}"
    )


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _interval(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.3f} [{found.ci95[0]:.3f}, {found.ci95[1]:.3f}]"
