"""The nouns of a round, from a prompt to a pair: frozen dataclasses. Batches of tensors are in `batch.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from sparring.core.answers import Expense

Origin = Literal["policy", "teacher"]
Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy is asked. `teacher` is a stronger author's answer, if there is one; `meta` is for annotators."""

    id: str
    messages: tuple[Message, ...]
    teacher: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def text(self) -> str:
        """The contents of all messages, a blank line between them."""
        return "\n\n".join(message.content for message in self.messages)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. `ids` are the very tokens that were sampled, the end token included when `finish` is "stop".

    `logp` is the log-probability of `ids` under the policy that sampled the round, in nats, summed over tokens, at
    temperature 1. `defect` names why the sample may only lose a comparison, or is None.
    """

    text: str
    ids: tuple[int, ...]
    origin: Origin
    finish: Finish
    logp: float
    defect: str | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """The responses to one prompt, policy samples first. `prompt_ids` is the prompt as the policy reads it.

    A sampler may have told the policy more than the prompt says; that is in neither.
    """

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    responses: tuple[Response, ...]


def unsampled(prompt: Prompt, texts: Sequence[str]) -> Candidates:
    """Candidates of which only the texts matter: nobody sampled them here, so they have no tokens."""
    return Candidates(prompt, (), tuple(Response(text, (), "policy", "stop", 0.0) for text in texts))


@dataclass(frozen=True, slots=True)
class Output:
    """What a model answered, whoever it is: a policy, another program's model or a file. None is what is not known.

    `tokens` are those of the answer, by the model's own tokenizer, and `seconds` what it took.
    """

    prompt: Prompt
    text: str
    model: str
    tokens: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an annotator says of the K candidates of one prompt.

    `win[i, j]` is P(i beats j): diagonal 1/2, `win + win.T == 1`. `scores` keeps the annotator's native scale and
    `aspects` what it looked at, of which more is better; `notes` are about the judging itself, such as how much of a
    response was not read. All three are per candidate. A judgement whose `status` is not "ok" makes no pairs.

    `calls`, tokens and `cost`, in the currency of the annotator's price table, are what the answers used are worth,
    whether they were asked now or long ago; `cached` of the calls cost nothing this time, because their answers were
    kept. All but `cached` are functions of the candidates, so a table does not depend on interruptions.

    `logits[i, j]` is what a pair ranker answered with i shown first, in nats and not antisymmetric, diagonal 0. They
    are kept raw, so that every win-rate mode can be read off them again; None where the annotator has none.
    """

    win: Float[np.ndarray, "k k"]
    scores: tuple[float, ...] | None = None
    aspects: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    notes: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    status: str = "ok"
    calls: int = 0
    raw: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    cached: int = 0
    logits: Float[np.ndarray, "k k"] | None = None

    @property
    def expense(self) -> Expense:
        return Expense(self.calls, self.prompt_tokens, self.completion_tokens, self.cost, self.cached)


@dataclass(frozen=True, slots=True)
class Pair:
    """Candidate `chosen` is preferred to `rejected` with probability `win`.

    `score` is that of `chosen` and `margin` its lead over `rejected`, both on the strategy's own scale. `rejected` is
    None where a response stands alone; its `win` is then its win rate and its `margin` 0.
    """

    chosen: int
    rejected: int | None
    win: float
    score: float
    margin: float
    kind: str
