"""A reward model: any sequence classifier with one output, made a win matrix by Bradley-Terry.

Not here: models with several heads, and process rewards.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from jinja2 import TemplateError

from sparring.annotators.local_model import (
    TOO_LONG,
    Classifier,
    Row,
    check_budget,
    control_words,
    without_controls,
)
from sparring.core.errors import ConfigError, DataError
from sparring.core.preference import bradley_terry
from sparring.core.types import Candidates, Judgement, Prompt


class RewardModel:
    """Scores each response after its prompt; P(i beats j) is sigmoid((s_i - s_j) / temperature).

    With a chat template in its tokenizer the model reads the conversation as that renders it; without one it reads
    the prompt's text and the response as the tokenizer joins a pair of texts. A set with a text beyond `max_length`
    tokens, by default the model's own context, is "too long": nothing is cut, and its candidates all tie.
    """

    def __init__(
        self,
        path: str,
        temperature: float,
        token_budget: int,
        dtype: str,
        device: str | None = None,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if not temperature > 0:
            raise ConfigError(f"annotator.temperature is {temperature}; give a positive number, in units of the score.")
        self.temperature = temperature
        self.token_budget = check_budget(token_budget)
        self.classifier = Classifier(path, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        self.max_length = self.classifier.max_length if max_length is None else max_length
        self.controls = control_words(self.classifier.tokenizer)

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        sets = [self._rows(candidates) for candidates in batch]
        readable = [rows for rows in sets if self._fits(rows)]
        scores = iter(self.classifier.outputs(list(chain.from_iterable(readable)), self.token_budget))
        return [
            self._judgement(rows, [next(scores) for _ in rows]) if self._fits(rows) else too_long(len(rows))
            for rows in sets
        ]

    def _judgement(self, rows: Sequence[Row], scores: Sequence[float]) -> Judgement:
        read = set(rows)  # the same text twice is read once
        return Judgement(
            win=bradley_terry(np.array(scores), self.temperature),
            scores=tuple(scores),
            calls=len(read),
            prompt_tokens=sum(len(row.ids) for row in read),
        )

    def _fits(self, rows: Sequence[Row]) -> bool:
        return self.max_length is None or all(len(row.ids) <= self.max_length for row in rows)

    def _rows(self, candidates: Candidates) -> list[Row]:
        return [self._row(candidates.prompt, response.text) for response in candidates.responses]

    def _row(self, prompt: Prompt, response: str) -> Row:
        tokenizer, response = self.classifier.tokenizer, without_controls(response, self.controls)
        said = [(message.role, without_controls(message.content, self.controls)) for message in prompt.messages]
        if tokenizer.chat_template is None:
            text = "\n\n".join(content for _, content in said)
            encoded = tokenizer(text, response, return_token_type_ids=True, verbose=False)
            return Row(tuple(encoded.input_ids), tuple(encoded.token_type_ids))
        messages = [{"role": role, "content": content} for role, content in (*said, ("assistant", response))]
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False)
        except (TemplateError, ValueError) as error:
            raise DataError(
                f"the reward model's chat template refuses prompt {prompt.id}: {error}; change its messages."
            ) from error
        ids = tuple(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
        return Row(ids, (0,) * len(ids))


def too_long(count: int) -> Judgement:
    return Judgement(np.full((count, count), 0.5), status=TOO_LONG)
