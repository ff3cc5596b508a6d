"""What a wheel holds, and that the command runs from one, far from any checkout."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(directory), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory / "site")
    return directory / "site"


def python(*arguments: str, directory: Path, path: Path) -> subprocess.CompletedProcess:
    """Python in `directory`, where the package comes from `path` and from nowhere else."""
    environment = os.environ | {"PYTHONPATH": str(path), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def files(folder: Path, pattern: str = "*") -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("folder", ["conf", "sweeps"])
def test_the_wheel_holds_the_configuration(unpacked, folder):
    assert files(unpacked / "sparring" / folder) == files(ROOT / folder) != set()


def test_the_wheel_holds_the_package_with_its_marker_and_assets(unpacked):
    sources = files(ROOT / "src" / "sparring")
    assert "py.typed" in sources
    assert sources <= files(unpacked / "sparring")


def test_the_wheel_holds_nothing_else(unpacked):
    [metadata] = unpacked.glob("sparring-*.dist-info")
    assert {path.name for path in unpacked.iterdir()} == {"sparring", metadata.name}
    assert (metadata / "licenses" / "LICENSE").exists()
    assert "sparring = sparring.cli.main:main" in (metadata / "entry_points.txt").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"Version: {version}\n" in (metadata / "METADATA").read_text()


@pytest.mark.parametrize("arguments", [["experiment=quickstart"], ["+sweeps=quickstart_seeds"]])
def test_a_wheel_finds_its_configuration_from_any_directory(unpacked, tmp_path, arguments):
    result = python(
        "-m", "sparring.cli.main", "train", "--cfg", "job", *arguments, directory=tmp_path, path=unpacked
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "  _target_: sparring.objectives.dno.DNO\n" in result.stdout
    assert "run_name: quickstart" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_uses_its_own_configuration(unpacked, tmp_path):
    script = "from sparring.cli.train import conf_directory as d; print(d()); print(d('sweeps'))"
    result = python("-c", script, directory=tmp_path, path=unpacked)
    assert result.stdout.splitlines() == [str(unpacked / "sparring" / name) for name in ("conf", "sweeps")]


def test_help_and_version_import_nothing_heavy(unpacked, tmp_path):
    script = (
        "import sys; from sparring.cli.main import main; main(); "
        "print([name for name in ('torch', 'hydra', 'transformers', 'lightning', 'rich') if name in sys.modules])"
    )
    helped = python("-c", script, "--help", directory=tmp_path, path=unpacked)
    assert helped.stdout.startswith("usage: sparring COMMAND")
    assert helped.stdout.endswith("\n[]\n")
    version = python("-c", script, "--version", directory=tmp_path, path=unpacked)
    assert version.stdout.endswith("\n[]\n")
