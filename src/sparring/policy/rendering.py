"""Between messages and tokens. The only place where prompts are rendered: sampling, judging and training share it.

With a chat template a prompt is what the template says; without one it is plain text that the model continues.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from sparring.core.errors import ConfigError, DataError
from sparring.core.types import Prompt

ANCHORS = ("\n", "a", ".")  # texts before which a continuation can be tokenised; one of them never merges with it


class Renderer:
    """`end_id` closes a response: the token the template itself writes after a turn, or else the first of `eos_ids`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, eos_ids: Sequence[int]) -> None:
        self.tokenizer: Any = tokenizer
        self.bos_id: int | None = self.tokenizer.bos_token_id
        self.eos_ids = frozenset(eos_ids)
        self.chat = self.tokenizer.chat_template is not None
        self.end_id = self._turn_end(eos_ids[0]) if self.chat else eos_ids[0]

    def render(self, prompt: Prompt) -> tuple[int, ...]:
        ids = self._with_bos(self._render_chat(prompt) if self.chat else self._plain(prompt.text))
        if not ids:
            raise DataError(f"prompt {prompt.id} is empty; drop it, for this model has no token that begins a text.")
        if self.uses_bos and (held := ids.count(ids[0])) > 1 and held > self._written_bos(prompt):
            raise DataError(
                f"prompt {prompt.id} contains {self.tokenizer.bos_token!r}, which begins a text for this model; "
                "remove it from its words."
            )
        return tuple(ids)

    def encode_response(self, text: str) -> tuple[int, ...]:
        return (*(self._plain(text) if self.chat else self._continuation(text)), self.end_id)

    def decode(self, prompt_ids: Sequence[int], ids: Sequence[int]) -> str:
        """The response without its special tokens."""
        ids = ids[:-1] if len(ids) and ids[-1] in self.eos_ids else ids
        if self.chat:
            return self._text(ids)
        # Some tokenizers drop the space before a text's first word, which inside a text belongs to the text.
        return self._text([*prompt_ids, *ids])[len(self._text(prompt_ids)) :]

    @cached_property
    def uses_bos(self) -> bool:
        return self.bos_id is not None and self.tokenizer("a").input_ids[:1] == [self.bos_id]

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the tokenizer puts a space before every text, as if it began a new word."""
        anchor, word = self._plain("a"), self._plain("a")
        return self._text([*anchor, *word]) != "aa"

    def _with_bos(self, ids: list[int]) -> list[int]:
        if self.bos_id is None or not self.uses_bos or ids[:1] == [self.bos_id]:  # a template may hold its own
            return ids
        return [self.bos_id, *ids]

    def _written_bos(self, prompt: Prompt) -> int:
        """How many BOS the prompt would have whatever its messages say: some templates begin every turn with one."""
        if not self.chat:
            return 1
        neutral = replace(prompt, messages=tuple(replace(message, content="a") for message in prompt.messages))
        ids = self._with_bos(self._render_chat(neutral))
        return ids.count(ids[0])

    def _render_chat(self, prompt: Prompt) -> list[int]:
        messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
        try:
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except (TemplateError, ValueError) as error:
            raise DataError(f"the chat template refuses prompt {prompt.id}: {error}; change its messages.") from error
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _plain(self, text: str) -> list[int]:
        """Tokens of words alone: no BOS, no EOS, and a control word like "</s>" in a text stays text."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids

    def _continuation(self, text: str) -> list[int]:
        if not self._adds_space:
            return self._plain(text)
        for anchor in ANCHORS:
            before, both = self._plain(anchor), self._plain(anchor + text)
            if both[: len(before)] == before:
                return both[len(before) :]
        raise DataError(f"the tokenizer cannot continue a text with {text[:40]!r}; drop this response.")

    def _text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _turn_end(self, default: int) -> int:
        """The first end token after an assistant's words: for some models that is not `tokenizer.eos_token_id`."""
        user, word = {"role": "user", "content": "a"}, "sparring"
        try:
            text = self.tokenizer.apply_chat_template([user, {"role": "assistant", "content": word}], tokenize=False)
        except TemplateError as error:
            raise ConfigError(
                f"the tokenizer's chat template cannot render a question and an answer ({error}); correct it."
            ) from error
        after = self.tokenizer(text.rpartition(word)[2], add_special_tokens=False).input_ids
        named = self.tokenizer.eos_token_id
        return next((token for token in after if token in self.eos_ids), default if named is None else named)
