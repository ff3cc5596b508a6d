"""`sparring report DIR...`: runs joined into one table of arms, and drawn over what they cost."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rich import box
from rich.console import Console
from rich.table import Table

from sparring.analysis.study import (
    PAID,
    RESOURCES,
    Estimate,
    Point,
    Row,
    Run,
    Which,
    by_arm,
    check,
    compare,
    curve,
    difference,
    verdict,
)
from sparring.cli.study_runs import Claim, Study, find_runs, read_run, read_study
from sparring.cli.tables import money, print_whole
from sparring.core.errors import ConfigError, SparringError
from sparring.core.files import require_writable

USAGE = """usage: sparring report DIR ... [KEY=VALUE ...]

  DIR                  a run, or a folder of runs

  baseline=ARM         the arm that others are compared to, seed by seed and prompt by prompt
  annotator=first      or second: the one that nothing is trained on; with first, both are shown where there are two
  round=last           or a number, counted from 0
  plot=FILE.png        win rates over what they cost
  x=tokens             what the plot counts: pairs | steps | tokens | judge_calls | evaluation_calls | seconds, and
                       where a judge counts tokens or is paid judge_tokens | answered_before | cost | evaluation_cost
"""
COSTS = {  # of RESOURCES, in the order in which they stand
    "pairs": "pairs",
    "steps": "steps",
    "tokens": "tokens",
    "judge_calls": "judge calls",
    "answered_before": "answered before",
    "judge_tokens": "judge tokens",
    "cost": "cost",
    "evaluation_calls": "to measure",
    "evaluation_cost": "cost to measure",
    "seconds": "seconds",
}
WIDTH = 150  # columns that the table takes where it cannot ask a terminal


@dataclass(frozen=True, slots=True)
class Options:
    places: tuple[Path, ...]
    baseline: str | None = None
    annotator: Which = "first"
    round: int | None = None  # None: each run's last
    plot: Path | None = None
    x: str = "tokens"


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    try:
        report(parse(arguments))
    except SparringError as error:
        print(f"sparring: {error}", file=sys.stderr)
        sys.exit(2)


def parse(arguments: Sequence[str]) -> Options:
    keys = ("baseline", "annotator", "round", "plot", "x")
    given: dict[str, str] = {}
    places: list[Path] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or Path(argument).exists():
            places.append(Path(argument))
        elif key not in keys or not value:
            known = ", ".join(keys)
            raise ConfigError(f"the argument {argument!r} cannot be read; write KEY=VALUE with one of {known}.")
        else:
            given[key] = value
    if not places:
        raise ConfigError("a report needs a run or a folder of runs; see sparring report --help.")
    which, resource, index = given.get("annotator", "first"), given.get("x", "tokens"), given.get("round", "last")
    if which not in get_args(Which):
        raise ConfigError(f"annotator is {which!r}; it must be first or second.")
    if resource not in RESOURCES:
        raise ConfigError(f"x is {resource!r}; it must be one of {', '.join(RESOURCES)}.")
    if "x" in given and "plot" not in given:
        raise ConfigError("x says what a plot counts; add plot=FILE.png.")
    if index != "last" and not index.isdecimal():
        raise ConfigError(f"round is {index!r}; it must be last, or a number from 0.")
    return Options(
        places=tuple(places),
        baseline=given.get("baseline"),
        annotator="first" if which == "first" else "second",
        round=None if index == "last" else int(index),
        plot=Path(given["plot"]) if "plot" in given else None,
        x=resource,
    )


def report(options: Options) -> None:
    directories = find_runs(options.places)
    study = read_study(directories)
    runs = [read_run(directory) for directory in directories]
    check(runs)
    arms = by_arm(runs)
    baseline = options.baseline
    if baseline is None and study is not None and study.baseline in arms:
        baseline = study.baseline
    out = _console()
    for which in _shown(runs, options.annotator):
        rows = compare(runs, baseline=baseline, which=which, index=options.round)
        print_whole(out, _table(rows, baseline, title=_title(study, which)))
        if study is not None and study.claims:
            out.print(_claims(study.claims, arms, which, options.round))
    for line in _explained(runs, arms, options.round):
        out.print(line, highlight=False, soft_wrap=True)
    if options.plot is not None:
        if options.x in PAID and not _counts(runs, options.x):
            raise ConfigError(f"no run has any {options.x} to be drawn over; choose another x.")
        curves = {arm: curve(each, resource=options.x, which=options.annotator) for arm, each in arms.items()}
        _draw(curves, options.x, options.plot)
        out.print(f"drawn: {options.plot}", highlight=False, soft_wrap=True)


def _shown(runs: Iterable[Run], asked: Which) -> tuple[Which, ...]:
    """Over-optimisation shows without being asked for."""
    measured = (stage.outcomes for run in runs for stage in run.stages.values())
    return ("first", "second") if asked == "first" and all("second" in each for each in measured) else (asked,)


def _console() -> Console:
    plain = Console()
    return plain if plain.is_terminal else Console(width=WIDTH)


def _title(study: Study | None, which: Which) -> str:
    by = "" if which == "first" else " by the second annotator, which nothing was trained on"
    return f"{'' if study is None else f'{study.name}: '}held-out win rate against the base policy{by}"


def _counts(runs: Iterable[Run], resource: str) -> bool:
    return any(stage.spent[resource] for run in runs for stage in run.stages.values())


def _table(rows: Sequence[Row], baseline: str | None, *, title: str) -> Table:
    """What is paid for has columns where a judge was: its tokens, and its cost where it has a price."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("arm", no_wrap=True)
    against = [] if baseline is None else [f"minus {baseline}"]
    shown = [name for name in COSTS if name not in PAID or any(row.spent[name] for row in rows)]
    costs = [COSTS[name] for name in shown]
    for column in ("seeds", "rounds", "win rate", *against, "length", "KL", *costs):
        table.add_column(column, justify="right", overflow="fold", no_wrap=column in ("win rate", *against))
    for row in rows:
        apart = [] if baseline is None else ["" if row.difference is None else _signed(row.difference)]
        table.add_row(
            row.arm,
            str(len(row.seeds)),
            "-".join(map(str, sorted(set(row.rounds)))),
            _interval(row.win_rate),
            *apart,
            f"{row.length:.1f}",
            "-" if row.kl is None else f"{row.kl:.2f}",
            *(money(row.spent[name]) if "cost" in name else f"{row.spent[name]:,.0f}" for name in shown),
        )
    return table


def _claims(claims: Iterable[Claim], arms: dict[str, list[Run]], which: Which, index: int | None) -> Table:
    table = Table(title="claims" if which == "first" else "claims, by the second annotator", box=box.SIMPLE_HEAD)
    for column in ("claim", "arm", "against", "difference", "here"):
        table.add_column(column)
    for claim in claims:
        cells = ["", "not run"]
        if claim.arm in arms and claim.against in arms:
            found = difference(arms[claim.arm], arms[claim.against], which=which, index=index)
            cells = [_signed(found, digits=3), verdict(found)]
        table.add_row(claim.claim, claim.arm, claim.against, *cells)
    return table


def _explained(runs: Sequence[Run], arms: dict[str, list[Run]], index: int | None) -> Iterator[str]:
    drawn = "seeds, then prompts" if len(runs) > len(arms) else "prompts; one seed says nothing of others"
    yield f"In brackets: 95% intervals (bootstrap over {drawn}). Differences are taken on the same seeds and prompts."
    if index is None and len(rounds := sorted({len(run.stages) for run in runs})) > 1:
        yield (
            f"Not all runs have as many rounds ({' or '.join(map(str, rounds))}): each stands as it was after its "
            "last; round=N compares them after the same."
        )
    yield "Means per run, summed over its rounds. Length: tokens per response. KL: to the base policy, in nats."
    if any(not stage.spent["steps"] for run in runs for stage in run.stages.values()):
        yield "An arm without steps trains nothing: tokens, judge calls and seconds are those of its held-out answers."
    yield "Seconds: without measuring, whose judge calls stand under 'to measure'. What was recorded is free."
    if _counts(runs, "judge_tokens"):
        yield (
            "Judge calls, tokens and cost: of all answers used, what they are worth whoever paid for them; answered "
            "before: how many of these calls cost nothing, as their answers were kept."
        )


def _interval(found: Estimate) -> str:
    return f"{found.mean:.3f} [{found.ci95[0]:.2f}, {found.ci95[1]:.2f}]"


def _signed(found: Estimate, digits: int = 2) -> str:
    return f"{found.mean:+.3f} [{found.ci95[0]:+.{digits}f}, {found.ci95[1]:+.{digits}f}]"


def _draw(curves: dict[str, list[Point]], resource: str, path: Path) -> None:
    from sparring.analysis.study_plot import draw_curves  # matplotlib takes a second to import

    require_writable(path, "plot")
    draw_curves(curves, x=resource.replace("_", " "), path=path)
