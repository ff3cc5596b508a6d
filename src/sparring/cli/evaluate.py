"""`sparring evaluate suite=NAME policies=...`: policies that were trained elsewhere, measured together.

    sparring evaluate suite=preference policies=base=sparring:tiny,outputs/dno,la=sparring:tiny+linear_alignment
    sparring evaluate suite=taboo policies=outputs/taboo/spag,scripted
    sparring evaluate suite=taboo policies=mine=outputs/taboo/spag@2,other=DIR suite.games_per_word=4 output=DIR
    sparring evaluate suite=reasoning policies=outputs/taboo/spag,base=sparring:tiny tasks=[arc_easy,mmlu@5]
    sparring evaluate suite=answers policies=outputs/dno suite.format=mt_bench suite.questions=question.jsonl

A policy is RUN, RUN@ROUND (a number, or base), or MODEL: a saved model or a name on the hub; LABEL= in front names it
in the tables. What else may stand there, and what is measured, is the suite's: see conf/suite/NAME.yaml, whose keys are
set with suite.KEY=VALUE. The same command continues what was interrupted; budget.max_cost, budget.max_calls and
answers.path are those of `sparring train`.

    output=DIR       where results go; outputs/evaluation/NAME unless given
    seed=1           of everything that is drawn
    threads=N        torch threads
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sparring.cli.check import check_targets, require_whole
from sparring.cli.explain import one_sentence
from sparring.cli.make import make
from sparring.cli.policies import HOW, parse_policies
from sparring.cli.train import conf_directory
from sparring.core.errors import ConfigError
from sparring.core.files import read_json, write_json


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    with one_sentence():
        evaluate(arguments)


def evaluate(arguments: Sequence[str]) -> None:
    """`policies` has a grammar of its own: labels are no keys of Hydra's, and paths may hold what it would quote."""
    chosen = [argument for argument in arguments if argument.startswith("policies=")]
    overrides = [argument for argument in arguments if argument not in chosen]
    if len(chosen) > 1:
        raise ConfigError(f"policies must be given once, as policies=A,B; {HOW}.")
    name, cfg = composed(overrides)
    if not chosen and cfg["policies"] is None:
        raise ConfigError(f"policies must be given once, as policies=A,B; {HOW}.")
    sources = parse_policies(chosen[0].removeprefix("policies=") if chosen else ",".join(cfg["policies"]))
    require_whole("seed", cfg["seed"], least=0)
    if cfg["threads"] is not None:
        require_whole("threads", cfg["threads"], least=1)
    if not isinstance(cfg["output"], str | None):
        raise ConfigError(f"output is {cfg['output']!r}; it must be a text: quote it twice, as 'output=\"3\"'.")
    check_targets({"suite": cfg["suite"]})

    import torch  # what a typing error can stop comes first

    from sparring.cli.run_directory import claimed

    if cfg["threads"] is not None:
        torch.set_num_threads(cfg["threads"])
    output = Path(cfg["output"] or f"outputs/evaluation/{name}").expanduser()
    if (output / "config.yaml").exists() or (output.exists() and not output.is_dir()):
        what = "a run, whose files would be overwritten" if output.is_dir() else "no directory"
        raise ConfigError(f"output is {output}, which is {what}; give another directory.")
    record = output / "evaluation.json"
    with claimed(output):
        if record.exists() and (earlier := read_json(record)["suite"]) != name:
            raise ConfigError(f"{output} holds results of suite={earlier}; give another output.")
        make(cfg["suite"])(sources, output=output, seed=cfg["seed"])
        if output.exists():  # a dry run leaves nothing
            write_json(record, {"suite": name, "policies": [asdict(source) for source in sources], "config": cfg})


def composed(overrides: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The suite's name, and the configuration as plain dictionaries."""
    named = [override for override in overrides if override.startswith("suite=")]
    suites = sorted(path.stem for path in (conf_directory() / "suite").glob("*.yaml"))
    if len(named) != 1:
        raise ConfigError(f"one suite must be given; choose suite=NAME of {', '.join(suites)}.")
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        cfg = compose("evaluate", list(overrides))
    for key in sorted(OmegaConf.missing_keys(cfg)):
        raise ConfigError(f"{key} must be given: add {key}=VALUE.")
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore[reportAssignmentType]
    return named[0].removeprefix("suite="), plain
