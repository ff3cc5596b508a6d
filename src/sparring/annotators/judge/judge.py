"""Language models as judges, over any OpenAI-compatible endpoint.

What is asked and how answers are read is the protocol's; how the server is reached is the client's. Here an answer is
looked up before it is asked for, is paid for within the budget, and is durable before it is used.
"""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import openai

from sparring.annotators.judge.client import Client, Endpoint, Structured, request_bytes
from sparring.annotators.judge.protocol import Hearing, JudgeProtocol, NoVerdict, Question, judged
from sparring.annotators.purse import Prices
from sparring.core.answers import Answer, AnswerBook, Expense, Purse, canonical
from sparring.core.errors import ConfigError
from sparring.core.types import Candidates, Judgement, Prompt, Response

T = TypeVar("T")

TRIES = 2  # of an answer that is no verdict; server faults are the client's business and have their own number
BYTES_PER_TOKEN = 3  # few, so that an estimate is rather too high
MOST_THREADS = 32
POLL = 0.05  # seconds between looks for an answer that another process is asking for


class LLMJudge:
    """Asks a model and makes its verdicts a win matrix; a verdict that cannot be read after one retry is no label.

    Without a `book` nothing is remembered and without a `purse` nothing is limited. Answers belong to the model's
    name, not to the address at which it is served. If asking must end early, for want of budget, key or server, what
    is on its way is waited for and kept, and then the error is raised.
    """

    def __init__(
        self,
        protocol: JudgeProtocol,
        base_url: str,
        model: str,
        api_key_env: str | None,
        answers_as: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        answer_tokens_key: str = "max_tokens",
        structured_output: Structured = "auto",
        prices: Prices | None = None,
        timeout: float = 120.0,
        max_retries: int = 6,
        backoff: float = 1.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        concurrency: int = 32,
        seed: int = 0,
        book: AnswerBook | None = None,
        purse: Purse | None = None,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"annotator.concurrency is {concurrency}; give 1 or more requests at a time.")
        self.protocol = protocol
        self.gives_logits = protocol.gives_logits
        self.concurrency = concurrency
        self.seed = seed
        self.book, self.purse = book, purse
        self.endpoint = Endpoint(
            base_url=base_url,
            model=model,
            api_key_env=api_key_env,
            answers_as=answers_as,
            sampling=sampling or {},
            answer_tokens_key=answer_tokens_key,
            structured_output=structured_output,
            prices=prices,
            timeout=timeout,
            max_retries=max_retries,
            backoff=backoff,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        self._client = Client(self.endpoint)

    def __call__(self, batch: Sequence[Candidates]) -> list[Judgement]:
        return run(self._judge_all(batch))

    def check(self) -> None:
        """Raise ConfigError if the server is known to be unreachable, to refuse the key or to lack the model."""
        run(self._check())

    def estimate(self, prompts: Sequence[Prompt], candidates_per_prompt: int, tokens_per_response: int) -> Expense:
        """All verdicts read at the first try, at their full length; rubrics and prompts counted by their bytes."""
        total = Expense()
        for prompt in prompts:
            stand_ins = tuple(Response(str(i), (), "policy", "stop", 0.0) for i in range(candidates_per_prompt))
            for question in self.protocol.questions(Candidates(prompt, (), stand_ins), self.seed):
                asked = request_bytes(question) // BYTES_PER_TOKEN + tokens_per_response * len(question.order)
                answered = question.answer_tokens
                total += Expense(1, asked, answered, self.endpoint.cost(asked, answered))
        return total

    def key_of(self, question: Question, attempt: int) -> str:
        """Under which the answer is kept. Of a schema the setting counts, not whether the server took it."""
        return canonical(
            {
                "protocol": self.protocol.name,
                "rubric": self.protocol.rubric.digest,
                "model": self.endpoint.model,
                "messages": [{"role": "user", "content": question.text}],
                "sampling": dict(self.endpoint.sampling) | {"answer_tokens": question.answer_tokens},
                "structured_output": self.endpoint.structured_output,
                "schema": question.schema,
                "top_logprobs": question.top_logprobs,
                "attempt": attempt,
            }
        )

    async def _check(self) -> None:
        async with self._client.connect() as connection:
            await self._client.check(connection)

    async def _judge_all(self, batch: Sequence[Candidates]) -> list[Judgement]:
        # Threads that wait for a disk or a lock, not workers: their number has nothing to do with the processor.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(min(self.concurrency, MOST_THREADS)))
        async with self._client.connect() as connection:
            sitting = _Sitting(self, self._client, connection)
            outcomes = await asyncio.gather(*(sitting.judge(one) for one in batch), return_exceptions=True)
        if sitting.ended_by is not None:
            raise sitting.ended_by
        return _all_or_raise(outcomes)


class _Ended(Exception):
    """Nobody is asked any more; why is known elsewhere."""


class _Sitting:
    """One call of the judge: its connection, its queue, and whether it goes on."""

    def __init__(self, judge: LLMJudge, client: Client, connection: openai.AsyncOpenAI) -> None:
        self.annotator, self.client, self.connection = judge, client, connection
        # As many again are looked up or kept meanwhile, so that the server never waits for the disk.
        self.desks = asyncio.Semaphore(2 * judge.concurrency)
        self.places = asyncio.Semaphore(judge.concurrency)
        self.same = defaultdict[str, asyncio.Lock](asyncio.Lock)  # the same question twice in a batch is asked once
        self.ended_by: BaseException | None = None

    async def judge(self, candidates: Candidates) -> Judgement:
        protocol = self.annotator.protocol
        questions = protocol.questions(candidates, self.annotator.seed)
        # Nothing is cut short: an answer on its way is paid for already.
        outcomes = await asyncio.gather(*(self._hear(question) for question in questions), return_exceptions=True)
        return judged(protocol, candidates, _all_or_raise(outcomes))

    async def _hear(self, question: Question) -> Hearing:
        answers: list[Answer] = []
        cached, reason, asked = 0, "", question
        for attempt in range(TRIES):
            try:
                async with self.desks:
                    answer, kept = await self._answer(asked, attempt)
                answers.append(answer)
                cached += kept
                if not self.annotator.endpoint.answered_by(answer.model):
                    raise NoVerdict("another model answered")
                return Hearing(question, tuple(answers), self.annotator.protocol.read(question, answer), cached=cached)
            except NoVerdict as verdict:
                reason = str(verdict)
                if len(answers) <= attempt:  # the server did not answer, and the client has tried long enough
                    break
                asked = question.again(reason)
            except BaseException as error:
                self.ended_by = self.ended_by or error
                raise
        return Hearing(question, tuple(answers), None, reason, cached)

    async def _answer(self, question: Question, attempt: int) -> tuple[Answer, bool]:
        """The answer, and whether it was there already."""
        book, key = self.annotator.book, self.annotator.key_of(question, attempt)
        async with self.same[key]:
            while True:
                if self.ended_by is not None:
                    raise _Ended
                if book is None:
                    return await self._buy(question, key), False
                answer, mine = await asyncio.to_thread(_look_up, book, key)
                if answer is not None:
                    return answer, True
                if mine:
                    break
                await asyncio.sleep(POLL)  # another process is asking
            try:
                return await self._buy(question, key), False
            except BaseException:
                book.release(key)
                raise

    async def _buy(self, question: Question, key: str) -> Answer:
        """The reservation ends after the answer is kept, so that its cost is counted at every moment."""
        book, purse = self.annotator.book, self.annotator.purse
        reserved, paid, held = self.annotator.endpoint.most(question), 0.0, False
        try:
            async with self.places:
                if self.ended_by is not None:
                    raise _Ended
                if purse is not None:
                    await asyncio.to_thread(purse.reserve, reserved)
                    held = True
                answer = await self.client.ask(self.connection, question)
            if book is not None:
                await asyncio.to_thread(book.keep, key, answer)  # a disk takes its time; others may answer meanwhile
            paid = answer.cost
            return answer
        finally:
            if purse is not None and held:
                await asyncio.to_thread(purse.settle, reserved, paid)


def _look_up(book: AnswerBook, key: str) -> tuple[Answer | None, bool]:
    """The answer if there is one, else whether it is ours to ask for."""
    answer = book.find(key)
    return answer, answer is None and book.claim(key)


def _all_or_raise(outcomes: Sequence[T | BaseException]) -> list[T]:
    found: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        found.append(outcome)
    return found


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """In a loop of its own, also where the caller's thread has one already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
