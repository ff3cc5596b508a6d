"""Imports point down, core knows no framework, and a test stands where its source does."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "sparring"
TESTS = ROOT / "tests"

# Tests of more than one file, by folder and by name.
ACROSS_FILES = {"contracts", "lifecycle", "invariants", "benchmarks"}
NAMED_OTHERWISE = {
    "objectives/test_dno_loss.py",  # dno.py and dno_soft.py, which are compared with each other
    "objectives/test_exact_updates.py",  # what the losses of DNO and SPPO have in common
    "cli/test_bad_input.py",  # whatever refuses it
    "cli/test_packaging.py",  # the wheel
    "test_readme.py",  # the README
    "test_notebooks.py",  # notebooks/
}


def test_imports_keep_the_contracts(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    status = lint_imports(no_cache=True)
    report = capsys.readouterr().out
    assert status == 0, report
    assert " kept, 0 broken" in report


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, at its top or anywhere inside."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(node.module or "")
    return {name if name.startswith("sparring.") else name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", sorted((SOURCES / "core").glob("*.py")), ids=lambda path: path.stem)
def test_core_imports_nothing_but_numbers_and_itself(path):
    foreign = {name for name in imported(path) - sys.stdlib_module_names if not name.startswith("sparring.core")}
    assert foreign <= {"torch", "numpy", "jaxtyping"}


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_file_is_named_after_the_source_file_it_tests(path):
    name = path.relative_to(TESTS)
    if name.parts[0] in ACROSS_FILES or name.as_posix() in NAMED_OTHERWISE:
        return
    source = SOURCES / name.parent / name.name.removeprefix("test_")
    assert source.exists(), f"{name} tests no file of {source.parent.relative_to(ROOT)}"


def test_every_exception_still_exists():
    assert {name for name in NAMED_OTHERWISE if not (TESTS / name).exists()} == set()


def test_looking_at_a_run_does_not_wait_for_torch():
    heavy = "{'torch', 'transformers', 'lightning', 'hydra'}"
    code = f"import sys, sparring.cli.show; print(*{heavy} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "")
