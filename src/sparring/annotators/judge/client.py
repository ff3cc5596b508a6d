"""One question to an OpenAI-compatible endpoint: retries, waits and limits; from an answer's bytes to an `Answer`.

The client library's own retries are off, so that all waiting is in one place. The key is read from the environment
whenever a connection is opened, is kept nowhere, and is taken out of whatever the server says.
"""

import asyncio
import email.utils
import json
import os
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import openai

from sparring.annotators.judge.protocol import NoVerdict, Question
from sparring.annotators.judge.verdicts import REFUSAL
from sparring.annotators.purse import Prices
from sparring.core.answers import Answer
from sparring.core.errors import ConfigError

Structured = Literal["auto", "on", "off"]

LONGEST_WAIT = 600.0  # seconds; a server that wants more patience is out of service for a run
LONGEST_BACKOFF = 60.0
TRANSIENT = frozenset({408, 409, 425, 429})  # and all of 500 and above
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OWN_KEYS = frozenset({"model", "messages", "stream", "n", "response_format", "logprobs", "top_logprobs"})


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask; times in seconds. Documented in conf/annotator/llm_judge.yaml."""

    base_url: str
    model: str
    api_key_env: str | None
    answers_as: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict[str, Any])
    answer_tokens_key: str = "max_tokens"
    structured_output: Structured = "auto"
    prices: Prices | None = None
    timeout: float = 120.0
    max_retries: int = 6
    backoff: float = 1.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        if urlsplit(self.base_url).scheme not in ("http", "https"):
            raise ConfigError("annotator.base_url is no address; give one like http://127.0.0.1:8000/v1.")
        if urlsplit(self.base_url).username is not None:
            raise ConfigError(
                "annotator.base_url holds a user name or key; leave it out and use annotator.api_key_env."
            )
        if self.structured_output not in get_args(Structured):
            raise ConfigError(f"annotator.structured_output is {self.structured_output!r}; give auto, on or off.")
        if reserved := (OWN_KEYS | {self.answer_tokens_key}) & self.sampling.keys():
            raise ConfigError(f"annotator.sampling sets {', '.join(sorted(reserved))}, which the judge sets itself.")
        for name in ("timeout", "backoff", "requests_per_minute", "tokens_per_minute"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ConfigError(f"annotator.{name} is {value}; give a positive number.")
        if self.max_retries < 0:
            raise ConfigError(f"annotator.max_retries is {self.max_retries}; give 0 or more.")
        self.key()

    def key(self) -> str | None:
        if self.api_key_env is None:
            return None
        if not ENVIRONMENT_NAME.fullmatch(self.api_key_env):  # perhaps the key itself, so it is not repeated
            raise ConfigError(
                "annotator.api_key_env is no name of an environment variable; give the name of the variable that holds "
                "the key, never the key."
            )
        key = os.environ.get(self.api_key_env, "")
        if not key:
            raise ConfigError(
                f"The judge's key is expected in the environment variable {self.api_key_env}, which is not set; set "
                "it, or say annotator.api_key_env=null for a server that wants none."
            )
        return key

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.0 if self.prices is None else self.prices.cost(prompt_tokens, completion_tokens)

    def most(self, question: Question) -> float:
        """What an answer may cost at most: every token is at least a byte, and a chat template adds a few."""
        return self.cost(request_bytes(question) + 64, question.answer_tokens)

    def answered_by(self, name: str) -> bool:
        """Whether that is the model asked for: under its own name, a dated one, one with a tag, or `answers_as`."""
        if name in ("", self.model, self.answers_as):
            return True
        own = self.model.removesuffix("-latest")
        return name.startswith(own) and re.fullmatch(r"[@:].*|-\d{4}.*|-latest", name[len(own) :]) is not None


class Fault(Exception):
    """No answer came. `reason` is short; `stops`, if not empty, is why no other question would fare better."""

    def __init__(self, reason: str, *, again: bool = True, wait: float = 0.0, stops: str = "") -> None:
        super().__init__(reason)
        self.reason, self.again, self.wait, self.stops = reason, again, wait, stops


class Pace:
    """At most `per_minute` in any minute, evenly spaced; None for no limit. One process's share, not a sweep's."""

    def __init__(self, per_minute: float | None) -> None:
        self.per_minute = per_minute
        self._free = 0.0

    async def wait(self, amount: float) -> None:
        if self.per_minute is None:
            return
        start = max(time.monotonic(), self._free)
        self._free = start + 60.0 * amount / self.per_minute
        await asyncio.sleep(start - time.monotonic())


class Client:
    """Asks one endpoint. What it learns of the server, and its pace, outlive a connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._requests, self._tokens = Pace(endpoint.requests_per_minute), Pace(endpoint.tokens_per_minute)
        self._structured = endpoint.structured_output != "off"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[openai.AsyncOpenAI]:
        """Connections belong to an event loop, so each loop opens its own."""
        async with openai.AsyncOpenAI(
            base_url=self.endpoint.base_url,
            api_key=self.endpoint.key() or "none",  # else the library would look for one by itself
            max_retries=0,
            timeout=self.endpoint.timeout,
        ) as connection:
            yield connection

    async def check(self, connection: openai.AsyncOpenAI) -> None:
        """Raise ConfigError if there is no such server, it refuses the key, or lists models but not this one."""
        try:
            async with asyncio.timeout(self.endpoint.timeout):
                listed = await connection.models.with_raw_response.list()
            names = [model["id"] for model in json.loads(listed.text)["data"]]
        except (openai.OpenAIError, TimeoutError) as error:
            fault = self._fault(error)
            if fault.stops and fault.reason != "http 404":  # not every server lists its models
                raise ConfigError(fault.stops) from None
            return
        except (ValueError, KeyError, TypeError):
            return
        if names and self.endpoint.model not in names and not await self._answers(connection):
            raise ConfigError(
                f"The judge at {self.endpoint.base_url} does not serve {self.endpoint.model!r}; it has "
                f"{', '.join(map(str, names[:8]))}{', ...' if len(names) > 8 else ''}."
            )

    async def _answers(self, connection: openai.AsyncOpenAI) -> bool:
        """Some servers know more models than they list, so one that is not listed is asked for a single token."""
        try:
            await self._ask_once(connection, Question("Hello", (), 1), structured=False)
        except Fault as fault:
            return fault.again  # busy servers say nothing of the model
        return True

    async def ask(self, connection: openai.AsyncOpenAI, question: Question) -> Answer:
        """Raise NoVerdict if the server does not answer, ConfigError if it would answer no other question either."""
        for attempt in range(self.endpoint.max_retries + 1):
            try:
                return await self._ask_structured(connection, question)
            except Fault as fault:
                if fault.again and attempt < self.endpoint.max_retries:
                    await asyncio.sleep(self._wait(fault, attempt))
                    continue
                if fault.stops:
                    raise ConfigError(fault.stops) from None
                raise NoVerdict(fault.reason) from None
        raise AssertionError("the last attempt returns or raises")

    def _wait(self, fault: Fault, attempt: int) -> float:
        """What the server asks for and a little more, or a random part of a time that doubles."""
        if fault.wait > 0:
            return fault.wait + random.uniform(0, self.endpoint.backoff / 4)
        return random.uniform(0.5, 1.0) * min(self.endpoint.backoff * 2**attempt, LONGEST_BACKOFF)

    async def _ask_structured(self, connection: openai.AsyncOpenAI, question: Question) -> Answer:
        """With a schema, and once more without if this server turns out to know none."""
        if question.schema is None or not self._structured:
            return await self._ask_once(connection, question, structured=False)
        try:
            return await self._ask_once(connection, question, structured=True)
        except Fault as fault:
            if self.endpoint.structured_output == "on" or fault.reason not in ("http 400", "http 422"):
                raise
        answer = await self._ask_once(connection, question, structured=False)
        self._structured = False  # the question itself was not at fault
        return answer

    async def _ask_once(self, connection: openai.AsyncOpenAI, question: Question, *, structured: bool) -> Answer:
        await self._requests.wait(1)
        await self._tokens.wait(request_bytes(question) / 4 + question.answer_tokens)
        try:
            async with asyncio.timeout(self.endpoint.timeout):  # the library's own is per read: a trickle would pass it
                # `chat.completions.create` walks through the message types every time: a seventh of a request's work.
                text = await connection.post(
                    "/chat/completions",
                    cast_to=str,
                    body=_body(self.endpoint, question, structured),
                    options={"security": {"bearer_auth": True}},  # no administrator's key that the environment may hold
                )
        except (openai.OpenAIError, TimeoutError) as error:
            raise self._fault(error) from None  # the library's errors carry the request, and it the key
        return self._answer(self._redacted(text))

    def _answer(self, text: str) -> Answer:
        try:
            body = json.loads(text)
            choice = body["choices"][0]
            message = choice["message"]
            said, refused = message.get("content") or "", message.get("refusal")
            if refused or choice.get("finish_reason") == "content_filter":
                said = json.dumps({REFUSAL: refused or "content filter"})
            usage = body.get("usage") or {}
            listed = ((choice.get("logprobs") or {}).get("content") or [{}])[0].get("top_logprobs") or []
            prompt_tokens, completion_tokens = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
            if self.endpoint.cost(1, 1) and not prompt_tokens:
                raise ConfigError(
                    f"The judge at {self.endpoint.base_url} does not say how many tokens it used, so nothing can be "
                    "charged; set annotator.prices to 0."
                )
            return Answer(
                text=said,
                model=body.get("model") or "",
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                cost=self.endpoint.cost(prompt_tokens, completion_tokens),
                top_logprobs={entry["token"]: float(entry["logprob"]) for entry in listed},
            )
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Fault("unreadable reply") from None

    def _fault(self, error: Exception) -> Fault:
        where = f"The judge at {self.endpoint.base_url}"
        if isinstance(error, TimeoutError | openai.APITimeoutError):
            return Fault("timeout")
        if isinstance(error, openai.APIStatusError):
            return self._status_fault(error, where)
        if type(error.__cause__).__name__ in ("ConnectError", "UnsupportedProtocol"):
            return Fault("unreachable", stops=f"{where} cannot be reached; start it, or mend annotator.base_url.")
        return Fault("connection lost")

    def _status_fault(self, error: openai.APIStatusError, where: str) -> Fault:
        status, says = error.status_code, self._redacted(str(error.body))
        reason = f"http {status}"
        if status in (401, 403):
            variable = self.endpoint.api_key_env or "null"
            return Fault(
                reason, again=False, stops=f"{where} refuses the key ({reason}); mend annotator.api_key_env={variable}."
            )
        if status == 404:
            sentence = f"{where} knows no model {self.endpoint.model!r}, or is no such server ({reason}); mend either."
            return Fault(reason, again=False, stops=sentence)
        if status == 402 or "insufficient_quota" in says:
            return Fault(
                reason, again=False, stops=f"{where} says that no credit is left ({reason}); refill it and resume."
            )
        wait = retry_after(error.response.headers)
        if wait > LONGEST_WAIT:
            sentence = f"{where} asks to wait for {wait:.0f} s ({reason}); resume the run then."
            return Fault(reason, again=False, stops=sentence)
        return Fault(reason, again=status in TRANSIENT or status >= 500, wait=wait)

    def _redacted(self, text: str) -> str:
        key = self.endpoint.key()
        return text if key is None else text.replace(key, "[key]")


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait, given as milliseconds, seconds or a date; 0 if it does not say."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value) * unit
    if (date := email.utils.parsedate_tz(headers.get("retry-after", ""))) is None:
        return 0.0
    return max(0.0, email.utils.mktime_tz(date) - time.time())


def _body(endpoint: Endpoint, question: Question, structured: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": question.text}],
        **{name: value for name, value in endpoint.sampling.items() if value is not None},
        endpoint.answer_tokens_key: question.answer_tokens,
    }
    if question.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": question.top_logprobs}
    if structured:
        schema = {"name": "verdict", "strict": True, "schema": question.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def request_bytes(question: Question) -> int:
    return len(question.text.encode()) + (len(json.dumps(question.schema)) if question.schema else 0)
