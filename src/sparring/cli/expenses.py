"""What the annotation of an experiment would take, and whether its limits can be kept."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from sparring.cli.check import check_targets, trains_nothing
from sparring.cli.parts import Parts
from sparring.cli.tables import console, money
from sparring.core.answers import Expense
from sparring.core.errors import ConfigError
from sparring.core.protocols import Annotator, Estimates, PromptSource
from sparring.core.types import Prompt

ESTIMATED = (
    "Every verdict is taken to be as long as it may be and to be read at the first try, a token to have three bytes, "
    "and no answer to be in the book yet; annotators of this machine are free and not counted."
)


def check_budget(cfg: dict[str, Any]) -> None:
    """A limit that nothing could count would never be reached, so it is refused."""
    budget = cfg["budget"]
    for where, node in paid(cfg):
        if node["book"] is None and (budget["max_cost"] is not None or budget["max_calls"] is not None):
            raise ConfigError(f"budget counts what the book of answers holds, but {where}.book is null; leave it set.")
        prices = node.get("prices") or {}
        if budget["max_cost"] is not None and not (prices.get("prompt") or prices.get("completion")):
            raise ConfigError(
                f"budget.max_cost is {budget['max_cost']}, but by {where}.prices every call is free; give "
                f"{where}.prices.prompt and .completion, or limit budget.max_calls, or set {where}.purse=null."
            )


def paid(node: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Annotators that take a purse, wherever they stand."""
    if isinstance(node, Mapping):
        if node.get("purse") is not None:
            yield where, node
        for name, child in node.items():
            yield from paid(child, f"{where}.{name}" if where else name)


def print_foreseen(cfg: dict[str, Any]) -> None:
    """The table of a dry run. Nobody is asked and no model is loaded but what annotators hold themselves."""
    check_targets(cfg)
    check_budget(cfg)
    expenses = foreseen(cfg, Parts(cfg))
    total = sum(expenses.values(), Expense())
    out = console()
    title = f"{cfg['run_name']}: what annotation would take"
    out.print(expense_table(title, expenses | {"altogether": total}))
    long = "Every response is taken to be as long as sampler.max_new_tokens allows."
    for line in (long, ESTIMATED):
        out.print(line, highlight=False, soft_wrap=True)
    for line in tight(cfg["budget"], total):
        out.print(line, highlight=False)


def expense_table(title: str, expenses: Mapping[str, Expense]) -> Table:
    table = Table("for", title=escape(title))
    for column in ("calls", "prompt tokens", "answer tokens", "cost"):
        table.add_column(column, justify="right")
    for name, each in expenses.items():
        cells = (f"{each.calls:,}", f"{each.prompt_tokens:,}", f"{each.completion_tokens:,}", money(each.cost))
        table.add_row(name, *cells)
    return table


def tight(limits: Mapping[str, Any], total: Expense) -> list[str]:
    """A line for each limit that `total` exceeds."""
    amounts = {"max_calls": total.calls, "max_cost": total.cost}
    return [
        f"budget.{name}={limits[name]:g} may pause it before its end."
        for name, amount in amounts.items()
        if limits[name] is not None and amount > limits[name]
    ]


def foreseen(cfg: dict[str, Any], parts: Parts) -> dict[str, Expense]:
    """By what it is for: every round's training and measuring, and the payoff matrix at the end."""
    win_rate, payoff = cfg["callbacks"]["win_rate"], cfg["callbacks"]["payoff_matrix"]
    tokens, rounds = parts.sampler.max_new_tokens, cfg["rounds"]
    expenses = _of_drawing(cfg, parts) if trains_nothing(cfg) else _of_training(cfg, parts)
    if win_rate is None:
        return expenses
    held_out: PromptSource = parts.make(win_rate["prompts"])
    samples = win_rate["samples_per_prompt"]
    contests = 2 * rounds - 1  # against the base policy and the previous one, which in the first round are the same
    for name in ("annotator", "second_annotator"):
        if win_rate[name] is not None:
            one = _estimate(parts.make(win_rate[name]), held_out.validation, 2 * samples, teacher=False, tokens=tokens)
            expenses["win rates" if name == "annotator" else "second annotator"] = _times(one, contests)
    if payoff is not None:
        annotator, players = parts.make(payoff["annotator"]), (rounds + 1) * samples
        met = held_out.validation
        taught = all(met[place].teacher is not None for place in range(len(met)))  # or no teacher is among the players
        expenses["payoff matrix"] = _estimate(annotator, met, players, teacher=taught, tokens=tokens)
    return expenses


def _of_training(cfg: dict[str, Any], parts: Parts) -> dict[str, Expense]:
    from sparring.rollout.preference import PreferenceRollout  # imports torch, which sparring calibrate may not need

    rollout = parts.make(cfg["rollout"])
    if not isinstance(rollout, PreferenceRollout) or rollout.annotator is None:
        return {}
    asked, tokens = rollout.annotator, parts.sampler.max_new_tokens
    samples, teacher = rollout.sampler.num_generations, rollout.teacher
    return {
        f"round {index}": _estimate(asked, rollout.prompts.for_round(index), samples, teacher=teacher, tokens=tokens)
        for index in range(cfg["rounds"])
    }


def _of_drawing(cfg: dict[str, Any], parts: Parts) -> dict[str, Expense]:
    """Where nothing is trained and an annotator chooses what is answered."""
    from sparring.rollout.best_of import BestOfSampler  # imports torch too

    sampler, source = parts.make(cfg["objective"]["sampler"]), parts.make(cfg["prompts"])
    if not isinstance(sampler, BestOfSampler):
        return {}
    tokens = sampler.sampler.max_new_tokens
    one = _estimate(sampler.annotator, source.validation, sampler.n, teacher=False, tokens=tokens)
    return {"best of n": _times(one, sampler.num_generations)}


def _estimate(annotator: Annotator, prompts: Any, samples: int, *, teacher: bool, tokens: int) -> Expense:
    if not isinstance(annotator, Estimates):
        return Expense()
    taught: dict[bool, list[Prompt]] = {True: [], False: []}
    for place in range(len(prompts)):
        taught[teacher and prompts[place].teacher is not None].append(prompts[place])
    each = (annotator.estimate(some, samples + with_teacher, tokens) for with_teacher, some in taught.items() if some)
    return sum(each, Expense())


def _times(one: Expense, times: int) -> Expense:
    return sum([one] * times, Expense())
