"""`sparring evaluate suite=answers`: policies answer a benchmark's own questions, in the files that its tools read.

AlpacaEval is given OUTPUT/LABEL.json; MT-Bench and Arena-Hard want question.jsonl beside model_answer/LABEL.jsonl.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from sparring.cli.entrants import Node, entrants_of
from sparring.cli.parts import Parts
from sparring.cli.policies import Source
from sparring.cli.tables import console, money, print_whole
from sparring.core.errors import ConfigError, DataError
from sparring.core.files import atomic_path, write_json
from sparring.core.identity import prompt_id
from sparring.core.seeding import derive_seed
from sparring.core.types import Output, Prompt
from sparring.data.benchmark_questions import Benchmark, read_benchmark, turns_of
from sparring.data.output_files import Format, write_outputs
from sparring.data.output_formats import conversation
from sparring.rollout.entrants import Entrant, RecordedEntrant
from sparring.rollout.field import Field

FILE_NAME = re.compile(r"\w[\w .,+@()~-]*")  # AlpacaEval takes * for many files, and a shell other characters
FILES: Mapping[Format, str] = {
    "alpaca_eval": "{}.json",
    "mt_bench": "model_answer/{}.jsonl",
    "arena_hard": "model_answer/{}.jsonl",
}
FIGURES = {"responses": ",", "tokens": ",.1f", "characters": ",.0f", "ended": ".1%", "seconds": ".3g"}
NOTE = "tokens: by the policy's own tokenizer; ended: the share of answers that ended by themselves; -: not known"


def write_answers(
    sources: Sequence[Source],
    *,
    output: Path,
    seed: int,
    answers: Node,
    budget: Node,
    format: Format,
    questions: str,
    sampler: Node,
    decodings: Mapping[str, Node],
    endpoint: Node,
    load_model: Node,
    chunk_size: int,
) -> None:
    """Documented in conf/suite/answers.yaml. Writes the tools' files, `turn-N/answers/` and, last, `summary.json`."""
    _require_one_each(sampler, decodings)
    benchmark = read_benchmark(Path(questions).expanduser(), format)
    entrants = entrants_of(
        sources,
        parts=Parts({"answers": answers, "budget": budget}, payer=partial(str, output.resolve())),
        load_model=load_model,
        sampler=sampler,
        decodings=decodings,
        endpoint=endpoint,
        questions=questions if format == "mt_bench" else None,
    )
    for entrant in entrants:
        require_file_name(entrant.label)
        if FILES[format].format(entrant.label).lower() == "summary.json":
            raise ConfigError(f"the policy {entrant.label!r} has the name of the summary; name it otherwise.")
        _with_all_turns(entrant).foreseen(benchmark.prompts)
    policies: list[dict[str, Any]] = []
    for entrant in entrants:
        outputs, turns = answered(benchmark, entrant, output, chunk_size=chunk_size, seed=seed)
        path = output / FILES[format].format(entrant.label)
        write_outputs(path, outputs, format)
        facts = {"label": entrant.label, "described": entrant.described, "file": str(path.relative_to(output))}
        policies.append(facts | {"turns": turns})
    if format != "alpaca_eval":
        with atomic_path(output / "question.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in benchmark.rows))
    summary = {"format": format, "questions": len(benchmark.prompts), "policies": policies}
    write_json(output / "summary.json", summary)
    out = console()
    print_whole(out, answers_table(summary))
    for line in (NOTE, f"written to {output}: {', '.join(policy['file'] for policy in policies)}"):
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _require_one_each(sampler: Node, decodings: Mapping[str, Node]) -> None:
    nodes = {"sampler": sampler} | {f"decodings.{name}": node for name, node in decodings.items()}
    for where, node in nodes.items():
        if (drawn := node.get("num_generations", 1)) != 1:
            raise ConfigError(f"suite.{where}.num_generations is {drawn}; a file has room for 1 answer to a question.")


def require_file_name(label: str) -> None:
    if not FILE_NAME.fullmatch(label):
        raise ConfigError(
            f"the policy {label!r} would give its name to a file; name it with letters, digits, spaces and .,+@()~-_ "
            "alone, as LABEL=PLACE."
        )


# ---------------------------------------------------------------- answers


def answered(
    benchmark: Benchmark, entrant: Entrant, output: Path, *, chunk_size: int, seed: int
) -> tuple[list[Output], list[dict[str, Any]]]:
    """Answers to the last turns, below the earlier ones, and for each turn what its answers are like.

    A turn of all questions is answered before the next one, and in a field of its own: its prompts depend on answers.
    """
    entrant = _with_all_turns(entrant)
    said: list[list[Output]] = [[] for _ in benchmark.prompts]
    turns: list[dict[str, Any]] = []
    for turn in range(benchmark.turns):
        places = [place for place, prompt in enumerate(benchmark.prompts) if len(turns_of(prompt)) > turn]
        prompts = [_turn(benchmark.prompts[place], said[place]) for place in places]
        field = Field(
            [entrant],
            prompts,
            output / f"turn-{turn + 1}",
            chunk_size=chunk_size,
            seed=derive_seed(seed, "turn", turn),
        )
        field.answer()
        turns.append(field.described(entrant))
        for place, one in zip(places, _one_each(field, entrant, turns[-1]["seconds"]), strict=True):
            said[place].append(one)
    return [_joined(each) for each in said], turns


def _with_all_turns(entrant: Entrant) -> Entrant:
    return with_earlier_turns(entrant) if isinstance(entrant, RecordedEntrant) else entrant


def with_earlier_turns(entrant: RecordedEntrant) -> RecordedEntrant:
    """Its answers to earlier turns too, which stand in the prompts of the later ones. What those took is not known."""
    outputs = {prompt: list(found) for prompt, found in entrant.outputs.items()}
    for last in (output for found in entrant.outputs.values() for output in found):
        messages = last.prompt.messages
        for place, message in enumerate(messages):
            if message.role == "assistant":
                asked = Prompt(prompt_id(messages[:place]), messages[:place])
                found = outputs.setdefault(asked.id, [])
                if message.content not in [each.text for each in found]:
                    found.append(Output(asked, message.content, last.model))
    return replace(entrant, outputs=outputs)


def _turn(question: Prompt, said: Sequence[Output]) -> Prompt:
    return conversation(question, [each.text for each in said]) if said else question


def _one_each(field: Field, entrant: Entrant, seconds: float | None) -> Iterator[Output]:
    """`seconds` is the mean, for answers that were not timed one by one."""
    rows = list(field.rows())
    if len(rows) != len(field.prompts):
        several = next(row for row in rows if row["index"] > 0)
        raise DataError(
            f"{entrant.described} has several outputs of {entrant.label!r} for prompt {several['prompt_id']}; a file "
            "has room for 1 answer to a question, so leave one."
        )
    for prompt, row in zip(field.prompts, rows, strict=True):
        took = seconds if row["seconds"] is None else row["seconds"]
        yield Output(prompt, row["text"], entrant.label, row["tokens"], took)


def _joined(turns: Sequence[Output]) -> Output:
    """The last one, with what all of them took."""
    return replace(turns[-1], tokens=_sum([one.tokens for one in turns]), seconds=_sum([one.seconds for one in turns]))


def _sum(values: Sequence[Any]) -> Any:
    return None if None in values else sum(values)


# ---------------------------------------------------------------- table


def answers_table(summary: Mapping[str, Any]) -> Table:
    """A row for each turn that a policy answered; costs where somebody has any."""
    rows = [
        (policy["label"], turn, found)
        for policy in summary["policies"]
        for turn, found in enumerate(policy["turns"], start=1)
    ]
    paid = any(found["expense"]["cost"] for _, _, found in rows)
    table = Table(title=f"answers to {summary['questions']:,} questions, for {summary['format']}")
    table.add_column("policy")
    for column in ("turn", "answers", "tokens", "characters", "ended", "seconds each", *(["cost"] if paid else [])):
        table.add_column(column, justify="right")
    for label, turn, found in rows:
        figures = [_figure(found[name], form) for name, form in FIGURES.items()]
        cost = [money(found["expense"]["cost"])] if paid else []
        table.add_row(escape(label), str(turn), *figures, *cost)
    return table


def _figure(value: float | int | None, form: str) -> str:
    return "-" if value is None else format(value, form)
