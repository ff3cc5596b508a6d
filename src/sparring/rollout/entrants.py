"""Who answers prompts to be compared: a policy under some way of decoding, a teacher, a file of recorded outputs.

Answers are kept in chunks as they come: an evaluation that was killed goes on, and one that is repeated asks nobody.
Which entrants there are on a command line is `cli/entrants.py`'s business, an endpoint is in `endpoint_entrant.py`.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sparring.core.answers import Expense, canonical
from sparring.core.errors import DataError, RoundError
from sparring.core.seeding import derive_seed
from sparring.core.types import Finish, Output, Prompt
from sparring.data.rounds import Chunks
from sparring.data.schema import OUTPUTS, message_columns
from sparring.policy.mixture import MixtureSampler
from sparring.policy.policy import Policy
from sparring.policy.principled import PrincipledSampler
from sparring.policy.sampler import Sampler
from sparring.rollout.best_of import BestOfSampler, drawing
from sparring.rollout.chunks import chunk_ranges, progress

TABLE = "outputs"
BYTES_PER_TOKEN = 3  # few, as in a judge's estimate


@dataclass(frozen=True, slots=True)
class Said:
    """One response. `tokens` are those of the entrant's own tokenizer; None is what nobody knows.

    `seconds` is None where they were not measured one by one; a chunk's are then shared by its responses.
    """

    text: str
    finish: Finish | None = None
    tokens: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What was said to some prompts, in their order.

    `computed` is how many tokens were computed to say it: of best-of-n those of all draws, of a steered policy those of
    both its contexts. None where nobody knows.
    """

    said: Sequence[tuple[Said, ...]]
    computed: int | None = None
    expense: Expense = field(default_factory=Expense)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """How many responses a prompt will get, and how many tokens they have together at most."""

    responses: int
    tokens: int


@runtime_checkable
class Answering(Protocol):
    """An entrant that is ready. `identity` stands for all that its answers depend on but prompts and seed.

    `tokenizer` stands for what its tokens are, None where that is not known.
    """

    @property
    def identity(self) -> str: ...

    @property
    def tokenizer(self) -> str | None: ...

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise DataError for a prompt that cannot be answered, before any is."""
        ...

    def __call__(self, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object]) -> Answers: ...


@runtime_checkable
class Entrant(Protocol):
    """Who can be compared, under a name. `rounds` is how many rounds of training it has seen, None if not known.

    `described` says in words who it is. To open one may load a model; it is closed before the next one is opened.
    """

    @property
    def label(self) -> str: ...

    @property
    def described(self) -> str: ...

    @property
    def rounds(self) -> int | None: ...

    def foreseen(self, prompts: Sequence[Prompt]) -> list[Foreseen]:
        """Of each prompt; raises DataError where it is known without opening that one cannot be answered."""
        ...

    def opened(self) -> AbstractContextManager[Answering]: ...


@dataclass(frozen=True, slots=True)
class PolicyEntrant:
    """A policy with the weights of `weights`, a file of a run's round, or its own; it decodes with `sampler`.

    `manner` stands for the sampler in the identity. `load` gives the policy, and may give several entrants the same.
    """

    label: str
    described: str
    rounds: int | None
    load: Callable[[], Policy]
    weights: Path | None
    sampler: Sampler | BestOfSampler
    manner: str

    def foreseen(self, prompts: Sequence[Prompt]) -> list[Foreseen]:
        sampler = drawing(self.sampler)
        if isinstance(sampler, PrincipledSampler):
            for prompt in prompts:
                sampler.told(prompt)
        drawn = sampler.num_generations
        return [Foreseen(drawn, drawn * sampler.max_new_tokens)] * len(prompts)

    @contextmanager
    def opened(self) -> Iterator["PolicyAnswering"]:
        policy = self.load()
        with policy.using_state(self.weights) if self.weights is not None else nullcontext():
            vocabulary = canonical(policy.tokenizer.get_vocab())[:16]
            yield PolicyAnswering(policy, self.sampler, f"{policy.fingerprint()}, {self.manner}", vocabulary)


@dataclass(frozen=True, slots=True)
class PolicyAnswering:
    policy: Policy
    sampler: Sampler | BestOfSampler
    identity: str
    tokenizer: str

    def check(self, prompts: Sequence[Prompt]) -> None:
        sampler = drawing(self.sampler)
        if isinstance(sampler, MixtureSampler):
            sampler.check(self.policy)
        sampler.check_room(self.policy, prompts)

    def __call__(self, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object]) -> Answers:
        computed = 0

        def count(tokens: int) -> None:
            nonlocal computed
            computed += tokens
            on_tokens(tokens)

        expense = Expense()
        if isinstance(self.sampler, BestOfSampler):
            drawn, expense = self.sampler.choose(self.policy, prompts, seed=seed, on_tokens=count)
        else:
            drawn = self.sampler(self.policy, prompts, seed=seed, on_tokens=count)
        said = [tuple(Said(each.text, each.finish, len(each.ids)) for each in one.responses) for one in drawn]
        return Answers(said, computed, expense)


# ---------------------------------------------------------------- what was said before


@dataclass(frozen=True, slots=True)
class RecordedEntrant:
    """Recorded outputs, by the id of their prompt: all that are there to a prompt are its responses."""

    label: str
    described: str
    outputs: Mapping[str, Sequence[Output]]
    rounds: int | None = None

    def foreseen(self, prompts: Sequence[Prompt]) -> list[Foreseen]:
        for prompt in prompts:
            if not self.outputs.get(prompt.id):
                raise DataError(
                    f"{self.described} has no output of {self.label!r} for prompt {prompt.id} "
                    f"({shortened(prompt.text)}); give a file that answers every prompt."
                )
        return [_of_texts([output.text for output in self.outputs[prompt.id]]) for prompt in prompts]

    @contextmanager
    def opened(self) -> Iterator["RecordedAnswering"]:
        yield RecordedAnswering(self)


class RecordedAnswering:
    tokenizer = None

    def __init__(self, entrant: RecordedEntrant) -> None:
        self._entrant = entrant
        texts = hashlib.sha256()
        for prompt, outputs in sorted(entrant.outputs.items()):
            for output in outputs:
                texts.update(f"{prompt} {len(output.text)} {output.text}".encode())
        self.identity = f"recorded {texts.hexdigest()[:16]}"

    def check(self, prompts: Sequence[Prompt]) -> None:
        self._entrant.foreseen(prompts)

    def __call__(self, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object]) -> Answers:
        found = [self._entrant.outputs[prompt.id] for prompt in prompts]
        return Answers([tuple(Said(out.text, None, out.tokens, out.seconds) for out in outs) for outs in found])


@dataclass(frozen=True, slots=True)
class TeacherEntrant:
    """The answers that the prompts bring with them."""

    label: str
    described: str = "the prompts' own answers"
    rounds: int | None = None

    def foreseen(self, prompts: Sequence[Prompt]) -> list[Foreseen]:
        return [_of_texts([_taught(prompt)]) for prompt in prompts]

    @contextmanager
    def opened(self) -> Iterator["TeacherAnswering"]:
        yield TeacherAnswering()


class TeacherAnswering:
    identity = "teacher"
    tokenizer = None

    def check(self, prompts: Sequence[Prompt]) -> None:
        for prompt in prompts:
            _taught(prompt)

    def __call__(self, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object]) -> Answers:
        return Answers([(Said(_taught(prompt)),) for prompt in prompts])


def _taught(prompt: Prompt) -> str:
    if prompt.teacher is None:
        raise DataError(
            f"prompt {prompt.id} ({shortened(prompt.text)}) has no teacher's answer; leave teacher out, or give "
            "prompts that have one."
        )
    return prompt.teacher


def _of_texts(texts: Sequence[str]) -> Foreseen:
    return Foreseen(len(texts), sum(math.ceil(len(text.encode()) / BYTES_PER_TOKEN) for text in texts))


# ---------------------------------------------------------------- all of them


def collect(entrant: Entrant, prompts: Sequence[Prompt], chunks: Chunks, *, chunk_size: int, seed: int) -> None:
    """Have every prompt answered, unless it was before; raises RoundError where that was by somebody else."""
    with entrant.opened() as answering, progress(entrant.label, "tok", 0) as bar:
        ranges = chunk_ranges(len(prompts), chunk_size)
        if not all(chunks.has(TABLE, number) for number in range(len(ranges))):
            with naming(entrant.label):
                answering.check(prompts)
        for number, positions in enumerate(ranges):
            asked = [prompts[place] for place in positions]
            own = derive_seed(seed, "evaluate", entrant.label, number)
            made = {"entrant": answering.identity, "prompts": prompts_hash(asked), "seed": own}
            if chunks.has(TABLE, number):
                _check_same(chunks, number, made)
                continue
            started = time.perf_counter()
            answers = answering(asked, seed=own, on_tokens=bar.update)
            seconds = time.perf_counter() - started
            rows = [
                _row(prompt, i, one)
                for prompt, said in zip(asked, answers.said, strict=True)
                for i, one in enumerate(said)
            ]
            facts = {"seconds": seconds, "computed": answers.computed, "expense": asdict(answers.expense)}
            facts["tokenizer"] = answering.tokenizer
            chunks.write(TABLE, number, OUTPUTS, rows, made | facts)


@contextmanager
def naming(label: str) -> Iterator[None]:
    """Say of what is wrong with a prompt whose answer it stops."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{label}: {error}") from error


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """Of all that an answer or a judgement may depend on: ids do not always stand for what the messages say."""
    said = [[prompt.id, message_columns(prompt), prompt.teacher] for prompt in prompts]
    return canonical({"prompts": said})[:16]


def _row(prompt: Prompt, index: int, said: Said) -> dict[str, Any]:
    return {
        "prompt_id": prompt.id,
        "index": index,
        "text": said.text,
        "finish": said.finish,
        "tokens": said.tokens,
        "seconds": said.seconds,
    }


def _check_same(chunks: Chunks, number: int, made: Mapping[str, Any]) -> None:
    stored = chunks.facts(TABLE, number)
    for name, now in made.items():
        if stored[name] != now:
            raise RoundError(
                f"{chunks.path(TABLE, number)} was answered with {name} {stored[name]}, but now it is {now}; give "
                "another label or output, or delete it."
            )


def shortened(text: str, most: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
