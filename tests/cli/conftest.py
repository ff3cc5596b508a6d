"""`sparring train` inside the test's process, in a directory of its own; many runs then share one import of torch."""

import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from sparring.cli.train import main
from training_runs import story_model

torch.set_num_threads(1)

# Two rounds of 6 prompts with 3 candidates and a teacher's each: 2 to 6 steps a round.
SMALL = {
    "experiment": "quickstart",
    "run_name": "small",
    "model": "hf",
    "rounds": 2,
    "prompts.split": "same",
    "prompts.train": 6,
    "prompts.validation": 4,
    "sampler.num_generations": 3,
    "sampler.max_new_tokens": 8,
    "batch_size": 8,
}


@dataclass(frozen=True)
class Outcome:
    status: int
    output: str
    errors: str
    run: Path

    @property
    def sentence(self) -> str:
        """What a refused command said, which must be one sentence after the program's name, and its whole complaint."""
        assert self.status == 2, self.errors
        [line] = self.errors.splitlines()
        assert line.startswith("sparring: ")
        assert line.endswith((".", "?"))
        return line.removeprefix("sparring: ")

    @property
    def made(self) -> list[str]:
        """Names of the files in the run's directory."""
        return sorted(str(path.relative_to(self.run)) for path in self.run.rglob("*") if path.is_file())


def run_command(directory: Path, *arguments: str, run: str = "small") -> Outcome:
    """`sparring train` with exactly these arguments; `run` says which run is asked about."""
    output, errors, status = StringIO(), StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.chdir(directory)
        patch.setattr(sys, "argv", ["sparring", *arguments])
        for name in ("HYDRA_FULL_ERROR", "TOKENIZERS_PARALLELISM", "WANDB_MODE"):  # the command sets them for itself
            patch.setenv(name, "")
            patch.delenv(name)
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            GlobalHydra.instance().clear()
    return Outcome(status, output.getvalue(), errors.getvalue(), directory / "outputs" / run)


@pytest.fixture(scope="session")
def command() -> Callable[..., Outcome]:
    return run_command


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return story_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def settings(model: Path) -> list[str]:
    return [f"{key}={value}" for key, value in (SMALL | {"model.path": model}).items()]


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Outcome]:
    return partial(run_command, tmp_path)


@pytest.fixture
def small(train: Callable[..., Outcome], settings: list[str]) -> Callable[..., Outcome]:
    """A small run, with what the arguments change in it."""

    def command(*arguments: str, run: str = "small") -> Outcome:
        flags = [argument for argument in arguments if argument.startswith("-")]  # Hydra wants them first
        return train(*flags, *settings, *(argument for argument in arguments if argument not in flags), run=run)

    return command


@pytest.fixture(scope="session")
def finished(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A small run as it ends, to be looked at and not touched."""
    outcome = run_command(tmp_path_factory.mktemp("finished"), *settings)
    assert outcome.status == 0, outcome.errors
    return outcome
