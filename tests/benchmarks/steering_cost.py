"""What a steered token costs, in plain ones: the same prompts, copies and batch, one thread, the weights held once.

    python tests/benchmarks/steering_cost.py [--model DIRECTORY] [--repetitions 5]

Two cases for each model, on the one of this package and on ../shared/models/stories260k where it exists. "full": no
token ends a response, so every row goes to the last step. "natural": rows end as they do. Interleaved repetitions; the
ratio is the median over pairs of neighbours, of seconds per token of the response. Fails above 2.2.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from sparring.core.types import Prompt
from sparring.data.stories import PRINCIPLES, Stories
from sparring.policy.linear_alignment import LinearAlignmentSampler
from sparring.policy.loading import load_policy
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler

LIMIT = 2.2
PRINCIPLE = PRINCIPLES["cheerful"]


def seconds_per_token(sampler: Sampler, policy: Policy, prompts: Sequence[Prompt], seed: int) -> float:
    started = time.perf_counter()
    candidates = sampler(policy, prompts, seed=seed)
    tokens = sum(len(response.ids) for group in candidates for response in group.responses)
    return (time.perf_counter() - started) / tokens


def parameters_in_memory() -> int:
    """Numbers in all parameters that are alive in this process."""
    gc.collect()
    held = {id(each): each.numel() for each in gc.get_objects() if type(each) is torch.nn.Parameter}
    return sum(held.values())


def without_ends(policy: Policy) -> torch.utils.hooks.RemovableHandle:
    head = policy.base.get_output_embeddings()
    assert head is not None

    def never_end(module: object, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        logits[..., list(policy.eos_ids)] = -1e4  # finite: an impossible token has no logit to steer by
        return logits

    return head.register_forward_hook(never_end)


def measure(model: str, options: argparse.Namespace) -> float:
    policy = load_policy(model)
    once = sum(parameter.numel() for parameter in policy.parameters())
    source = Stories(train=0, validation=options.prompts, split="disjoint", rounds=1, seed=0)
    settings = {
        "num_generations": options.generations,
        "temperature": 1.0,
        "top_k": 0,
        "max_new_tokens": options.max_new_tokens,
        "token_budget": 10**9,
    }
    plain = Sampler(top_p=1.0, **settings)
    steered = LinearAlignmentSampler(top_p=0.8, principle=PRINCIPLE, ratio=2.0, mode="official", **settings)
    worst = 0.0
    for case in ("full", "natural"):
        undo = without_ends(policy) if case == "full" else None
        pairs: list[tuple[float, float]] = []
        for seed in range(options.repetitions + 1):
            both = [seconds_per_token(each, policy, source.validation, seed) for each in (plain, steered)]
            pairs.append((both[0], both[1]))
        if undo is not None:
            undo.remove()
        ratio = statistics.median(other / one for one, other in pairs[1:])  # the first warms up
        one, other = (1e6 * statistics.median(column) for column in zip(*pairs[1:], strict=True))
        print(f"{Path(model).name:16} {case:8} plain {one:7.1f}  steered {other:7.1f} us/token   ratio {ratio:.2f}")
        worst = max(worst, ratio)
    if parameters_in_memory() != once:
        sys.exit(f"the weights have {once:,} numbers, but {parameters_in_memory():,} are in memory")
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model directory; without it the two that are named above")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shared = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260k"
    models = [options.model] if options.model else ["sparring:tiny", *([str(shared)] if shared.is_dir() else [])]
    if max(measure(model, options) for model in models) > LIMIT:
        sys.exit(f"a steered token costs more than {LIMIT} plain ones")


if __name__ == "__main__":
    main()
