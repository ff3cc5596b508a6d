"""Mixtures of policies: every response is drawn from one of several, as a Nash mixture or an average over rounds asks.

Self-play converges to Nash on average only (arXiv 2404.03715 §2), and this is how the average can be sampled. One model
is in memory, and takes the weights of one member after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sparring.core.errors import ConfigError, DataError
from sparring.core.files import read_json, write_json
from sparring.core.preference import TOLERANCE
from sparring.core.seeding import derive_seed, numpy_rng
from sparring.core.types import Candidates, Prompt, Response
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler, ignore


@dataclass(frozen=True)
class Mixture:
    """`policies` are files of `Policy.save_trainable_state` or directories of `Policy.save`; `weights` add up to 1."""

    policies: Sequence[str]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if not self.policies or len(self.policies) != len(self.weights):
            raise ConfigError(
                f"a mixture has {len(self.policies)} policies and {len(self.weights)} weights; give one each."
            )
        if min(self.weights) < 0 or abs(sum(self.weights) - 1) > TOLERANCE:
            raise ConfigError(
                f"the weights of a mixture are {list(self.weights)}; they must be positive and add up to 1."
            )

    def members(self, seed: int, position: int, count: int) -> list[int]:
        """Which policy gives each of `count` responses to prompt `position`; more responses leave the first as are."""
        points = numpy_rng(seed, "mixture", position).random(count)
        drawn = np.searchsorted(np.cumsum(self.weights), points, side="right")
        return drawn.clip(max=len(self.weights) - 1).tolist()


@dataclass(frozen=True, kw_only=True)
class MixtureSampler(Sampler):
    """A `Sampler` whose every response comes from a policy drawn by weight. The policy it is given lends its model."""

    mixture: Mixture

    def check(self, policy: Policy) -> None:
        """Refuse members that cannot be read or are not of the policy's model; else the first samples would."""
        for member in self.mixture.policies:
            try:
                with policy.using_state(stored_state(policy, member)):
                    pass
            except (OSError, SafetensorError) as error:
                raise DataError(f"{member} cannot be read as weights ({error}); restore the mixture.") from error

    def __call__(
        self, policy: Policy, prompts: Sequence[Prompt], *, seed: int, on_tokens: Callable[[int], object] = ignore
    ) -> list[Candidates]:
        drawn = [self.mixture.members(seed, position, self.num_generations) for position in range(len(prompts))]
        asked: dict[int, Candidates] = {}
        answers: dict[tuple[int, int], Response] = {}
        for member in sorted({each for row in drawn for each in row}):
            with policy.using_state(stored_state(policy, self.mixture.policies[member])):
                # A sampler gives every prompt as many responses, so prompts go by how many they need of this member.
                for count in sorted({row.count(member) for row in drawn} - {0}):
                    positions = [position for position, row in enumerate(drawn) if row.count(member) == count]
                    sampler = replace(self.single, num_generations=count)
                    wanted = [prompts[position] for position in positions]
                    sampled = sampler(policy, wanted, seed=derive_seed(seed, member, count), on_tokens=on_tokens)
                    for position, candidates in zip(positions, sampled, strict=True):
                        asked[position] = candidates
                        places = [number for number, each in enumerate(drawn[position]) if each == member]
                        answers |= {(position, n): r for n, r in zip(places, candidates.responses, strict=True)}
        return [
            replace(asked[position], responses=tuple(answers[position, n] for n in range(self.num_generations)))
            for position in range(len(prompts))
        ]


# ---------------------------------------------------------------- sets on disk


def save_mixture(directory: Path, policy: Policy, policies: Mapping[int, Path], weights: Mapping[int, float]) -> None:
    """`mixture.json`, and every policy of positive weight as transformers reads it; of a LoRA the adapters.

    `policies` are files of trainable weights by the number of rounds that made them.
    """
    members: list[dict[str, Any]] = []
    for rounds, weight in weights.items():
        if weight > TOLERANCE:
            name = f"policy-{rounds:03d}"
            with policy.using_state(policies[rounds]):
                policy.save(directory / name)
                members.append(
                    {"policy": name, "rounds": rounds, "weight": weight, "fingerprint": policy.fingerprint()}
                )
    total = sum(member["weight"] for member in members)
    write_json(directory / "mixture.json", {"members": [m | {"weight": m["weight"] / total} for m in members]})


def load_mixture(path: str) -> Mixture:
    """What `save_mixture` wrote to directory `path`."""
    record = Path(path) / "mixture.json"
    members = read_json(record).get("members")
    if not members:
        raise DataError(f"{record} names no policies; give the mixture directory of a run that has exported one.")
    return Mixture([str(Path(path) / member["policy"]) for member in members], [m["weight"] for m in members])


def stored_state(policy: Policy, path: str) -> dict[str, Tensor]:
    """The trainable weights of a file, or of a directory that a policy of this kind was saved to."""
    if not Path(path).is_dir():
        return load_file(path)
    stored = {name: weight for file in Path(path).glob("*.safetensors") for name, weight in load_file(file).items()}
    if not policy.lora:
        return stored
    adapters = {name: name.replace(".default.", ".") for name in policy.trainable_state()}  # peft saves the short name
    return {name: stored[saved] for name, saved in adapters.items() if saved in stored}
