"""Methods (`arm=NAME`) in settings (`experiment=NAME`): what the two make together, and what is refused."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sparring.cli.build import Parts, check_objective, make
from sparring.cli.build_decoding import check_nothing_trained
from sparring.cli.check import check_run, check_targets
from sparring.core.errors import ConfigError
from sparring.core.schedule import learning_rate_factor

torch.set_num_threads(1)

CONF = Path(__file__).parents[2] / "conf"
# Arms of games have settings of their own: other prompts, other rates.
GAMES = {"imitation": {"rollout.path"}, "spag": set(), "taboo_imitation": set(), "taboo_spag": set()}
# Arms that train nothing have no pairs, and decode as long as the setting's sampler does.
DECODING = {"linear_alignment", "principle", "best_of"}
OTHERS = GAMES.keys() | DECODING
ARMS = sorted({path.stem for path in (CONF / "arm").glob("*.yaml") if not path.stem.startswith("nash_")} - OTHERS)
# What only the user knows: earlier data.
GIVEN = {"rollout.path": "pairs.parquet", "rollout.run": "outputs/earlier", "annotator.model": "model"}
DATA = {"offline_dpo": {"rollout.path"}, "sft_positives": {"rollout.path"}, "dno_lookahead": {"rollout.run"}}

# Experiments that any method may run in, and their learning rates.
SETTINGS = {"quickstart": 3.0e-4, "sppo_paper": 5.0e-7, "dno_paper": 5.0e-7}

every_arm = pytest.mark.parametrize("arm", ARMS)


def composed(*overrides: str) -> tuple[dict[str, Any], set[str]]:
    """The resolved configuration, and which of its values a user had to give."""
    return deepcopy(composed_once(*overrides))


@cache
def composed_once(*overrides: str) -> tuple[dict[str, Any], set[str]]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", list(overrides))
    missing = OmegaConf.missing_keys(cfg)
    for key in missing:
        OmegaConf.update(cfg, key, GIVEN.get(key, "x"))
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return plain, missing


@every_arm
@pytest.mark.parametrize(("setting", "rate"), SETTINGS.items())
def test_every_arm_fits_every_setting_which_decides_the_learning_rate(arm, setting, rate):
    cfg, missing = composed(f"experiment={setting}", f"arm={arm}")
    assert cfg["arm_name"] == arm
    assert missing - {"model.path", "annotator.model"} == DATA.get(arm, set())
    assert cfg["objective"]["optimizer"]["lr"] == rate
    check_run(cfg)
    check_targets(cfg)


@pytest.mark.parametrize(
    ("setting", "arm", "rate"),
    [
        ("spag_llama2_7b", "imitation", 5.0e-6),
        ("spag_llama2_7b", "spag", 2.0e-6),
        ("taboo_quickstart", "taboo_imitation", 4.0e-3),
        ("taboo_quickstart", "taboo_spag", 1.0e-3),
    ],
)
def test_the_stages_of_spag_fit_their_settings(setting, arm, rate):
    cfg, missing = composed(f"experiment={setting}", f"arm={arm}")
    assert (cfg["arm_name"], missing) == (arm, GAMES[arm])
    assert cfg["objective"]["optimizer"]["lr"] == rate
    assert cfg["objective"]["_target_"].endswith("Imitation" if "imitation" in arm else "SPAG")
    check_run(cfg)
    check_targets(cfg)


@pytest.mark.parametrize("arm", sorted(DECODING))
@pytest.mark.parametrize("setting", SETTINGS)
def test_ways_of_decoding_fit_every_setting_and_decode_as_its_sampler_does(arm, setting):
    cfg, missing = composed(f"experiment={setting}", f"arm={arm}")
    assert (cfg["arm_name"], cfg["rounds"]) == (arm, 1)
    assert missing <= {"model.path", "annotator.model"}
    check_run(cfg)
    check_targets(cfg)
    check_nothing_trained(cfg)
    sampler = cfg["objective"]["sampler"]
    drawn = sampler["sampler"] if arm == "best_of" else sampler
    apart = {"_target_", "num_generations", "top_p", "principle", "ratio", "mode", "scoring_budget"}
    assert all(cfg["sampler"][key] == value for key, value in drawn.items() if key not in apart)
    assert drawn["num_generations"] == cfg["callbacks"]["win_rate"]["samples_per_prompt"]


@every_arm
def test_a_method_is_the_same_in_every_setting(arm):
    """What a setting's own method says of pairs, losses and references must not linger."""

    def method(experiment: str) -> dict[str, Any]:
        cfg, _ = composed(f"experiment={experiment}", f"arm={arm}")
        keys = ("teacher", "replay", "reference", "anchor", "min_margin", "union")
        pairing = cfg["pairing"]
        del pairing["win_rate_mode"]
        pairing["filters"] = {name: rule for name, rule in pairing["filters"].items() if rule and name != "max_length"}
        objective = {name: value for name, value in cfg["objective"].items() if name != "optimizer"}
        rollout = {key: cfg["rollout"][key] for key in keys if key in cfg["rollout"]}
        read = {"pairing": pairing} if "pairing" in cfg["rollout"] else {}  # recorded pairs are paired already
        return {**read, "objective": objective, "rollout": rollout, "rounds": cfg["rounds"]}

    assert method("quickstart") == method("sppo_paper") == method("dno_paper")


@pytest.fixture
def check(chat_policy):
    """Build rollout and objective of a configuration, and have them checked against each other."""

    def checked(*overrides: str) -> None:
        cfg, missing = composed("experiment=quickstart", *overrides)
        assert not missing
        check_objective(make(cfg["objective"])(chat_policy), Parts(cfg).make(cfg["rollout"]))

    return checked


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm not in DATA])
def test_objective_and_data_of_an_arm_fit_each_other(arm, check):
    check(f"arm={arm}")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["pairing=every_response"], "DNO compares two responses, but this pairing makes single ones"),
        (["arm=sppo_hard", "pairing=every_response"], "SPPOHard compares two responses"),
        (["rollout=supervised"], "DNO compares two responses, but this rollout makes single ones"),
        (["arm=kto", "pairing=best_vs_worst"], "KTO takes single responses, but this run makes pairs"),
        (["objective=kto", "rollout=supervised"], "KTO regresses on win rates .* which this rollout does not give"),
        (["objective=sppo"], "SPPO regresses on win rates .* which replayed pairs lack; set rollout.replay=0"),
        (["arm=sppo", "objective.sppo_eta=0.0"], "objective.sppo_eta is 0"),
    ],
)
def test_a_method_without_the_data_it_needs_is_one_sentence(overrides, sentence, check):
    with pytest.raises(ConfigError, match=sentence) as raised:
        check(*overrides)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("objective", ["sppo", "sft"])
def test_an_objective_that_takes_either_takes_single_responses(objective, check):
    check(f"objective={objective}", "pairing=every_response", "rollout=no_replay")


# ---------------------------------------------------------------- the settings of SPPO


def rates(experiment: str, *overrides: str) -> list[float]:
    """Learning rates of steps 0 to 309, the first after the only epoch, on the 19,766 prompts of the first split."""
    cfg, _ = composed(f"experiment={experiment}", *overrides)
    schedule = cfg["callbacks"]["round_optimizer"]
    steps = -(-19_766 // cfg["batch_size"])
    assert steps == 309
    return [
        cfg["objective"]["optimizer"]["lr"]
        * learning_rate_factor(
            step,
            steps_per_epoch=steps,
            schedule_total_epochs=schedule["schedule_total_epochs"],
            warmup_ratio=schedule["warmup_ratio"],
            shape=schedule["shape"],
        )
        for step in range(steps + 1)
    ]


@pytest.mark.parametrize(
    ("experiment", "overrides", "last", "mean"),
    [
        ("sppo_paper", [], 2.77378815e-7, 1.38240574e-7),
        ("sppo_code", ["schedule_total_epochs=6"], 4.63129496e-7, 3.41426859e-7),
        ("sppo_code", [], 0.0, 2.5e-7),
    ],
)
def test_disagreeing_about_epochs_is_disagreeing_about_the_learning_rate(experiment, overrides, last, mean):
    *first, end = rates(experiment, *overrides)
    assert end == pytest.approx(last, rel=1e-8)
    assert sum(first) / len(first) == pytest.approx(mean, rel=1e-8)


def test_paper_and_code_of_sppo_disagree_on_four_things():
    def flat(tree: Any, where: str = "") -> dict[str, Any]:
        if not isinstance(tree, dict):
            return {where: tree}
        return {key: value for name, child in tree.items() for key, value in flat(child, f"{where}.{name}").items()}

    paper, code = (flat(composed(f"experiment={name}")[0]) for name in ("sppo_paper", "sppo_code"))
    assert paper.keys() == code.keys()
    # A copied part repeats under whatever holds it: the rollout and the win rate have sampler, pairing and prompts.
    differing = {key.rpartition(".")[2]: (paper[key], code[key]) for key in paper if paper[key] != code[key]}
    assert differing == {
        "run_name": ("sppo_paper", "sppo_code"),
        "temperature": (1.0, 0.7),
        "top_p": (1.0, 0.9),
        "win_rate_mode": ("pairwise_sym", "aggregated_code"),
        "schedule_total_epochs": (18, 1),
    }


def test_sppo_runs_as_the_authors_ran_it():
    cfg, _ = composed("experiment=sppo_paper")
    assert cfg["objective"] == {
        "_target_": "sparring.objectives.sppo.SPPO",
        "_partial_": True,
        "sppo_eta": 1000.0,
        "log_z": 0.5,
        "optimizer": {
            "_target_": "torch.optim.RMSprop", "_partial_": True, "lr": 5e-7, "alpha": 0.99, "eps": 1e-8,
        },
    }  # fmt: skip
    assert cfg["trainer"]["gradient_clip_val"] is None
    assert (cfg["rounds"], cfg["stop_after_epochs"], cfg["batch_size"]) == (3, 1, 64)
    assert cfg["callbacks"]["round_optimizer"]["decay"] == 1.0
    assert {name for name, rule in cfg["pairing"]["filters"].items() if rule} == {"duplicate", "min_margin"}
