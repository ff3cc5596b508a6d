"""`sparring calibrate annotator=NAME data=PATH`: is this annotator any good? It is asked what others have judged.

    sparring calibrate annotator=pair_ranker annotator.path=DIR data=preferences.jsonl plot=reliability.png
    sparring calibrate data=preferences.jsonl

The annotator is configured as in `sparring train`; without one the raters are measured among themselves. Rows of the
data are {"prompt": ..., "response_a": ..., "response_b": ..., "raters": {"ann": "a", "bob": "tie"}}, or come as several
known data sets have them: see src/sparring/data/judged_formats.py.

    format=auto      or the name of a format
    limit=N          only the first N prompts
    plot=FILE.png    the reliability diagram
    dry_run=true     say what asking would take, and ask nothing

budget.max_cost, budget.max_calls and answers.path are those of `sparring train`; a limit is for one model and one file
of data, and what was answered before is free, so the same command goes on after a pause or a kill.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sparring.analysis.calibration import Reliability, majority, reliability
from sparring.analysis.resampling import resampling
from sparring.cli.calibration_judges import Asked, ask, comparisons_of, foreseen, raters_of
from sparring.cli.calibration_tables import agreement_table, errors, habits_table, reliability_table
from sparring.cli.check import check_targets
from sparring.cli.expenses import ESTIMATED, check_budget, expense_table, paid, tight
from sparring.cli.explain import one_sentence
from sparring.cli.parts import Parts
from sparring.cli.tables import console, described, print_whole
from sparring.cli.train import conf_directory
from sparring.core.answers import Expense, canonical
from sparring.core.errors import ConfigError
from sparring.core.files import require_writable, sha256
from sparring.core.protocols import Annotator, Checkable
from sparring.data.judged_formats import JudgedPair
from sparring.data.judged_pairs import judged_pairs

SEED = 0  # of the intervals
WIDTH = 150  # columns that the tables take where they cannot ask a terminal
NOTES = (
    "In brackets: 95% intervals (bootstrap over prompts). Ties agree with ties only; decided: neither side says tie. "
    "Kappa: Cohen's, over a, b and tie.\n"
    "A majority is the verdict that leads alone; that of all but one rater, each left out in turn, is what a rater is "
    "measured by too. Several verdicts of one rater on one comparison are averaged.\n"
    "First shown, longer (in characters): how often it wins, ties half. Length correlation: of verdicts (1, 0, -1) "
    "with the logarithm of the ratio of lengths.\n"
    "Changed, reversed: of the comparisons shown in both orders. Circles: of the triads of responses whose three "
    "comparisons have a winner. A dash: cannot be measured here."
)


@dataclass(frozen=True, slots=True)
class Options:
    data: Path
    format: str = "auto"
    limit: int | None = None
    plot: Path | None = None
    dry_run: bool = False
    annotator: tuple[str, ...] = ()  # overrides of Hydra's


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    with one_sentence():
        calibrate(parse(arguments))


def parse(arguments: Sequence[str]) -> Options:
    keys = ("data", "format", "limit", "plot", "dry_run")
    given: dict[str, str] = {}
    overrides: list[str] = []
    said: set[str] = set()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in said and "." not in key:  # of an annotator's own keys the last one counts, as in all of Hydra
            raise ConfigError(f"{key} is given twice; leave one out.")
        said.add(key)
        if re.match(r"[+~]*(annotator|budget|answers)($|[.@])", key):
            overrides.append(argument)
        elif key in keys and equals and value:
            given[key] = value
        else:
            raise ConfigError(
                f"the argument {argument!r} cannot be read; give annotator=NAME, annotator.KEY=VALUE, or KEY=VALUE "
                f"with one of {', '.join(keys)}."
            )
    if "data" not in given:
        raise ConfigError("there is nothing to compare with; give data=PATH, a file of recorded preferences.")
    named = [override for override in overrides if override.startswith("annotator=")]
    if overrides and not named:
        raise ConfigError(f"{overrides[0]} configures no annotator; add annotator=NAME.")
    asked = named != ["annotator=null"]
    if not (named and asked) and "plot" in given:
        raise ConfigError("a plot shows how far an annotator's probabilities can be trusted; add annotator=NAME.")
    if not (named and asked) and "dry_run" in given:
        raise ConfigError("a dry run says what asking an annotator would take; add annotator=NAME.")
    if given.get("dry_run", "true") not in ("true", "false"):
        raise ConfigError(f"dry_run is {given['dry_run']!r}; it must be true or false.")
    if "plot" in given and not given["plot"].endswith(".png"):
        raise ConfigError(f"plot is {given['plot']}; give it a name that ends in .png.")
    limit = given.get("limit")
    if limit is not None and not (limit.isdecimal() and int(limit) > 0):
        raise ConfigError(f"limit is {limit!r}; it must be a number of prompts, 1 or more.")
    return Options(
        data=Path(given["data"]).expanduser(),
        format=given.get("format", "auto"),
        limit=None if limit is None else int(limit),
        plot=Path(given["plot"]).expanduser() if "plot" in given else None,
        dry_run=given.get("dry_run") == "true",
        annotator=tuple(overrides) if asked else (),
    )


def calibrate(options: Options) -> None:
    pairs = _limited(judged_pairs(options.data, options.format), options.limit)
    title = f"{options.data.name}: {_counted(pairs)}"
    annotator, name, limits = _annotator(options) if options.annotator else (None, "", {})
    out = console(WIDTH)
    if annotator is not None and options.dry_run:
        expense = foreseen(annotator, pairs)
        out.print(expense_table(f"{title}; what asking would take", {name: expense}))
        for line in (ESTIMATED, *tight(limits, expense)):
            out.print(line, highlight=False, soft_wrap=True)
        return
    asked = None if annotator is None else _ask(annotator, name, pairs, options.plot)
    comparisons, raters = comparisons_of(pairs), raters_of(pairs)
    draw = resampling(comparisons.prompt, seed=SEED)
    out.print(title, highlight=False, markup=False)
    judge = None if asked is None else asked.judge
    if judge is not None or raters.count > 1:
        print_whole(out, agreement_table(judge, raters, draw))
    print_whole(out, habits_table(judge, raters, comparisons, draw))
    found = None if judge is None else reliability(judge, majority(raters.votes), draw)
    if found is not None:
        print_whole(out, reliability_table(found))
        out.print(errors(found), highlight=False, markup=False, soft_wrap=True)
    for line in (*_missing(pairs), *([] if asked is None else _spent(asked))):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    out.print(NOTES, highlight=False, markup=False, soft_wrap=True)
    if options.plot is not None:
        _draw(found, name, options.plot)
        out.print(f"drawn: {options.plot}", highlight=False, markup=False, soft_wrap=True)


def _counted(pairs: Sequence[JudgedPair]) -> str:
    prompts, raters = {pair.prompt.id for pair in pairs}, {ballot.rater for pair in pairs for ballot in pair.ballots}
    return f"{len(pairs):,} comparisons, {len(prompts):,} prompts, raters: {len(raters):,}"


def _ask(annotator: Annotator, name: str, pairs: Sequence[JudgedPair], plot: Path | None) -> Asked:
    """What can be known to fail is found before anything is asked, as in `sparring train`."""
    if plot is not None:
        require_writable(plot, "plot")
    if isinstance(annotator, Checkable):
        annotator.check()
    return ask(annotator, name, pairs)


def _annotator(options: Options) -> tuple[Annotator, str, dict[str, Any]]:
    """The configured annotator, what its option is called, and what it may spend."""
    name = next(each for each in options.annotator if each.startswith("annotator=")).removeprefix("annotator=")
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        composed = compose("train", ["run_name=calibrate", *options.annotator])
    for key in sorted(OmegaConf.missing_keys(composed.annotator)):
        raise ConfigError(f"{key} must be given: add {key}=VALUE.")
    cfg: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # pyright: ignore[reportAssignmentType]
    check_targets({part: cfg[part] for part in ("answers", "budget", "annotator")})
    check_budget(cfg)
    models = [node.get("model") for _, node in paid(cfg["annotator"])]
    payer = canonical({"calibrate": name, "models": models, "data": sha256(options.data)})
    return Parts(cfg, payer=lambda: payer).make(cfg["annotator"]), name, cfg["budget"]


def _limited(pairs: Sequence[JudgedPair], prompts: int | None) -> list[JudgedPair]:
    """Those of the first prompts, the comparisons of a prompt beside each other."""
    found: dict[str, list[JudgedPair]] = defaultdict(list)
    for pair in pairs:
        found[pair.prompt.id].append(pair)
    return [pair for each in list(found.values())[:prompts] for pair in each]


# ---------------------------------------------------------------- what is said below the tables


def _missing(pairs: Sequence[JudgedPair]) -> list[str]:
    said = Counter(ballot.rater for pair in pairs for ballot in pair.ballots)
    none = Counter(ballot.rater for pair in pairs for ballot in pair.ballots if ballot.win is None)
    return [f"{rater}: {count:,} of {said[rater]:,} recorded answers hold no verdict" for rater, count in none.items()]


def _spent(asked: Asked) -> list[str]:
    lines = [
        f"{asked.judge.name}: no verdict on {count:,} of {len(asked.judge.win):,} comparisons, reason: {reason}"
        for reason, count in asked.unjudged.items()
    ]
    spent = sum((each.expense for each in asked.judgements), Expense())
    return [*lines, f"{asked.judge.name}: {described(spent)}"] if spent.prompt_tokens else lines


def _draw(found: Reliability | None, name: str, path: Path) -> None:
    if found is None:
        raise ConfigError(f"there is nothing to draw for {name}, as it judged no comparison that has a winner.")
    from sparring.analysis.calibration_picture import draw_reliability  # matplotlib takes a second to import

    draw_reliability(found, name, path)
