"""What a model answered as a row of AlpacaEval, MT-Bench or Arena-Hard, and back: pure functions; no file is read here.

| format      | columns                                                                                            |
|-------------|----------------------------------------------------------------------------------------------------|
| alpaca_eval | `instruction`, `output`, `generator`, and `dataset` where the prompt has one                       |
| mt_bench    | `question_id`, `answer_id`, `model_id`, `choices`, `tstamp`: FastChat's; a choice has the answers  |
|             | to all turns. Arena-Hard's first release wrote such rows too; they are read                        |
| arena_hard  | `uid`, `ans_id`, `model`, `messages`, `tstamp`; the last message's content is `{"answer": text}`   |

`response_tokens` and `response_seconds` are ours, and the tools pass over them. Arena-Hard's style control wants a
column `metadata`; its own `add_markdown_info.py` adds it, with the one tokenizer that it counts all models by.
"""

from collections.abc import Mapping, Sequence
from json import loads
from typing import Any

from sparring.core.answers import canonical
from sparring.core.errors import DataError
from sparring.core.identity import prompt_id
from sparring.core.types import Message, Output, Prompt
from sparring.data.judged_formats import asked
from sparring.data.row_files import Row, storable


def alpaca_eval_row(output: Output) -> dict[str, Any]:
    if _roles(output) != ["user"]:
        raise DataError(
            f"Prompt {output.prompt.id} is a conversation of {len(_roles(output))} messages, which AlpacaEval has no "
            "place for; leave it out."
        )
    dataset = output.prompt.meta.get("dataset")
    source = {"dataset": dataset} if isinstance(dataset, str) else {}
    return source | {"instruction": output.prompt.text, "output": output.text, "generator": output.model}


def mt_bench_row(output: Output) -> dict[str, Any]:
    """The model's earlier answers are those in the prompt."""
    number = _required("question_id", output, "MT-Bench")
    roles = _roles(output)
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise DataError(
            f"The prompt of question {number} has roles {', '.join(roles)}; MT-Bench has user's turns only."
        )
    earlier = [message.content for message in output.prompt.messages if message.role == "assistant"]
    turns = [*earlier, output.text]
    wanted = len(output.prompt.meta.get("turns", turns))
    if len(turns) != wanted:
        raise DataError(
            f"Question {number} has {wanted} turns, but the output answers {len(turns)}; have every turn answered, "
            "each below the model's own earlier answers."
        )
    return {
        "question_id": number,
        "answer_id": _answer_id(output.model, number, turns),
        "model_id": output.model,
        "choices": [{"index": 0, "turns": turns}],
    }


def arena_hard_row(output: Output) -> dict[str, Any]:
    uid = _required("uid", output, "Arena-Hard")
    messages = [{"role": message.role, "content": message.content} for message in output.prompt.messages]
    return {
        "uid": uid,
        "ans_id": _answer_id(output.model, uid, [output.text]),
        "model": output.model,
        "messages": [*messages, {"role": "assistant", "content": {"answer": output.text}}],
    }


def costs(output: Output) -> dict[str, int | float]:
    known = {"response_tokens": output.tokens, "response_seconds": output.seconds}
    return {name: value for name, value in known.items() if value is not None}


def from_responses(row: Row, where: str) -> list[Output]:
    """A row of the `responses.parquet` that `sparring evaluate` writes."""
    told = row["messages"] if isinstance(row["messages"], list) else []
    if not told or not all(
        isinstance(one, Mapping) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
        for one in told
    ):
        raise DataError(f"{where} has no messages with role and content; mend or remove it.")
    messages = tuple(Message(one["role"], one["content"]) for one in told)
    prompt = Prompt(text_of(row, "prompt_id", where), messages, meta=_meta_of(row, where))
    costs = {"response_tokens": row["tokens"], "response_seconds": row["seconds"]}
    return [Output(prompt, text_of(row, "text", where), text_of(row, "policy", where), *_costs_of(costs, where))]


def from_alpaca_eval(row: Row, where: str) -> list[Output]:
    prompt = asked(text_of(row, "instruction", where), row.get("input") or "")
    dataset = {"dataset": row["dataset"]} if isinstance(row.get("dataset"), str) else {}
    told = Prompt(prompt.id, prompt.messages, meta=dataset)
    return [Output(told, text_of(row, "output", where), text_of(row, "generator", where), *_costs_of(row, where))]


def from_mt_bench(row: Row, where: str, questions: Mapping[Any, Prompt]) -> list[Output]:
    """One output for every choice: the answer to the last turn, below the earlier ones."""
    if row["question_id"] not in questions:
        raise DataError(f"{where} answers question {row['question_id']!r}, which is not among the questions; add it.")
    question = questions[row["question_id"]]
    choices = row["choices"] if isinstance(row["choices"], list) else []
    answers = [turns_of(choice, where) for choice in choices]
    if not answers or not all(0 < len(turns) <= len(question.meta["turns"]) for turns in answers):
        raise DataError(f"{where} has choices that do not answer the turns of its question; mend or remove it.")
    model, used = text_of(row, "model_id", where), _costs_of(row, where)
    return [Output(conversation(question, turns[:-1]), turns[-1], model, *used) for turns in answers]


def from_arena_hard(row: Row, where: str) -> list[Output]:
    turns = row["messages"] if isinstance(row["messages"], list) else []
    if len(turns) < 2 or not all(isinstance(turn, Mapping) and isinstance(turn.get("role"), str) for turn in turns):
        raise DataError(f"{where} has no messages with roles, the last one the answer; mend or remove it.")
    *messages, answer = (Message(turn["role"], _said(turn.get("content"), where)) for turn in turns)
    prompt = Prompt(prompt_id(messages), tuple(messages), meta={"uid": row["uid"]})
    return [Output(prompt, answer.content, text_of(row, "model", where), *_costs_of(row, where))]


def question(row: Row, where: str) -> Prompt:
    """The first turn of a question of MT-Bench; all turns, its number and category are in `meta`."""
    turns = turns_of(row, where)
    if not turns:
        raise DataError(f"{where} is a question without turns; mend or remove it.")
    messages = (Message("user", turns[0]),)
    if not isinstance(row.get("question_id"), str | int):
        raise DataError(f"{where} has {row.get('question_id')!r} as question_id; give a number.")
    meta = {"question_id": row["question_id"], "category": text_of(row, "category", where), "turns": turns}
    return Prompt(prompt_id(messages), messages, meta=meta)


def conversation(question: Prompt, answers: Sequence[str]) -> Prompt:
    """The question up to the turn after `answers`."""
    messages = [Message("user", question.meta["turns"][0])]
    for answer, turn in zip(answers, question.meta["turns"][1:], strict=False):
        messages += [Message("assistant", answer), Message("user", turn)]
    return Prompt(prompt_id(messages), tuple(messages), meta=question.meta)


def _roles(output: Output) -> list[str]:
    return [message.role for message in output.prompt.messages]


def _required(name: str, output: Output, tool: str) -> str | int:
    value = output.prompt.meta.get(name)
    if not isinstance(value, str | int):
        raise DataError(
            f"Prompt {output.prompt.id} has no {name}, by which {tool} knows its questions; take its own prompts."
        )
    return value


def _answer_id(model: str, name: str | int, turns: Sequence[str]) -> str:
    """By the content, as long as the tools' random ones."""
    return canonical({"model": model, "question": name, "turns": turns})[:22]


def text_of(row: Row, column: str, where: str) -> str:
    if not isinstance(row.get(column), str):
        raise DataError(f"{where} has {row.get(column)!r} as {column}; give a text.")
    return storable(row[column], where)


def turns_of(row: object, where: str) -> list[str]:
    turns = row.get("turns") if isinstance(row, Mapping) else None
    if not isinstance(turns, list):
        raise DataError(f"{where} has {turns!r} as turns; give a list of texts.")
    return [_said(turn, where) for turn in turns]


def _said(content: object, where: str) -> str:
    """Text, or an object that holds it: Arena-Hard's answers are, and were its first release's turns."""
    text = content.get("answer", content.get("content")) if isinstance(content, Mapping) else content
    if not isinstance(text, str):
        raise DataError(f"{where} has {content!r} where something is said; give a text.")
    return storable(text, where)


def _meta_of(row: Row, where: str) -> dict[str, Any]:
    try:
        meta = loads(text_of(row, "meta", where))
    except ValueError as error:
        raise DataError(f"{where} has a meta that is not JSON ({error}); mend or remove it.") from error
    if not isinstance(meta, dict):
        raise DataError(f"{where} has {meta!r} as meta; give a JSON object.")
    return meta


def _costs_of(row: Row, where: str) -> tuple[int | None, float | None]:
    tokens, seconds = row.get("response_tokens"), row.get("response_seconds")
    if not isinstance(tokens, int | None) or not isinstance(seconds, int | float | None):
        raise DataError(
            f"{where} has {tokens!r} and {seconds!r} as response_tokens and response_seconds; give numbers, or null."
        )
    return tokens, seconds
