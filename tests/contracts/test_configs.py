"""Every option of every group composes, and every node fits the signature of what it is to call."""

import inspect
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from sparring.cli.check import check_run, check_targets
from sparring.cli.train import conf_directory, give, offer_sweeps

torch.set_num_threads(1)

CONF = Path(__file__).parents[2] / "conf"
SWEEPS = CONF.parent / "sweeps"
OPTIONS = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.glob("*/**/*.yaml"))
EXPERIMENTS = [option for option in OPTIONS if option.startswith("experiment/")]
STUDIES = sorted(path.stem for path in SWEEPS.glob("*.yaml") if "# @package" in path.read_text())
# What only the user knows, and anything else without a value is a mistake in conf/.
REQUIRED = {
    "annotator/payoff_table": {"annotator.labels": ["a", "b"]},
    "annotator/recorded": {"annotator.path": "judgements.jsonl"},
    "annotator/reward_model": {"annotator.path": "model"},
    "annotator/cross_encoder": {"annotator.ranker.path": "model"},
    "annotator/llm_judge": {"annotator.model": "model"},
    "annotator/llm_judge_pairwise": {"annotator.model": "model"},
    "annotator/llm_judge_logprobs": {"annotator.model": "model"},
    "model/hf": {"model.path": "model"},
    "prompts/jsonl": {"prompts.path": "prompts.jsonl"},
    "prompts/parquet": {"prompts.path": "prompts.parquet"},
    "prompts/hub": {"prompts.repo": "owner/name"},
    "sampler/mixture": {"sampler.mixture.path": "outputs/quickstart/mixture"},
    "rollout/recorded_pairs": {"rollout.path": "pairs.parquet"},
    "rollout/recorded_rounds": {"rollout.run": "outputs/earlier"},
    "rollout/taboo_recorded": {"rollout.path": "episodes.parquet"},
    "arm/imitation": {"rollout.path": "episodes.parquet"},
    "arm/offline_dpo": {"rollout.path": "pairs.parquet"},
    "arm/sft_positives": {"rollout.path": "pairs.parquet"},
    "arm/dno_lookahead": {"rollout.run": "outputs/earlier"},
    "suite/answers": {"suite.format": "alpaca_eval", "suite.questions": "alpaca_eval.json"},
    "suite/personal": {"suite.questions": "preference_data.json"},
    "experiment/dno_paper": {"model.path": "model", "annotator.model": "model"},
    "experiment/sppo_paper": {"model.path": "model"},
    "experiment/sppo_code": {"model.path": "model"},
}
# Options that make sense beside others only.
BESIDE = {
    "callbacks/arena/default": ["game=taboo", "prompts=taboo_words", "rollout=taboo"],
    "rollout/taboo": ["game=taboo"],
    "rollout/taboo_recorded": ["game=taboo"],
    "rollout/taboo_scripted": ["game=taboo"],
}
HYDRAS_OWN = {"_target_", "_partial_", "_convert_", "_recursive_"}


@pytest.fixture(autouse=True)
def hydra_here() -> Iterator[None]:
    offer_sweeps()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@cache
def as_written(option: str) -> DictConfig:
    group, _, name = option.rpartition("/")
    if group == "suite":
        return compose("evaluate", [f"suite={name}"])
    chosen = ["run_name=x"] if group != "experiment" else []
    place = "optimizer@objective.optimizer" if group == "optimizer" else group
    # A group of Hydra's own settings is composed by its place in train.yaml.
    return compose("train", [*chosen, *BESIDE.get(option, []), f"{place}={name}"], return_hydra_config=group == "hydra")


def composed(option: str) -> DictConfig:
    cfg = deepcopy(as_written(option))
    for key, value in REQUIRED.get(option, {}).items():
        assert OmegaConf.is_missing(OmegaConf.select(cfg, key.rpartition(".")[0]), key.rpartition(".")[2]), key
        OmegaConf.update(cfg, key, value)
    return cfg


def nodes(tree: object, where: str = "") -> Iterator[tuple[str, dict]]:
    """Every node with a target, however deep."""
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield where, tree
        for name, child in tree.items():
            yield from nodes(child, f"{where}.{name}")
    elif isinstance(tree, list):
        for number, child in enumerate(tree):
            yield from nodes(child, f"{where}[{number}]")


def assert_binds(node: dict, where: str) -> None:
    target = get_object(node["_target_"])
    try:
        signature = inspect.signature(target)
    except ValueError:  # a class written in C does not tell; calling it does
        target(**{name: value for name, value in node.items() if name not in HYDRAS_OWN})
        return
    names = {name: None for name in node if name not in HYDRAS_OWN}
    bind = signature.bind_partial if node.get("_partial_") else signature.bind
    try:
        bind(**names)
    except TypeError as error:
        pytest.fail(f"{where}: {error}")


def assert_fits(cfg: DictConfig) -> None:
    assert OmegaConf.missing_keys(cfg) == set()
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    found = list(nodes(plain))
    assert found
    for where, node in found:
        assert_binds(node, where)
    if "suite" not in plain:
        check_run(plain)
    check_targets(plain)


@pytest.mark.parametrize("option", [option for option in OPTIONS if not option.startswith("hydra/")])
def test_every_option_composes_and_all_its_nodes_bind(option):
    assert_fits(composed(option))


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_composes_and_says_what_it_sweeps(study):
    cfg = compose("train", [f"+sweeps={study}"], return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    swept = {key: [v.strip() for v in str(values).split(",")] for key, values in cfg.hydra.sweeper.params.items()}
    assert swept
    first = {key: values[0] for key, values in swept.items()}
    names, arms = set(), set()
    for key, values in swept.items():
        for value in values:  # of the others the first: all combinations would be many
            chosen = [f"{name}={it}" for name, it in (first | {key: value}).items()]
            job = compose("train", [f"+sweeps={study}", *chosen])
            give(job)
            assert_fits(job)
            names.add(job.run_name)
            arms.add(job.arm_name)
    assert len(names) == 1 + sum(len(values) - 1 for values in swept.values())
    if cfg.study is not None:
        assert cfg.study.name == study
        named = {cfg.study.baseline, *cfg.study.given}
        assert named.union(*({claim.arm, claim.against} for claim in cfg.study.claims)) <= arms
        assert cfg.hydra.sweep.dir == f"outputs/{study}"  # a report takes all that lies there


def test_what_a_run_writes_is_where_its_name_says():
    cfg = compose("train", ["run_name=x"], return_hydra_config=True)
    assert cfg.hydra.run.dir == "outputs/x"
    assert f"{cfg.hydra.sweep.dir}/{cfg.hydra.sweep.subdir}" == "outputs/x"


@pytest.mark.parametrize("option", EXPERIMENTS)
def test_an_experiment_changes_the_run_from_its_first_line(option):
    assert (CONF / f"{option}.yaml").read_text().splitlines()[0] == "# @package _global_"


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sweep_is_a_study_of_hydras_or_a_file_of_wandbs(path):
    for_wandb = OmegaConf.load(path).keys() >= {"program", "method", "parameters"}
    assert path.read_text().startswith("# @package _global_\n") is not for_wandb


def test_all_studies_are_options_of_one_group():
    assert ConfigStore.instance().list("sweeps") == [f"{name}.yaml" for name in STUDIES]


def test_every_key_of_the_run_is_read_by_something():
    code = "".join(path.read_text() for path in (CONF.parent / "src/sparring/cli").glob("*.py"))
    settings = "".join(path.read_text() for path in CONF.rglob("*.yaml"))
    keys = OmegaConf.load(CONF / "train.yaml").keys() - {"defaults"}
    assert {k for k in keys if not (f'cfg["{k}"]' in code or f"cfg.{k}" in code or f"${{{k}}}" in settings)} == set()


def test_values_that_a_user_must_give_are_the_documented_ones():
    missing = {option: OmegaConf.missing_keys(as_written(option)) for option in OPTIONS if option[:6] != "hydra/"}
    assert {option: keys for option, keys in missing.items() if keys} == {
        option: set(values) for option, values in REQUIRED.items()
    }


def test_no_adapter_is_an_option_that_leaves_the_model_as_it_is():
    assert composed("model/lora/none").model.lora is None
    assert composed("model/lora/default").model.lora.r == 16


def test_the_configuration_is_found_beside_the_sources():
    assert conf_directory() == CONF
    assert conf_directory("sweeps") == SWEEPS


FOLLOWED = {"num_generations": 3, "temperature": 0.25, "top_p": 0.5, "top_k": 7, "max_new_tokens": 9}
FOLLOWED |= {"min_new_tokens": 2, "token_budget": 99}
OWN = {  # what a way of decoding is about
    "linear_alignment": {"top_p"},
    "principle_top_p_1": {"top_p"},
    "principle_cool": {"temperature"},
}


@pytest.mark.parametrize("suite", ["preference", "linear_alignment_quickstart", "personal"])
def test_policies_that_are_compared_decode_alike_but_for_what_is_compared(suite):
    changes = [f"suite.sampler.{key}={value}" for key, value in FOLLOWED.items()]
    decodings: Any = OmegaConf.to_container(compose("evaluate", [f"suite={suite}", *changes]), resolve=True)
    for name, node in decodings["suite"]["decodings"].items():
        drawing = node.get("sampler", node)
        own = OWN.get(name, set()) - ({"top_p"} if suite == "personal" else set())
        assert {key for key in FOLLOWED if drawing[key] != FOLLOWED[key]} == own, name
