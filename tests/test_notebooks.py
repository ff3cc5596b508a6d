"""The notebooks hold no outputs, and run from top to bottom on runs of the real command."""

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from training_runs import Outcome, fork_server, story_model

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# Two rounds, with four samples of each held-out prompt: two to be the best of.
SMALL = {
    "experiment": "quickstart",
    "rounds": 2,
    "model": "hf",
    "prompts.train": 12,
    "prompts.validation": 4,
    "prompts.split": "same",
    "sampler.num_generations": 3,
    "sampler.max_new_tokens": 12,
    "batch_size": 8,
    "pairing": "all_pairs",
    "callbacks.win_rate.samples_per_prompt": 4,
}


@pytest.fixture(scope="module")
def train() -> Iterator[Callable[..., Outcome]]:
    with fork_server() as run:
        yield run


@pytest.fixture(scope="module")
def run(train: Callable[..., Outcome], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    settings = SMALL | {"model.path": story_model(root / "model")}
    outcome = train([f"{key}={value}" for key, value in settings.items()], root)
    assert outcome.exit_code == 0, outcome.output
    return root / "run"


@pytest.fixture(scope="module")
def lab(train: Callable[..., Outcome], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lab")
    outcome = train(["experiment=nash_lab", "hydra.mode=RUN", "arm=nash_dno", "rounds=3"], root)
    assert outcome.exit_code == 0, outcome.output
    return root


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_finished_runs(
    path: Path, run: Path, lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARRING_RUN", str(run))
    monkeypatch.setenv("SPARRING_NASH_LAB", str(lab))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # else it warns of its old ones
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
