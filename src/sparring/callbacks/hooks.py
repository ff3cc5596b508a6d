"""What the round callbacks share: which rounds are done, and the context in which a policy is used outside a step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lightning as L
from torch import distributed

from sparring.core.errors import ConfigError, RoundError, SparringError
from sparring.data.datamodule import RoundDataModule
from sparring.objectives.base import Objective
from sparring.objectives.decoding import Decoding
from sparring.objectives.precision import decoding_precision
from sparring.policy.policy import Policy


def round_data(trainer: L.Trainer) -> RoundDataModule:
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, RoundDataModule):
        raise ConfigError("rounds need a RoundDataModule; pass one to trainer.fit.")
    return data


def finished_epochs(trainer: L.Trainer) -> int:
    """Epochs whose training steps are all done, right at any hook and after resuming from any checkpoint."""
    return trainer.fit_loop.epoch_progress.current.processed  # pyright: ignore[reportAttributeAccessIssue]


def together(work: Callable[[], None]) -> None:
    """Every rank's share of `work`; returns when all have done theirs. What a user can mend ends all of them alike.

    Else one rank would wait for the other, which has ended, and call that a fault of the network.
    """
    error: SparringError | None = None
    try:
        work()
    except SparringError as own:
        error = own
    errors: list[SparringError | None] = [error]
    if distributed.is_available() and distributed.is_initialized():
        errors = [None] * distributed.get_world_size()
        distributed.all_gather_object(errors, error)
    for first in filter(None, errors):
        raise first


@contextmanager
def using_policy(trainer: L.Trainer, objective: L.LightningModule) -> Iterator[Policy]:
    """The policy in eval mode, without gradients, in the trainer's precision."""
    if not isinstance(objective, Objective | Decoding):
        raise RoundError(f"{type(objective).__name__} is no Objective, so it has no policy to sample from.")
    with decoding_precision(trainer), objective.policy.evaluating():
        yield objective.policy
