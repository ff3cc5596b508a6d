"""What every objective promises: a finite loss per pair, a gradient everywhere, and no eye for padding or order."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.nn.functional import pad

from sparring.core.batch import PairBatch
from sparring.data.batches import collate_pairs
from sparring.objectives.base import Objective

torch.set_num_threads(1)

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(path.stem for path in (CONF / "objective").glob("*.yaml"))

every_option = pytest.mark.parametrize("name", OPTIONS)


@pytest.fixture
def build(chat_policy):
    def objective(name: str) -> Objective:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            node = compose("train", ["run_name=x", f"objective={name}"]).objective
        return instantiate(node, _convert_="all")(chat_policy)

    return objective


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


@pytest.fixture
def first(chat_policy):
    return rows_of(chat_policy, "the cat", ["sat on the mat", "ran", "sat and ran to the door"], [(0, 1), (0, 2)])


@pytest.fixture
def second(chat_policy):
    return rows_of(chat_policy, "one day a small bird", ["was happy.", "found a big ball"], [(1, 0)])


def collated(policy, rows: list[dict]) -> PairBatch:
    return collate_pairs(rows, pad_id=policy.pad_id, scale=1.0 / len(rows))


@every_option
def test_losses_are_finite_one_per_pair_and_logged(name, build, first, second):
    objective = build(name)
    output = objective.loss(collated(objective.policy, first + second))
    assert output.loss.shape == (3,)
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite().all()
    assert output.metrics
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in output.metrics.values())


@every_option
def test_every_trainable_parameter_gets_a_gradient(name, build, first, second):
    objective = build(name)
    objective.loss(collated(objective.policy, first + second)).loss.sum().backward()
    gradients = {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}
    assert gradients
    assert {n for n, grad in gradients.items() if grad is None or not grad.isfinite().all() or not grad.any()} == set()


@every_option
def test_padding_changes_nothing(name, build, first, second):
    objective = build(name)
    batch = collated(objective.policy, first + second)
    groups, wider = batch.groups, objective.policy.pad_id
    padded = groups._replace(
        prompt_ids=pad(groups.prompt_ids, (3, 0), value=wider),
        prompt_mask=pad(groups.prompt_mask, (3, 0), value=False),
        response_ids=pad(groups.response_ids, (0, 5), value=wider),
        response_mask=pad(groups.response_mask, (0, 5), value=False),
    )
    narrow, wide = objective.loss(batch), objective.loss(batch._replace(groups=padded))
    torch.testing.assert_close(wide.loss, narrow.loss, rtol=1e-5, atol=1e-5)


@every_option
def test_the_order_of_groups_and_their_company_change_nothing(name, build, first, second):
    objective = build(name)
    together = objective.loss(collated(objective.policy, first + second)).loss
    turned = objective.loss(collated(objective.policy, second + first)).loss
    alone = objective.loss(collated(objective.policy, first)).loss
    torch.testing.assert_close(turned, together.roll(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone, together[:2], rtol=1e-5, atol=1e-5)


@every_option
def test_its_optimizer_holds_exactly_the_trainable_parameters_at_their_peak_rate(name, build):
    objective = build(name)
    optimizer = objective.configure_optimizers()
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in objective.parameters() if p.requires_grad}
    assert all(group["initial_lr"] == group["lr"] > 0 for group in optimizer.param_groups)
