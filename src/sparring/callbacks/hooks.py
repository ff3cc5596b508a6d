"""What the round callbacks share: which rounds are done, and the context in which a policy is used outside a step."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L

from sparring.core.errors import ConfigError, RoundError
from sparring.data.datamodule import RoundDataModule
from sparring.objectives.base import Objective
from sparring.policy.policy import Policy


def round_data(trainer: L.Trainer) -> RoundDataModule:
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, RoundDataModule):
        raise ConfigError("rounds need a RoundDataModule; pass one to trainer.fit.")
    return data


def finished_epochs(trainer: L.Trainer) -> int:
    """Epochs whose training steps are all done, right at any hook and after resuming from any checkpoint."""
    return trainer.fit_loop.epoch_progress.current.processed  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def using_policy(trainer: L.Trainer, objective: L.LightningModule) -> Iterator[Policy]:
    """The policy in eval mode, without gradients, in the trainer's precision."""
    if not isinstance(objective, Objective):
        raise RoundError(f"{type(objective).__name__} is no Objective, so it has no policy to sample from.")
    with trainer.precision_plugin.forward_context(), objective.policy.evaluating():
        yield objective.policy
