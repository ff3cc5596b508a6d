"""Learning rate over the optimiser steps of one round: linear warm-up, then one of three shapes."""

import math
from typing import Literal, get_args

from sparring.core.errors import ConfigError

Shape = Literal["linear", "cosine", "constant"]


def learning_rate_factor(
    step: int, *, steps_per_epoch: int, schedule_total_epochs: int, warmup_ratio: float, shape: Shape
) -> float:
    """What step `step`, counted from 0, multiplies the peak learning rate with; the very first step of a warm-up has 0.

    `schedule_total_epochs` is what the schedule is drawn for, not what is trained: SPPO (arXiv 2405.00675) draws 18 or
    6 epochs and stops after one, which is a statement about the learning rate. "linear" and "cosine" end at 0.
    """
    if steps_per_epoch < 1 or schedule_total_epochs < 1 or not 0 <= warmup_ratio <= 1:
        raise ConfigError(
            f"A schedule of {schedule_total_epochs} epochs of {steps_per_epoch} steps with warm-up ratio {warmup_ratio}"
            " cannot be drawn: epochs and steps must be at least 1, the ratio within [0, 1]."
        )
    if shape not in get_args(Shape):
        raise ConfigError(f"The schedule's shape is {shape!r}: choose one of {', '.join(get_args(Shape))}.")
    total = steps_per_epoch * schedule_total_epochs
    warmup = math.ceil(warmup_ratio * total - 1e-9)  # 0.07 * 100 is a hair above 7
    if step < warmup:
        return step / warmup
    if shape == "constant":
        return 1.0
    if step >= total:
        return 0.0
    progress = (step - warmup) / (total - warmup)
    return 1.0 - progress if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
