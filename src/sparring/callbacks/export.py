"""At the end of a run: the trained policy in Hugging Face layout, and on request a mixture of all rounds' policies."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import lightning as L

from sparring.callbacks.hooks import finished_epochs, using_policy
from sparring.core.files import read_json
from sparring.policy.mixture import save_mixture


class Export(L.Callback):
    """Writes `export/`, whole or not at all; a LoRA policy as its adapter, or merged into its base on request.

    `mixture` writes a set of policies with weights beside it: "uniform", the average over the base and all rounds, or
    "nash", the equilibrium among them that `payoff.json` in the evaluation directory holds.
    """

    def __init__(
        self,
        run: Path,
        *,
        merge_lora: bool,
        mixture: Literal["nash", "uniform"] | None = None,
        policy_path: Callable[[int], Path],
        epochs_per_round: int,
    ) -> None:
        self.run = run
        self.merge_lora = merge_lora
        self.mixture = mixture
        self.policy_path, self.epochs_per_round = policy_path, epochs_per_round

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            with using_policy(trainer, pl_module) as policy:
                with whole(self.run / "export") as directory:
                    policy.save(directory, merge_lora=self.merge_lora)
                if self.mixture is not None:
                    rounds = range(finished_epochs(trainer) // self.epochs_per_round + 1)
                    policies = {number: self.policy_path(number) for number in rounds}
                    with whole(self.run / "mixture") as directory:
                        save_mixture(directory, policy, policies, self._weights(rounds))
        trainer.strategy.barrier("exported")

    def _weights(self, rounds: range) -> dict[int, float]:
        if self.mixture == "uniform":
            return {number: 1 / len(rounds) for number in rounds}
        payoff = read_json(self.run / "evaluation" / "payoff.json")
        return dict(zip(rounds, payoff["nash"]["rounds"]["weights"].values(), strict=True))  # base first


@contextmanager
def whole(directory: Path) -> Iterator[Path]:
    """A temporary directory that becomes `directory` when the block ends well."""
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    yield temporary
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)
