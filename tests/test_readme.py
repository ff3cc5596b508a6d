"""What README.md says: its worked example runs, its commands compose, and what it names is there."""

import csv
import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from sparring.cli.check import check_run, check_targets
from sparring.cli.evaluate import composed
from sparring.cli.main import USAGE
from sparring.cli.policies import parse_policies
from sparring.cli.train import conf_directory, main, offer_sweeps

torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
README = (ROOT / "README.md").read_text()
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
INLINE = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", PROSE)]
SMALL = ["rounds=1", "prompts.split=same", "prompts.train=6", "prompts.validation=3", "sampler.max_new_tokens=16"]


def lines_of(language: str) -> Iterator[list[str]]:
    """The command lines in the blocks of a language, as the shell's words."""
    for named, block in FENCED:
        if named == language:
            for line in block.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield words


COMMANDS = [words[2:] for words in lines_of("bash") if words[:2] == ["uv", "run"]]
OURS = [words[1:] for words in COMMANDS if words[0] == "sparring"]
# torchrun starts the module behind `sparring train` itself
OURS += [["train", *words[words.index("sparring.cli.train") + 1 :]] for words in COMMANDS if words[0] == "torchrun"]


def table(header: str) -> list[list[str]]:
    """The cells of the rows below `header`."""
    rows = re.search(rf"^{re.escape(header)}\n\|[-|]+\|\n((?:\|.*\n)+)", PROSE, re.MULTILINE)
    assert rows is not None, header
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1].splitlines()]


def named_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_nothing_is_left_to_be_filled_in():
    assert re.findall(r"^[A-Z]+(?:_[A-Z]+)+$", README, re.MULTILINE) == []


# ---------------------------------------------------------------- the worked example


def example(first_line: str) -> str:
    [block] = [block for _, block in FENCED if block.startswith(f"# {first_line}\n")]
    return block


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the example's files, from which Python imports."""
    directory = tmp_path_factory.mktemp("example")
    for name in ("hinge.py", "my_conf/objective/hinge.yaml"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(example(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        patch.chdir(directory)
        yield directory
        sys.modules.pop("hinge", None)


@pytest.fixture(scope="module")
def run(workplace: Path) -> Path:
    """What the example's command leaves, on few prompts."""
    [words] = [words for words in lines_of("bash") if "--config-dir" in words]
    assert words[:5] == ["PYTHONPATH=.", "uv", "run", "sparring", "train"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sparring", *words[5:], *SMALL])
        for name in ("HYDRA_FULL_ERROR", "TOKENIZERS_PARALLELISM", "WANDB_MODE"):  # the command sets them for itself
            patch.setenv(name, "")
            patch.delenv(name)
        try:
            main()
        finally:
            GlobalHydra.instance().clear()
    [directory] = (workplace / "outputs").iterdir()
    return directory


def test_the_example_trains_to_its_end(run):
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["objective"]) == ("finished", "Hinge")
    assert len(summary["rounds"]) == 1


def test_the_examples_loss_is_a_hinge(workplace):
    loss = importlib.import_module("hinge").hinge_loss(torch.tensor([4.0, 20.0, -10.0, 0.0]), beta=0.1)
    torch.testing.assert_close(loss, torch.tensor([0.6, 0.0, 2.0, 1.0]))


def test_a_run_leaves_every_file_of_the_table(run):
    names = [name for row in table("| in `outputs/<run_name>/` | |") for name in named_in(row[0])]
    assert len(names) >= 9
    assert [name for name in names if not (run / name).exists()] == []


def test_a_run_logs_every_metric_of_the_table(run):
    with (run / "metrics.csv").open() as file:
        logged = {row["name"] for row in csv.DictReader(file)}
    patterns = [pattern for row in table("| metric | what |") for pattern in named_in(row[0])]
    assert patterns
    assert [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in logged)] == []


# ---------------------------------------------------------------- commands and choices


@pytest.fixture
def hydra_here() -> Iterator[None]:
    offer_sweeps()
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        yield


def assert_runs(cfg: DictConfig) -> None:
    assert OmegaConf.missing_keys(cfg) == set()
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    check_run(plain)
    check_targets(plain)


@pytest.mark.usefixtures("hydra_here")
@pytest.mark.parametrize("words", [words for words in OURS if words[0] == "train"], ids=" ".join)
def test_every_command_to_train_composes(words):
    flags = {word for word in words[1:] if word.startswith("-")}
    assert flags <= {"-m", "--multirun"}
    assert_runs(compose("train", [word for word in words[1:] if word not in flags]))


def test_every_command_exists():
    assert OURS
    assert {words[0] for words in COMMANDS} <= {"sparring", "pytest", "python", "torchrun"}
    inline = [code.split() for code in INLINE if code.startswith("sparring ")]
    assert {words[0] for words in OURS} | {words[1] for words in inline} <= set(re.findall(r"sparring (\w+)", USAGE))


def settings_of(code: str) -> list[list[str]]:
    """What a piece of code in a sentence sets, `group=a|b` standing for several commands; empty if it sets nothing."""
    words = code.removeprefix("sparring train ").split()
    if not all(re.fullmatch(r"[\w./]+=\S+", word) for word in words):
        return []
    choices = [[f"{word.split('=')[0]}={value}" for value in word.split("=", 1)[1].split("|")] for word in words]
    longest = max(map(len, choices))
    return [[options[min(n, len(options) - 1)] for options in choices] for n in range(longest)]


SETTINGS = [settings for code in dict.fromkeys(INLINE) for settings in settings_of(code)]


@pytest.mark.usefixtures("hydra_here")
@pytest.mark.parametrize("settings", SETTINGS, ids=" ".join)
def test_every_setting_in_a_sentence_exists(settings):
    if not settings[0].startswith("suite."):
        compose("train", ["run_name=x", *settings])
        return
    key = settings[0].removeprefix("suite.").partition("=")[0]
    suites = [compose("evaluate", [f"suite={path.stem}"]).suite for path in (CONF / "suite").glob("*.yaml")]
    assert any(OmegaConf.select(suite, key, default="absent") != "absent" for suite in suites)


@pytest.mark.parametrize("words", [words[1:] for words in OURS if words[0] == "evaluate"], ids=" ".join)
def test_every_evaluation_fits_its_suite(words):
    chosen = [word for word in words if word.startswith("policies=")]
    _, cfg = composed([word for word in words if word not in chosen])
    check_targets({"suite": cfg["suite"]})
    assert parse_policies(chosen[0].removeprefix("policies=")) if chosen else cfg["policies"]


def test_the_table_of_choices_lists_every_option_of_its_groups():
    listed: dict[str, set[str]] = {}
    group = ""
    for heading, options, *_ in table("| group | options | |"):
        group = named_in(heading)[0] if heading else group
        listed.setdefault(group, set()).update(named_in(options))
    assert {"objective", "pairing", "annotator", "rollout"} <= listed.keys()
    assert listed == {group: {path.stem for path in (CONF / group).glob("*.yaml")} for group in listed}


def test_the_table_of_folders_is_that_of_the_repository():
    named = {name for row in table("| | |") for name in named_in(row[0])}
    assert [name for name in sorted(named) if not (ROOT / name).is_dir()] == []
    packages = {f"src/sparring/{path.parent.name}" for path in ROOT.glob("src/sparring/*/__init__.py")}
    assert packages <= named
