"""A model behind an OpenAI-compatible endpoint among those who answer prompts to be compared."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sparring.core.answers import Expense
from sparring.core.errors import ConfigError, DataError
from sparring.core.seeding import derive_seed
from sparring.core.types import Prompt
from sparring.rollout.endpoint import Endpoint, Question
from sparring.rollout.entrants import Answers, Foreseen, Said, shortened


@dataclass(frozen=True, slots=True)
class EndpointEntrant:
    """Answers every prompt `samples` times, in requests of their own: not every server gives several answers to one."""

    label: str
    endpoint: Endpoint
    samples: int = 1
    rounds: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"{self.label} is to answer {self.samples} times; it must be 1 or more.")

    @property
    def described(self) -> str:
        return self.endpoint.described

    def foreseen(self, prompts: Sequence[Prompt]) -> list[Foreseen]:
        return [Foreseen(self.samples, self.samples * self.endpoint.max_new_tokens)] * len(prompts)

    @contextmanager
    def opened(self) -> Iterator["EndpointAnswering"]:
        yield EndpointAnswering(self.endpoint, self.samples)


class EndpointAnswering:
    """`tokenizer` is the model's name: what its tokens are is not known, but whose they are."""

    def __init__(self, endpoint: Endpoint, samples: int) -> None:
        self._endpoint = endpoint
        self._samples = samples
        self.tokenizer = endpoint.model
        self.identity = f"{endpoint.described}, {samples} samples"

    def check(self, prompts: Sequence[Prompt]) -> None:
        """What its context has room for, the server alone knows."""

    def __call__(self, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object]) -> Answers:
        """`computed` is what the server says it generated, thinking included, where it says so of every answer."""
        asked = [prompt for prompt in prompts for _ in range(self._samples)]
        questions = [Question(prompt.messages, derive_seed(seed, place)) for place, prompt in enumerate(asked)]
        said: list[Said] = []
        expense = Expense()
        for prompt, one in zip(asked, self._endpoint.ask(questions), strict=True):
            if one is None:
                raise DataError(
                    f"prompt {prompt.id} ({shortened(prompt.text)}) has no room in the context of "
                    f"{self._endpoint.model!r}; leave it out, or lower suite.endpoint.max_new_tokens."
                )
            on_tokens(one.completion_tokens or 0)
            said.append(Said(one.text, one.finish, one.completion_tokens, one.seconds))
            expense += self._endpoint.expense(one)
        counted = [one.tokens for one in said if one.tokens is not None]
        grouped = [tuple(said[place : place + self._samples]) for place in range(0, len(said), self._samples)]
        return Answers(grouped, sum(counted) if len(counted) == len(said) else None, expense)
