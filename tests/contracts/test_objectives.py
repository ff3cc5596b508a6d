"""What every objective promises: a finite loss per row, a gradient everywhere, and no eye for padding or order."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from torch.nn.functional import pad

from sparring.core.batch import PairBatch, TurnBatch
from sparring.data.rows import collate_pairs, collate_turns
from sparring.objectives.turns import TurnObjective

torch.set_num_threads(1)

CONF = Path(__file__).parents[2] / "conf"
NO_LOSS = {"linear_alignment", "principle", "best_of"}  # ways of decoding
OPTIONS = sorted({path.stem for path in (CONF / "objective").glob("*.yaml")} - NO_LOSS)

# Where a micro-batch is more than the sum of its rows: KTO's reference points are means over it, and so are SPAG's
# two losses.
KNOWS_ITS_COMPANY = {"kto", "spag"}


def node(name: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", ["run_name=x", f"objective={name}"]).objective


def forms(name: str) -> list[str]:
    """The rows an objective can be given: pairs, single responses, or either; or turns of games."""
    objective = get_object(node(name)._target_)
    if issubclass(objective, TurnObjective):
        return ["turns"] * (not objective.takes_supervised) + ["turns and answers"] * objective.takes_supervised
    return ["pairs"] * objective.takes_rejected + ["singles"] * (not objective.needs_rejected)


every_option = pytest.mark.parametrize("name", OPTIONS)
USES = [(name, form) for name in OPTIONS for form in forms(name)]
every_use = pytest.mark.parametrize(("name", "form"), USES)


@pytest.fixture
def build(chat_policy):
    return lambda name: instantiate(node(name), _convert_="all")(chat_policy)


def rows_of(policy, prompt: str, answers: list[str], pairs: list[tuple[int, int]]) -> list[dict]:
    """Rows of a pairs table about one prompt. Figures differ between responses, as those of a later epoch do."""
    [prompt_ids] = policy.tokenizer([prompt], add_special_tokens=False).input_ids
    ids = [policy.encode_response(answer) for answer in answers]
    return [
        {
            "prompt_id": prompt,
            "source_round": 0,
            "prompt_ids": prompt_ids,
            "win": 0.75,
            "sample_win_rates": [0.7, 0.5, 0.3],
            **{
                f"{side}_{name}": value
                for side, i in (("chosen", chosen), ("rejected", rejected))
                for name, value in {
                    "index": i,
                    "ids": ids[i],
                    "ref_logp": -4.0 * len(ids[i]) - i,
                    "win_rate": 0.7 - 0.2 * i,
                }.items()
            },
        }
        for chosen, rejected in pairs
    ]


def singles(rows: list[dict]) -> list[dict]:
    """Every response of the pairs by itself, once."""
    sides = [(row, side) for row in rows for side in ("chosen", "rejected")]
    found = {
        row[f"{side}_index"]: row
        | {
            f"{place}_{name}": row[f"{side}_{name}"] if place == "chosen" else None
            for place in ("chosen", "rejected")
            for name in ("index", "ids", "ref_logp", "win_rate")
        }
        for row, side in sides
    }
    return list(found.values())


def turns(rows: list[dict], kinds: list[str]) -> list[dict]:
    """The first responses of single rows, as if games had been won with them."""
    return [
        {
            "kind": kind,
            "prompt_ids": row["prompt_ids"],
            "response_ids": row["chosen_ids"],
            "ref_logp": None if kind == "supervised" else row["chosen_ref_logp"],
            "reward": row["chosen_win_rate"],
            "weight": 0.75,
            "share": 1.5,
        }
        for row, kind in zip(singles(rows), kinds, strict=False)
    ]


def in_every_form(pairs: list[dict]) -> dict[str, list[dict]]:
    return {
        "pairs": pairs,
        "singles": singles(pairs),
        "turns": turns(pairs, ["attacker", "defender"]),
        "turns and answers": turns(pairs, ["defender", "supervised", "attacker"]),
    }


@pytest.fixture
def first(chat_policy):
    """Rows about one prompt, in the form that is asked for."""
    return in_every_form(
        rows_of(chat_policy, "the cat", ["sat on the mat", "ran", "sat and ran to the door"], [(0, 1), (0, 2)])
    )


@pytest.fixture
def second(chat_policy):
    return in_every_form(rows_of(chat_policy, "one day a small bird", ["was happy.", "found a big ball"], [(1, 0)]))


def collated(policy, rows: list[dict]) -> PairBatch | TurnBatch:
    collate = collate_pairs if "chosen_ids" in rows[0] else collate_turns
    return collate(rows, pad_id=policy.pad_id, scale=1.0 / len(rows))


def silent(row: dict) -> tuple[str, ...]:
    """How the names of metrics end that say nothing where this row is alone."""
    if "chosen_ids" in row:
        return ()
    return ("/defender" if row["kind"] == "attacker" else "/attacker", "loss/sft")


@every_use
def test_losses_are_finite_one_per_row_and_logged(name, form, build, first, second):
    objective = build(name)
    rows = first[form] + second[form]
    output = objective.loss(collated(objective.policy, rows))
    assert output.loss.shape == (len(rows),)
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite().all()
    assert output.metrics
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in output.metrics.values())


@every_use
def test_every_micro_batch_of_a_run_logs_the_same_names(name, form, build, first, second):
    objective = build(name)
    logged = [objective.loss(collated(objective.policy, [row])).metrics for row in first[form] + second[form]]
    assert all(metrics.keys() == logged[0].keys() for metrics in logged)
    for row, metrics in zip(first[form] + second[form], logged, strict=True):
        if row.get("kind") != "supervised":  # of which only the loss is known
            assert all(
                value.isnan() if name.endswith(silent(row)) else value.isfinite() for name, value in metrics.items()
            )


@every_use
def test_every_trainable_parameter_gets_a_gradient(name, form, build, first, second):
    objective = build(name)
    objective.loss(collated(objective.policy, first[form] + second[form])).loss.sum().backward()
    gradients = {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}
    assert gradients
    assert {n for n, grad in gradients.items() if grad is None or not grad.isfinite().all() or not grad.any()} == set()


@every_use
def test_padding_changes_nothing(name, form, build, first, second):
    objective = build(name)
    batch = collated(objective.policy, first[form] + second[form])
    groups, wider = batch.groups, objective.policy.pad_id
    padded = groups._replace(
        prompt_ids=pad(groups.prompt_ids, (3, 0), value=wider),
        prompt_mask=pad(groups.prompt_mask, (3, 0), value=False),
        response_ids=pad(groups.response_ids, (0, 5), value=wider),
        response_mask=pad(groups.response_mask, (0, 5), value=False),
    )
    narrow, wide = objective.loss(batch), objective.loss(batch._replace(groups=padded))
    torch.testing.assert_close(wide.loss, narrow.loss, rtol=1e-5, atol=1e-5)


@every_use
def test_the_order_of_groups_changes_nothing(name, form, build, first, second):
    objective = build(name)
    together = objective.loss(collated(objective.policy, first[form] + second[form])).loss
    turned = objective.loss(collated(objective.policy, second[form] + first[form])).loss
    torch.testing.assert_close(turned, together.roll(len(second[form])), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "form"), [use for use in USES if use[0] not in KNOWS_ITS_COMPANY])
def test_the_company_of_a_row_changes_nothing(name, form, build, first, second):
    objective = build(name)
    together = objective.loss(collated(objective.policy, first[form] + second[form])).loss
    alone = objective.loss(collated(objective.policy, first[form])).loss
    torch.testing.assert_close(alone, together[: len(first[form])], rtol=1e-5, atol=1e-5)


@every_option
def test_its_optimizer_holds_exactly_the_trainable_parameters_at_their_peak_rate(name, build):
    objective = build(name)
    optimizer = objective.configure_optimizers()
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in objective.parameters() if p.requires_grad}
    assert all(group["initial_lr"] == group["lr"] > 0 for group in optimizer.param_groups)
