"""A language model behind an OpenAI-compatible server: many conversations are put to it at once, in order."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import openai

from sparring.annotators.purse import Prices
from sparring.core.answers import Expense
from sparring.core.errors import ConfigError
from sparring.core.types import Finish, Message

ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NO_ROOM = "context_length_exceeded"


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation to go on with. The seed is sent along; whether it decides the answer is the server's business."""

    messages: tuple[Message, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back. Tokens are those that the server counted, None where it did not; `seconds` include retries."""

    text: str
    finish: Finish
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


@dataclass(frozen=True)
class Endpoint:
    """The model `model` at `base_url`, as it is to be asked; documented in conf/suite/taboo.yaml.

    No answer is kept here. `prices` are those of its tokens; without them what it costs is not known and counts as 0.
    """

    base_url: str
    model: str | None
    api_key_env: str | None = None
    temperature: float | None = 1.0
    max_new_tokens: int = 256
    answer_tokens_key: str = "max_tokens"
    concurrency: int = 16
    timeout: float = 120.0
    max_retries: int = 6
    prices: Prices | None = None

    def __post_init__(self) -> None:
        if self.model is None:
            raise ConfigError("the endpoint's model is not given; add suite.endpoint.model=NAME.")
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or address.username is not None:
            raise ConfigError("suite.endpoint.base_url is no plain address; give one like http://127.0.0.1:8000/v1.")
        for name, least in (("max_new_tokens", 1), ("concurrency", 1), ("max_retries", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"suite.endpoint.{name} is {getattr(self, name)}; it must be {least} or more.")
        if not self.timeout > 0:
            raise ConfigError(f"suite.endpoint.timeout is {self.timeout}; it must be above 0 seconds.")
        self._key()

    @property
    def described(self) -> str:
        """What answers depend on, as far as this side knows, but for the questions."""
        return f"{self.model} at {self.base_url}, temperature {self.temperature}, {self.max_new_tokens} tokens"

    def ask(self, questions: Sequence[Question]) -> Iterator[Completion | None]:
        """In the order of the questions, as they come; None to one that the model's context has no room for."""
        client = openai.OpenAI(
            base_url=self.base_url, api_key=self._key(), max_retries=self.max_retries, timeout=self.timeout
        )
        with client, ThreadPoolExecutor(self.concurrency) as pool:
            yield from pool.map(lambda question: self._ask(client, question), questions)

    def expense(self, completion: Completion) -> Expense:
        """What one answer took."""
        if completion.prompt_tokens is not None and completion.completion_tokens is not None:
            tokens = completion.prompt_tokens, completion.completion_tokens
            return Expense(1, *tokens, 0.0 if self.prices is None else self.prices.cost(*tokens))
        if self.prices is not None:
            raise ConfigError(
                f"the model {self.model!r} at {self.base_url} does not say how many tokens an answer took, so what it "
                "costs cannot be told; set suite.endpoint.prices=null."
            )
        return Expense(1)

    def _ask(self, client: openai.OpenAI, question: Question) -> Completion | None:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": said.role, "content": said.content} for said in question.messages],
            "seed": question.seed % 2**31,  # larger ones are refused by some servers
            self.answer_tokens_key: self.max_new_tokens,
        }
        if self.temperature is not None:
            body["temperature"] = self.temperature
        started = time.perf_counter()
        try:
            answer = client.chat.completions.create(**body)
        except openai.BadRequestError as error:
            if error.code == NO_ROOM:
                return None
            raise self._refused(f"http {error.status_code}") from None  # the library's errors carry the key
        except openai.APIStatusError as error:
            raise self._refused(f"http {error.status_code}") from None
        except openai.OpenAIError as error:
            raise self._refused(type(error).__name__) from None
        except ValueError:
            raise self._refused("an answer that is no JSON") from None
        seconds = time.perf_counter() - started
        # The library hands on whatever came, checked against nothing.
        choices = getattr(answer, "choices", None)
        if not choices or getattr(choices[0], "message", None) is None:
            raise self._refused("an answer without a message")
        choice = choices[0]
        finish = "length" if choice.finish_reason == "length" else "stop"
        return Completion(choice.message.content or "", finish, *_tokens(answer), seconds)

    def _refused(self, reason: str) -> ConfigError:
        return ConfigError(
            f"the model {self.model!r} at {self.base_url} does not answer ({reason}); see that it is there and that "
            "suite.endpoint fits it, then give the same command, which goes on."
        )

    def _key(self) -> str:
        if self.api_key_env is None:
            return "none"  # else the library would look for one by itself
        if not ENVIRONMENT_NAME.fullmatch(self.api_key_env):  # perhaps the key itself, so it is not repeated
            raise ConfigError(
                "suite.endpoint.api_key_env is no name of an environment variable; give the name of the one that holds "
                "the key, never the key."
            )
        if not (key := os.environ.get(self.api_key_env, "")):
            raise ConfigError(
                f"the endpoint's key is expected in the environment variable {self.api_key_env}, which is not set; "
                "set it, or say suite.endpoint.api_key_env=null for a server that wants none."
            )
        return key


def _tokens(answer: object) -> tuple[int | None, int | None]:
    """Of prompt and answer, by a server that counts both; others leave the count out, or write what they like."""
    usage = getattr(answer, "usage", None)
    counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) and count >= 0 else None for count in counts)
    return prompt, completion
