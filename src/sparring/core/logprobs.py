"""Log-probabilities of sequences, in float32 whatever the model's dtype."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def sequence_logp(
    logits: Float[Tensor, "batch time vocab"], ids: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, " batch"]:
    """Sum over the response of log p(ids[t]), where `logits[:, t]` already predicts `ids[:, t]`; masked steps count 0.

    A sum, never a mean: both DNO (arXiv 2404.03715) and SPPO (2405.00675) are stated in sequence log-probabilities.
    """
    # Cross-entropy on the raw dtype would round: bf16 holds 8 bits, and a sum over 500 tokens needs more.
    token_logp = torch.log_softmax(logits.float(), dim=-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return token_logp.masked_fill(~mask, 0.0).sum(-1)
