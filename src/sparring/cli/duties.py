"""What the annotators of a run will be asked, and whether they can be: known before the first sample is drawn."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from sparring.callbacks.payoff_matrix import PayoffMatrix
from sparring.callbacks.win_rate import WinRate
from sparring.core.errors import ConfigError
from sparring.core.protocols import Annotator, Checkable, Reader
from sparring.core.types import Prompt
from sparring.objectives.decoding import Decoding
from sparring.policy.policy import Policy
from sparring.rollout.best_of import BestOfSampler
from sparring.rollout.chunks import lend
from sparring.rollout.context import Rollout
from sparring.rollout.preference import PreferenceRollout


@dataclass(frozen=True, slots=True)
class Duty:
    """Of each prompt of each table `samples` responses, and where `teacher` is true its teacher's, if it has one."""

    purpose: str
    annotator: Annotator
    tables: Sequence[Sequence[Prompt]]
    samples: int
    teacher: bool


def duties(rollout: Rollout, callbacks: Iterable[L.Callback], *, rounds: int) -> Iterator[Duty]:
    """The order of the callbacks is that of a run: the payoff matrix reads what the win rate has sampled."""
    if isinstance(rollout, PreferenceRollout) and rollout.annotator is not None:
        tables = [rollout.prompts.for_round(index) for index in range(rounds)]
        yield Duty("rounds", rollout.annotator, tables, rollout.sampler.num_generations, rollout.teacher)
    samples = 0
    for callback in callbacks:
        if isinstance(callback, WinRate):
            samples = callback.sampler.num_generations
            for which, annotator in callback.annotators.items():
                yield Duty(f"{which} win rate", annotator, [callback.prompts.validation], 2 * samples, teacher=False)
        elif isinstance(callback, PayoffMatrix):
            contestants = (rounds + 1) * samples
            yield Duty("payoff matrix", callback.annotator, [callback.prompts.validation], contestants, teacher=True)


def decoding_duties(objective: Decoding, win_rate: WinRate | None, prompts: Sequence[Prompt]) -> Iterator[Duty]:
    """Of a run that trains nothing: to choose among the draws, and to measure."""
    if isinstance(objective.sampler, BestOfSampler):
        yield Duty("draws", objective.sampler.annotator, [prompts], objective.sampler.n, teacher=False)
    if win_rate is not None:
        samples = win_rate.sampler.num_generations + objective.sampler.num_generations
        for which, annotator in win_rate.annotators.items():
            yield Duty(f"{which} win rate", annotator, [prompts], samples, teacher=False)


@rank_zero_only
def check_annotators(policy: Policy, ahead: Sequence[Duty]) -> None:
    """No key, no server, no such model, nothing that fits its context; an annotator that several share, asked once."""
    check_second(ahead)
    for duty in ahead:
        lend(policy, duty.annotator)
        if isinstance(duty.annotator, Reader):
            check_reader(duty.annotator, duty)
    for annotator in {id(duty.annotator): duty.annotator for duty in ahead}.values():
        if isinstance(annotator, Checkable):
            annotator.check()


def check_second(ahead: Sequence[Duty]) -> None:
    """It is to see what training on the other one does not show."""
    others = [duty.annotator for duty in ahead if duty.purpose != "second win rate"]
    for duty in ahead:
        if duty.purpose == "second win rate" and any(duty.annotator is other for other in others):
            raise ConfigError(
                "callbacks.win_rate.second_annotator is the run's own annotator, so it would say the same again; "
                "give another one, or null."
            )


def check_reader(reader: Reader, duty: Duty) -> None:
    """It can judge some prompt, and its chat template refuses no sequence of roles."""
    readable, seen = False, set[tuple[str, ...]]()
    for prompt in (prompt for table in duty.tables for prompt in table):
        roles = tuple(message.role for message in prompt.messages)
        if readable and roles in seen:
            continue
        seen.add(roles)
        taught = duty.teacher and prompt.teacher is not None
        readable = reader.can_read(prompt, duty.samples + taught) or readable
    if not readable:
        raise ConfigError(
            f"annotator {type(reader).__name__} can judge no prompt of the {duty.purpose}, for {duty.samples} "
            "responses to it, however short, exceed its model's context; give a model with a longer one, fewer "
            "responses, or less room for its answers."
        )
