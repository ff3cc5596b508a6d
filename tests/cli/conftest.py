"""`sparring train` inside the test's process, in a directory of its own; many runs then share one import of torch."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from training_runs import story_model

from sparring.cli.train import main

torch.set_num_threads(1)

# Two rounds of 6 prompts with 3 candidates and a teacher's each: 2 to 6 steps a round.
SMALL = {
    "experiment": "quickstart",
    "run_name": "small",
    "model": "hf",
    "rounds": 2,
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


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return story_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., Outcome]:
    """The command with exactly these arguments; `run` says which run is asked about."""
    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_FULL_ERROR", "TOKENIZERS_PARALLELISM", "WANDB_MODE"):  # the command sets them for itself
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)

    def command(*arguments: str, run: str = "small") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["sparring", *arguments])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            assert isinstance(end.code, int)
            status = end.code
        finally:
            GlobalHydra.instance().clear()
        return Outcome(status, *capsys.readouterr(), tmp_path / "outputs" / run)

    return command


@pytest.fixture
def small(train: Callable[..., Outcome], model: Path) -> Callable[..., Outcome]:
    """A small run, with what the arguments change in it."""
    settings = [f"{key}={value}" for key, value in (SMALL | {"model.path": model}).items()]

    def command(*arguments: str, run: str = "small") -> Outcome:
        return train(*settings, *arguments, run=run)

    return command
