"""What a comparison of policies on prompts looks like in a terminal, read back from its summary.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from sparring.cli.tables import described, money
from sparring.core.answers import Expense
from sparring.core.preference import TOLERANCE

NOTES = (
    "win rate: comparisons won, a tie half; intervals: 95%, over prompts. mean P: the mean probability to win. same "
    "length: mean P by AlpacaEval 2's regression, were responses as long as the baseline's; - if lengths cannot tell. "
    "tokens, chars: of a response. computed: tokens for one response, draws not chosen and second contexts included, "
    "prompts and training not. ended: the share of responses that ended by themselves. seconds: of a response, as its "
    "share of a batch, choosing included, or as its server took. cost: of all responses, choosing included."
)
ABREAST = 2  # annotators in one table; with more, its lines break in a terminal


def policies_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Each policy against the baseline under every annotator; in the first, what its responses are like and cost."""
    names = list(summary["annotators"])
    return [
        _policies(summary, names[start : start + ABREAST], responses=start == 0)
        for start in range(0, len(names), ABREAST)
    ]


def _policies(summary: Mapping[str, Any], annotators: Sequence[str], *, responses: bool) -> Table:
    table = _table(f"{summary['prompts']:,} prompts; win rate against {summary['baseline']}")
    for name in annotators:
        for column in (f"{escape(name)}:\nwin rate, 95%", "mean\nP", "same\nlength"):
            table.add_column(column, justify="right", no_wrap=True)
    paid = any(map(_cost, summary["policies"]))
    if responses:
        for column in ("tokens", "computed", "chars", "ended", "seconds\neach", *(["cost"] if paid else [])):
            table.add_column(column, justify="right", no_wrap=True)
    for policy in summary["policies"]:
        cells = [_versus(summary["annotators"][name]["versus"].get(policy["label"])) for name in annotators]
        figures = _responses(policy, paid=paid) if responses else []
        table.add_row(escape(policy["label"]), *(cell for three in cells for cell in three), *figures)
    return table


def _responses(policy: Mapping[str, Any], *, paid: bool) -> list[str]:
    cost = _cost(policy)
    return [
        _figure(policy["tokens"], ",.1f"),
        _figure(policy["computed"], ",.1f"),
        _figure(policy["characters"], ",.0f"),
        _figure(policy["ended"], ".1%"),
        _figure(policy["seconds"], ".3g"),
        *([money(cost) if cost else "-"] if paid else []),
    ]


def aspects_table(summary: Mapping[str, Any], annotator: str) -> Table:
    """Means, leads over the baseline and their intervals; a column for each aspect that the annotator reports."""
    found = summary["annotators"][annotator]
    baseline, judged = found["baseline"], found["payoff"]["prompts"]
    title = f"aspects by {annotator}: mean, lead over {baseline} and its 95% interval"
    table = _table(title)
    for aspect, means in found["aspects"].items():
        prompts = means[baseline]["prompts"]
        fewer = f"\n({prompts:,} prompts)" if prompts < judged else ""
        table.add_column(f"{escape(aspect)}{fewer}", justify="right", no_wrap=True)
    for policy in found["payoff"]["players"]:
        label = policy["label"]
        cells = [_mean(means[label], is_baseline=label == baseline) for means in found["aspects"].values()]
        table.add_row(escape(label), *cells)
    return table


def payoff_table(summary: Mapping[str, Any], annotator: str) -> Table:
    """P(row beats column), columns by the numbers of their rows."""
    payoff = summary["annotators"][annotator]["payoff"]
    labels = [player["label"] for player in payoff["players"]]
    numbers = {label: str(number) for number, label in enumerate(labels, start=1)}
    title = f"P(row beats column) by {annotator}, {payoff['prompts']:,} prompts; *: the 95% interval excludes 1/2"
    table = _table(title)
    for column in (*numbers.values(), "Nash\nweight", "exploitable, 95%", "by"):
        table.add_column(column, justify="right", no_wrap=True)
    for row, label in enumerate(labels):
        gap = payoff["exploitability"]["all"][label]
        table.add_row(
            f"{numbers[label]} {escape(label)}",
            *(_payoff(payoff, row, column) for column in range(len(labels))),
            f"{payoff['nash']['all']['weights'][label]:.2f}",
            _interval(gap["value"], gap["ci95"]),
            numbers[gap["best_response"]] if gap["value"] else "-",
        )
    return table


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What the tables' columns are, what annotators left unjudged, whom they favour, and what they have asked."""
    lines = [NOTES, *_tokenizers(summary["policies"])]
    for label, count in summary["trained_on"].items():
        if count is None:
            lines.append(f"whether {label} was trained on these prompts is not known: its own cannot be read here")
        else:
            lines.append(
                f"{label} was trained on {count:,} of these {summary['prompts']:,} prompts: give held-out ones"
            )
    for name, found in summary["annotators"].items():
        if found["unjudged"]:
            statuses = ", ".join(f"{status} {count:,}" for status, count in found["unjudged"].items())
            missing = sum(found["unjudged"].values())
            lines.append(f"{name} has not judged {missing:,} of {summary['prompts']:,} prompts: {statuses}")
        if chosen := found["chose_for"]:
            lines.append(f"{name} has chosen what {', '.join(chosen)} said: ahead by it is what they were made to be")
        if found["expense"]["prompt_tokens"]:
            lines.append(f"{name}: {described(Expense(**found['expense']))}")
    return lines


def _tokenizers(policies: Sequence[Mapping[str, Any]]) -> list[str]:
    """A remark where policies that are known to count in different tokens stand in one table."""
    sharing: dict[str, list[str]] = {}
    for policy in policies:
        if policy["tokenizer"] is not None:
            sharing.setdefault(policy["tokenizer"], []).append(policy["label"])
    if len(sharing) < 2:
        return []
    groups = "; ".join(", ".join(labels) for labels in sharing.values())
    return [f"tokens are not comparable between policies whose tokenizers differ ({groups}); characters are."]


# ---------------------------------------------------------------- cells


def _table(title: str) -> Table:
    """With a first column for the policies."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    return table


def _versus(versus: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """Of None, the baseline, there is nothing to say."""
    if versus is None:
        return "-", "-", "-"
    rate, controlled = versus["win_rate"], versus["length_controlled"]
    return (
        _interval(rate["win_rate"], rate["ci95"]),
        f"{rate['mean_probability']:.3f}",
        "-" if controlled is None else f"{controlled['win_rate']:.3f}",
    )


def _mean(mean: Mapping[str, Any], *, is_baseline: bool) -> str:
    if is_baseline:
        return f"{mean['value']:.3f}      -"
    low, high = mean["difference_ci95"]
    return f"{mean['value']:.3f} {mean['difference']:+.3f}\n[{low:+.3f}, {high:+.3f}]"


def _payoff(payoff: Mapping[str, Any], row: int, column: int) -> str:
    if row == column:
        return "- "
    low, high = payoff["ci95_low"][row][column], payoff["ci95_high"][row][column]
    decided = low > 0.5 + TOLERANCE or high < 0.5 - TOLERANCE
    return f"{payoff['win'][row][column]:.2f}{'*' if decided else ' '}"


def _interval(value: float, ci95: Sequence[float]) -> str:
    return f"{value:.3f} [{ci95[0]:.3f}, {ci95[1]:.3f}]"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _cost(policy: Mapping[str, Any]) -> float:
    return policy["expense"].get("cost", 0.0)
