"""What objectives see: `NamedTuple`s of tensors, the only immutable kind that Lightning moves between devices.

Apart from the records in `types.py`, so that commands which only read a run do not import torch.
"""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class Groups(NamedTuple):
    """Prompts with their responses: the unit that a policy scores, so that a prompt is computed once per group."""

    prompt_ids: Int[Tensor, "groups prompt"]  # left-padded
    prompt_mask: Bool[Tensor, "groups prompt"]
    response_ids: Int[Tensor, "responses response"]  # right-padded
    response_mask: Bool[Tensor, "responses response"]
    group: Int[Tensor, " responses"]  # which prompt a response answers


class PairBatch(NamedTuple):
    """One forward pass: groups, and pairs as indices into their responses.

    `scale` makes the sum of per-pair losses the mean over the optimiser step, whatever the number of micro-batches
    and ranks that share the step.
    """

    groups: Groups
    ref_logp: Float[Tensor, " responses"]
    win_rate: Float[Tensor, " responses"]  # P(response beats the round's policy)
    chosen: Int[Tensor, " pairs"]
    rejected: Int[Tensor, " pairs"]  # -1 where there is none
    win: Float[Tensor, " pairs"]  # P(chosen beats rejected), NaN where there is none
    sample_win_rates: Float[Tensor, "groups samples"]  # of all the policy's samples of a prompt, NaN-padded
    scale: Float[Tensor, ""]


class LossOutput(NamedTuple):
    """`loss` is per pair, before `scale`; `metrics` are detached scalars."""

    loss: Float[Tensor, " pairs"]
    metrics: dict[str, Tensor]
