"""`sparring evaluate suite=preference`: any policies answer the same prompts, and annotators say whose answers win."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from sparring.analysis.comparison import compare
from sparring.analysis.payoff_picture import draw_payoff
from sparring.annotators.ensemble import Ensemble
from sparring.annotators.one_draw import OneDraw
from sparring.cli.comparison_tables import aspects_table, notes, payoff_table, policies_tables
from sparring.cli.duties import Duty, check_reader
from sparring.cli.entrants import Node, entrants_of, is_recorded, recorded_outputs
from sparring.cli.expenses import ESTIMATED, check_budget, expense_table, tight
from sparring.cli.make import make
from sparring.cli.parts import Parts
from sparring.cli.policies import Source, is_decoding, snapshots
from sparring.cli.saved_config import answering, saved_part
from sparring.cli.tables import console, print_whole
from sparring.core.answers import Expense
from sparring.core.errors import ConfigError, SparringError
from sparring.core.files import write_json
from sparring.core.protocols import Annotator, Checkable, Estimates, NeedsPolicy, PromptSource, Reader
from sparring.core.seeding import derive_seed
from sparring.core.types import Prompt
from sparring.data.rounds import write_parquet
from sparring.data.schema import POLICY_OUTCOMES, RESPONSES
from sparring.data.words import TargetWords
from sparring.rollout.best_of import BestOfSampler
from sparring.rollout.entrants import Entrant, Foreseen, PolicyEntrant
from sparring.rollout.field import Field

LONG = "Every response is taken to be as long as max_new_tokens allows; those that are known, as long as they are."


def evaluate_preference(
    sources: Sequence[Source],
    *,
    output: Path,
    seed: int,
    answers: Node,
    budget: Node,
    prompts: Node | None,
    limit: int | None,
    annotators: Mapping[str, Node | None],
    baseline: str | None,
    sampler: Node,
    decodings: Mapping[str, Node],
    endpoint: Node | None,
    questions: str | None,
    load_model: Node,
    chunk_size: int,
    dry_run: bool,
) -> None:
    """Documented in conf/suite/preference.yaml.

    Writes `answers/POLICY/`, `judgements/ANNOTATOR-.../`, `responses.parquet`, a `payoff-ANNOTATOR.png` each and, last,
    `summary.json`.
    """
    named = {name: dict(node) for name, node in annotators.items() if node is not None}
    if not named:
        raise ConfigError("suite.annotators has none; add one, as +annotator@suite.annotators.judge=llm_judge.")
    cfg = {"answers": answers, "budget": budget, "suite": {"annotators": named, "decodings": decodings}}
    check_budget(cfg)
    # One that chooses and judges is there once: it may hold a model.
    parts = Parts(cfg, payer=partial(str, output.resolve()), further=named.values())
    asked = drawn(prompts_of(prompts, sources, questions), limit)
    entrants = entrants_of(
        sources,
        parts=parts,
        load_model=load_model,
        sampler=sampler,
        decodings=decodings,
        endpoint=endpoint,
        questions=questions,
    )
    first = entrants[0].label if baseline is None else baseline
    if first not in [entrant.label for entrant in entrants]:
        known = ", ".join(entrant.label for entrant in entrants)
        raise ConfigError(f"suite.baseline is {first!r}, which is none of {known}; name one of them.")
    if len(entrants) < 2:
        raise ConfigError("one policy has nobody to be compared with; name two or more.")
    field = Field(entrants, asked, output, chunk_size=chunk_size, seed=seed)
    foreseen = field.foreseen()
    judges: dict[str, Annotator] = {name: parts.make(node) for name, node in named.items()}
    refuse_the_measured(judges)
    if dry_run:
        print_estimate(judges, field, foreseen, budget)
        return
    check_asked(judges, field, foreseen)
    field.answer()
    policies = [{"label": each.label, "described": each.described, **field.described(each)} for each in entrants]
    summary: dict[str, Any] = {"prompts": len(asked), "baseline": first, "policies": policies, "annotators": {}}
    summary["trained_on"] = trained_on(sources, asked)
    outcomes: list[dict[str, Any]] = []
    for name, judge in judges.items():
        judgements = field.judge(name, judge, said=answering(named[name]))
        comparison = compare(judgements.judged, field.players, baseline=first, seed=derive_seed(seed, "intervals"))
        draw_payoff(comparison.payoff, output / f"payoff-{name}.png", "prompts")
        chosen = [label for label, sampler in choosing(entrants).items() if sampler.annotator is judge]
        about = {"expense": asdict(judgements.expense), "unjudged": judgements.unjudged, "chose_for": chosen}
        summary["annotators"][name] = comparison.to_dict() | about
        outcomes += judgements.outcomes(field.players, first, name)
    write_parquet(output / "responses.parquet", RESPONSES, field.rows())
    write_parquet(output / "outcomes.parquet", POLICY_OUTCOMES, outcomes)
    write_json(output / "summary.json", summary)
    show(summary, output)


# ---------------------------------------------------------------- prompts


def prompts_of(node: Node | None, sources: Sequence[Source], questions: str | None) -> Sequence[Prompt]:
    """Those that `node` holds out; else those that the first run held out, or that the first file answers."""
    if node is not None:
        return _held_out(make(dict(node)), "suite.prompts")
    for one in sources:
        if one.is_run:
            return _held_out(make(saved_part(Path(one.place), "prompts")), one.place)
    for one in sources:
        if is_recorded(one):
            answered = [output.prompt for output in recorded_outputs(one, questions)]
            return list({prompt.id: prompt for prompt in answered}.values())
    places = ", ".join(dict.fromkeys(one.place for one in sources))
    raise ConfigError(
        f"there is no run and no file of outputs to take prompts from among {places}; check the names, or add "
        "+prompts@suite.prompts=stories, or another option of prompts."
    )


def _held_out(source: PromptSource, where: str) -> Sequence[Prompt]:
    if isinstance(source, TargetWords):
        raise ConfigError(
            f"{where} has words to play for, which ask for nothing; give prompts, as +prompts@suite.prompts=stories, "
            "or play for them with suite=taboo."
        )
    if not len(source.validation):
        raise ConfigError(f"{where} holds out no prompts; set validation of its prompts, or give others.")
    return source.validation


def drawn(prompts: Sequence[Prompt], limit: int | None) -> list[Prompt]:
    """The first `limit`: a table of prompts is in random order already, and AlpacaEval's rows have theirs."""
    if limit is not None and not 1 <= limit <= len(prompts):
        raise ConfigError(
            f"suite.limit is {limit}, but there are {len(prompts)} prompts; give a number from 1 to that."
        )
    return [prompts[place] for place in range(len(prompts) if limit is None else limit)]


def trained_on(sources: Sequence[Source], asked: Sequence[Prompt]) -> dict[str, int | None]:
    """Of the prompts how many each run was trained on, where there are any; None where its prompts cannot be read.

    What a run holds out of a table depends on its seed, so two runs on one table may hold out different prompts.
    """
    ids = {prompt.id for prompt in asked}
    seen: dict[str, int | None] = {}
    for one in sources:
        if not one.is_run or is_decoding(one):
            continue
        try:
            source: PromptSource = make(saved_part(Path(one.place), "prompts"))
            rounds = range(snapshots(one)[-1].rounds)
            seen[one.label] = len(ids & {prompt.id for index in rounds for prompt in source.for_round(index)})
        except (SparringError, HydraException):  # the run may have been made elsewhere, with files that stayed there
            seen[one.label] = None
    return {label: count for label, count in seen.items() if count != 0}


# ---------------------------------------------------------------- annotators


def refuse_the_measured(judges: Mapping[str, Annotator]) -> None:
    for name, judge in judges.items():
        if asks_policy(judge):
            raise ConfigError(
                f"annotator {name} asks the policy that is being measured, and here are several; give one with a model "
                "of its own."
            )


def asks_policy(annotator: Annotator) -> bool:
    """Whether it, or one that it asks, is to be lent a policy."""
    if isinstance(annotator, Ensemble):
        return any(map(asks_policy, annotator.members.values()))
    if isinstance(annotator, OneDraw):
        return asks_policy(annotator.annotator)
    return isinstance(annotator, NeedsPolicy)


def check_asked(judges: Mapping[str, Annotator], field: Field, foreseen: Sequence[Foreseen]) -> None:
    """What can be known to fail is found before anybody answers."""
    fewest = min(each.responses for each in foreseen)
    ahead = [
        Duty(f"judging by {name}", judge, [field.prompts], fewest, teacher=False) for name, judge in judges.items()
    ]
    for label, sampler in choosing(field.entrants).items():
        ahead.append(Duty(f"choosing for {label}", sampler.annotator, [field.prompts], sampler.n, teacher=False))
    for duty in ahead:
        # One that asks the policy itself can be asked when it has been lent it.
        if isinstance(duty.annotator, Reader) and not asks_policy(duty.annotator):
            check_reader(duty.annotator, duty)
    for annotator in {id(duty.annotator): duty.annotator for duty in ahead}.values():
        if isinstance(annotator, Checkable):
            annotator.check()


def choosing(entrants: Sequence[Entrant]) -> dict[str, BestOfSampler]:
    """Those who have an annotator choose among their draws, by their labels."""
    policies = [entrant for entrant in entrants if isinstance(entrant, PolicyEntrant)]
    return {each.label: each.sampler for each in policies if isinstance(each.sampler, BestOfSampler)}


def print_estimate(judges: Mapping[str, Annotator], field: Field, foreseen: Sequence[Foreseen], budget: Node) -> None:
    expenses = {
        f"choosing for {label}": sum(
            (
                _estimate(sampler.annotator, prompt, Foreseen(sampler.n, sampler.n * sampler.sampler.max_new_tokens))
                for prompt in field.prompts
                for _ in range(sampler.num_generations)
            ),
            Expense(),
        )
        for label, sampler in choosing(field.entrants).items()
    }
    for name, judge in judges.items():
        each = (_estimate(judge, *asked) for asked in zip(field.prompts, foreseen, strict=True))
        expenses[f"judging by {name}"] = sum(each, Expense())
    total = sum(expenses.values(), Expense())
    out = console()
    out.print(expense_table("what annotation would take", expenses | {"altogether": total}))
    for line in (LONG, ESTIMATED):
        out.print(line, highlight=False, soft_wrap=True)
    for line in tight(budget, total):
        out.print(line, highlight=False)


def _estimate(annotator: Annotator, prompt: Prompt, asked: Foreseen) -> Expense:
    if not isinstance(annotator, Estimates):
        return Expense()
    return annotator.estimate([prompt], asked.responses, math.ceil(asked.tokens / asked.responses))


# ---------------------------------------------------------------- what is shown


def show(summary: dict[str, Any], output: Path) -> None:
    out = console(width=150)
    for table in policies_tables(summary):
        print_whole(out, table)
    for name in summary["annotators"]:
        if summary["annotators"][name]["aspects"]:
            print_whole(out, aspects_table(summary, name))
        print_whole(out, payoff_table(summary, name))
    for line in (*notes(summary), f"written to {output}"):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
