"""Linear Alignment (arXiv 2401.11458): each token is drawn from logits that a principle's effect on them is added to.

The effect is the difference between the logits of the same text with and without the principle in its prompt
(self-contrastive decoding): two contexts, one model, no gradient and no training. As the authors' code computes it, in
log space. Not here: the paper's step length, which divides by the gradient's norm, as their code does not.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import LogitsProcessor

from sparring.core.errors import ConfigError

Mode = Literal["official", "demo", "none"]
"""Which distribution the nucleus is taken from: the principled one, the combined one, or there is none."""


def combine_logits(
    principled: Float[Tensor, "rows vocab"],
    plain: Float[Tensor, "rows vocab"],
    *,
    ratio: float,
    temperature: float,
    top_p: float,
    mode: Mode,
) -> Float[Tensor, "rows vocab"]:
    """Log-probabilities of the next token: (principled + ratio * (principled - plain)) / temperature in a nucleus.

    Ratio 0 is decoding with the principle in the prompt, -1 without it. A large ratio amplifies what both contexts find
    unlikely, which is what the nucleus of `official` is for. `none` does not read `top_p`. A token that is impossible
    with the principle stays so. Raises ConfigError where no probability can be computed.
    """
    principled, plain = principled.float(), plain.float()
    combined = torch.lerp(plain, principled, 1 + ratio).div_(temperature)  # plain + (1 + ratio) * (principled - plain)
    combined.masked_fill_(principled.isneginf(), float("-inf"))  # where -inf + inf has no value
    if mode != "none":
        source = combined if mode == "demo" else principled / temperature
        combined.masked_fill_(~nucleus(source.softmax(-1), top_p), float("-inf"))
    steered = combined.log_softmax(-1)
    if steered[:, 0].isnan().any():  # one that has no sum makes the whole row NaN
        raise ConfigError(
            f"at ratio {ratio:g} no token has a probability that can be computed; lower sampler.ratio, or use a policy "
            "whose logits are finite."
        )
    return steered


def nucleus(probabilities: Float[Tensor, "rows vocab"], top_p: float) -> Bool[Tensor, "rows vocab"]:
    """The likeliest tokens: one stays if the mass of those before it is below `top_p`, so one always does.

    A token as likely as the last of them stays too, so that the order of the vocabulary does not matter. 1 is off.
    """
    if top_p == 1:
        return torch.ones_like(probabilities, dtype=torch.bool)
    return probabilities >= least_likely(probabilities, top_p, among=8)


def least_likely(probabilities: Float[Tensor, "rows vocab"], top_p: float, *, among: int) -> Float[Tensor, "rows 1"]:
    """The smallest probability in each nucleus, looked for `among` so many tokens, and where they are too few again.

    To sort a vocabulary takes as long as a step of a tiny model does, and a nucleus mostly holds a few tokens.
    """
    among = min(among, probabilities.shape[1])
    likeliest = probabilities.topk(among).values
    mass = likeliest.cumsum(-1, dtype=torch.float64)
    least = likeliest.gather(-1, (mass[:, :-1] < top_p).sum(-1, keepdim=True))
    short = (mass[:, -1] < top_p).nonzero().squeeze(1)
    if among < probabilities.shape[1] and len(short):
        least[short] = least_likely(probabilities[short], top_p, among=8 * among)
    return least


class Steering(LogitsProcessor):
    """Combines a batch's first half, contexts with a principle, with its second half, the same ones without.

    Both halves get the combined log-probabilities, so that they continue with the same token: with the likeliest, or
    where draws use the same random number for both, as `decode` does with `uniforms`; `model.generate` does not, so
    there it is for greedy decoding. A context that ends, ends in both halves.
    """

    def __init__(self, *, ratio: float, temperature: float, top_p: float, mode: Mode) -> None:
        if not abs(1 + ratio) <= torch.finfo(torch.float32).max:  # what logits are combined in
            raise ConfigError(f"sampler.ratio is {ratio}; it must be a finite number that float32 can hold.")
        self.ratio, self.temperature, self.top_p = ratio, temperature, top_p
        self.mode: Mode = mode

    def __call__(self, input_ids: Tensor, scores: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        if len(scores) % 2:
            raise ConfigError(
                f"steered decoding got {len(scores)} rows; give prompts with their principles, then all without."
            )
        principled, plain = scores.chunk(2)
        return combine_logits(
            principled, plain, ratio=self.ratio, temperature=self.temperature, top_p=self.top_p, mode=self.mode
        ).repeat(2, 1)
