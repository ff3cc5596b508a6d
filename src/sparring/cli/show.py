"""`sparring show RUN`: the rounds of a run, and one prompt followed from its candidates to its pairs, or one game."""

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sparring.cli.tables import console, print_rounds
from sparring.cli.taboo_tables import episode_table
from sparring.core.errors import DataError, SparringError
from sparring.data.rounds import RoundStore, read_rows
from sparring.data.schema import to_candidates, to_judgement
from sparring.rollout.report import describe, played


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="sparring show", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's directory, for example outputs/quickstart")
    parser.add_argument("--round", type=int, help="whose funnel, prompt and game to show; the last one unless given")
    parser.add_argument("--prompt", type=int, default=0, help="the position of a prompt in that round, from 0")
    parser.add_argument("--game", type=int, default=0, help="the number of a game of that round, from 0")
    options = parser.parse_args(arguments)
    try:
        show(options.run, options.round, options.prompt, options.game)
    except SparringError as error:
        print(f"sparring: {error}", file=sys.stderr)
        sys.exit(2)


def show(run: Path, index: int | None, prompt: int, game: int) -> None:
    if not (run / "summary.json").exists():
        raise DataError(f"{run} holds no run (no summary.json); give a directory that sparring train has made.")
    print_rounds(run, hint=False)
    store = RoundStore(run / "rounds")
    complete = list(itertools.takewhile(store.complete, itertools.count()))
    if not complete:
        raise DataError(f"{run} has no complete round yet; continue it with the command that started it.")
    chosen = complete[-1] if index is None else index
    if chosen not in complete:
        raise DataError(f"{run} has rounds 0 to {complete[-1]}, not {chosen}; choose one of them with --round.")
    out = console()
    manifest = store.manifest(chosen)
    if (text := describe(manifest)) is not None:
        out.print(f"\nround {chosen}\n{text}", highlight=False)
    if "candidates.parquet" in manifest["files"]:
        _print_prompt(out, store, chosen, prompt)
    if "episodes.parquet" in manifest["files"]:
        _print_game(out, store, chosen, game)
    if not manifest["files"]:  # nothing was trained on
        _print_answers(out, run / "evaluation", prompt)


def _print_prompt(out: Console, store: RoundStore, index: int, position: int) -> None:
    if position < 0:
        raise DataError(f"--prompt is {position}; prompts are counted from 0.")
    stored = to_candidates(read_rows(store.table(index, "candidates")))
    candidates = next(itertools.islice(stored, position, None), None)
    if candidates is None:
        prompts = store.manifest(index)["funnel"]["prompts"]
        raise DataError(f"round {index} has {prompts} prompts, counted from 0; --prompt {position} is none of them.")
    judgement = to_judgement(next(itertools.islice(read_rows(store.table(index, "judgements")), position, None)))
    out.print(f"\n[bold]prompt {position}[/bold]: ", end="")
    out.print(candidates.prompt.text, markup=False, highlight=False)
    table = Table(title="candidates, and the probability that the row beats the column")
    table.add_column("", justify="right")
    table.add_column("author")
    table.add_column("response", ratio=1)
    table.add_column("log p", justify="right")
    for j in range(len(candidates.responses)):
        table.add_column(str(j), justify="right")
    for i, response in enumerate(candidates.responses):
        author = response.origin if response.defect is None else f"{response.origin}, {response.defect}"
        wins = ["" if i == j else f"{judgement.win[i, j]:.2f}" for j in range(len(candidates.responses))]
        table.add_row(str(i), author, Text(response.text), f"{response.logp:.1f}", *wins)
    out.print(table)
    _print_pairs(out, store, index, candidates.prompt.id)


def _print_answers(out: Console, evaluation: Path, position: int) -> None:
    """To a held-out prompt, of the policy as it is and of the way of decoding that the run is about.

    The former are not there where win rates are switched off.
    """
    paths = {"base": evaluation / "policy-000.parquet", "measured": evaluation / "policy-001.parquet"}
    answers = {author: list(to_candidates(read_rows(path))) for author, path in paths.items() if path.exists()}
    held_out = len(answers["measured"])
    if not 0 <= position < held_out:
        raise DataError(f"there are {held_out} held-out prompts, counted from 0; --prompt {position} is none of them.")
    out.print(f"\n[bold]held-out prompt {position}[/bold]: ", end="")
    out.print(answers["measured"][position].prompt.text, markup=False, highlight=False)
    table = Table("author", "response", title="answers")
    for author, found in answers.items():
        for response in found[position].responses:
            table.add_row(author, Text(response.text))
    out.print(table)


def _print_game(out: Console, store: RoundStore, index: int, number: int) -> None:
    episodes = read_rows(store.table(index, "episodes"))
    episode = next((row for row in episodes if row["game"] == number), None)
    if episode is None:
        games = played(store.manifest(index)["games"])
        raise DataError(f"round {index} has {games} games, counted from 0; --game {number} is none of them.")
    turns = (row for row in read_rows(store.table(index, "turns")) if row["game"] == number)
    out.print(episode_table(episode, {row["turn"]: row["reward"] for row in turns}))


def _print_pairs(out: Console, store: RoundStore, index: int, prompt_id: str) -> None:
    table = Table(title="training pairs of this prompt")
    for column in ("chosen", "rejected", "kind", "win", "margin"):
        table.add_column(column, justify="right")
    rows = (row for row in read_rows(store.table(index, "pairs")) if row["source_round"] == index)
    for row in (row for row in rows if row["prompt_id"] == prompt_id):
        table.add_row(*_pair_cells(row))
    out.print(table)


def _pair_cells(row: dict[str, Any]) -> list[str]:
    """Empty where a response stands alone."""
    rejected, win, margin = row["rejected_index"], row["win"], row["margin"]
    numbers = ["" if value is None else f"{value:.2f}" for value in (win, margin)]
    return [str(row["chosen_index"]), "" if rejected is None else str(rejected), row["kind"], *numbers]
