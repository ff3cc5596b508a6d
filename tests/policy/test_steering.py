"""The arithmetic of Linear Alignment by hand, its invariances, and its kinship with classifier-free guidance."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation.logits_process import UnbatchedClassifierFreeGuidanceLogitsProcessor

from sparring.core.collate import pad
from sparring.core.errors import ConfigError
from sparring.core.types import Prompt
from sparring.policy.policy import Policy
from sparring.policy.steering import Steering, combine_logits, nucleus

torch.set_num_threads(1)

PRINCIPLED, PLAIN = [2.0, 1.5, 1.0, 0.0, -1.0], [2.5, 0.5, 1.0, 1.0, -3.0]
# ratio: combined logits, softmax at temperature 1 and at 0.5
COMBINED = {
    -1: (
        [2.5, 0.5, 1, 1, -3],
        [0.630643, 0.085348, 0.140716, 0.140716, 0.002577],
        [0.894529, 0.016384, 0.044536, 0.044536, 0.000015],
    ),
    0: (
        [2, 1.5, 1, 0, -1],
        [0.463063, 0.280862, 0.170351, 0.062669, 0.023055],
        [0.656164, 0.241389, 0.088802, 0.012018, 0.001626],
    ),
    1: (
        [1.5, 2.5, 1, -1, 1],
        [0.199464, 0.542200, 0.120981, 0.016373, 0.120981],
        [0.109510, 0.809179, 0.040287, 0.000738, 0.040287],
    ),
    2: (
        [1, 3.5, 1, -2, 3],
        [0.046251, 0.563448, 0.046251, 0.002303, 0.341748],
        [0.004878, 0.723918, 0.004878, 0.000012, 0.266315],
    ),
    3: (
        [0.5, 4.5, 1, -3, 5],
        [0.006789, 0.370674, 0.011193, 0.000205, 0.611138],
        [0.000090, 0.268851, 0.000245, 0.000000, 0.730813],
    ),
    5: (
        [-0.5, 6.5, 1, -5, 9],
        [0.000069, 0.075829, 0.000310, 0.000001, 0.923791],
        [0.000000, 0.006693, 0.000000, 0.000000, 0.993307],
    ),
}


def row(values: list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


def combined(
    principled: list[float],
    plain: list[float],
    ratio: float,
    temperature: float = 1.0,
    top_p: float = 0.8,
    mode: Any = "none",
) -> Tensor:
    return combine_logits(
        row(principled), row(plain), ratio=float(ratio), temperature=temperature, top_p=top_p, mode=mode
    ).squeeze(0)


def probabilities(*arguments: Any, **more: Any) -> list[float]:
    return combined(*arguments, **more).exp().tolist()


def near(values: list[float]) -> Any:
    return pytest.approx(values, abs=2e-6)


# ---------------------------------------------------------------- by hand


@pytest.mark.parametrize("ratio", COMBINED)
def test_the_step_from_the_plain_logits_is_one_and_the_ratio_long(ratio: int) -> None:
    logits, warm, cold = COMBINED[ratio]
    assert torch.allclose(combined(PRINCIPLED, PLAIN, ratio), row(logits).log_softmax(-1)[0], atol=1e-5)
    assert probabilities(PRINCIPLED, PLAIN, ratio) == near(warm)
    assert probabilities(PRINCIPLED, PLAIN, ratio, temperature=0.5) == near(cold)


@pytest.mark.parametrize(("temperature", "kept"), [(1.0, {0, 1, 2}), (0.5, {0, 1})])
def test_the_official_nucleus_is_that_of_the_principle_alone(temperature: float, kept: set[int]) -> None:
    for ratio in COMBINED:
        steered = combined(PRINCIPLED, PLAIN, ratio, temperature, mode="official")
        assert set(steered.isfinite().nonzero().flatten().tolist()) == kept


@pytest.mark.parametrize(
    ("ratio", "mode", "best"),
    [(0, "official", 0), (2, "official", 1), (5, "official", 1), (5, "none", 4), (5, "demo", 4)],
)
def test_the_likeliest_token(ratio: int, mode: str, best: int) -> None:
    for temperature in (1.0, 0.5):
        assert int(combined(PRINCIPLED, PLAIN, ratio, temperature, mode=mode).argmax()) == best


@pytest.mark.parametrize(("top_p", "best"), [(0.1, 0), (0.999, 4)])
def test_the_width_of_the_nucleus_decides_what_a_large_ratio_can_reach(top_p: float, best: int) -> None:
    assert int(combined(PRINCIPLED, PLAIN, 5, top_p=top_p, mode="official").argmax()) == best


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, [0.070509, 0.858981, 0.070509, 0, 0]), (0.5, [0.006693, 0.993307, 0, 0, 0])]
)
def test_what_is_drawn_from_adds_up_to_one_inside_the_nucleus(temperature: float, expected: list[float]) -> None:
    assert probabilities(PRINCIPLED, PLAIN, 2, temperature, mode="official") == near(expected)


def test_logits_and_log_probabilities_give_the_same() -> None:
    principled, plain = (torch.tensor(values).log_softmax(-1).tolist() for values in (PRINCIPLED, PLAIN))
    assert probabilities(principled, plain, 2) == near(COMBINED[2][1])


def test_a_nucleus_whose_probabilities_are_too_small_for_float32_still_has_a_best_token() -> None:
    steered = combined([0, 10, 1], [-40, 60, -40], 5, temperature=0.5, mode="official")  # logits 200, -240, 206
    assert steered.tolist() == [-math.inf, 0.0, -math.inf]


@pytest.mark.parametrize(
    ("distribution", "drawn"),
    [
        ([0.5, 0.3, 0.15, 0.05], [0.625, 0.375, 0, 0]),
        ([0.8, 0.1, 0.1, 0.0], [1, 0, 0, 0]),
        ([0.79, 0.11, 0.1, 0.0], [0.877778, 0.122222, 0, 0]),
        ([0.9, 0.05, 0.05, 0.0], [1, 0, 0, 0]),
        ([0.4, 0.4, 0.2, 0.0], [0.5, 0.5, 0, 0]),
        ([0.3, 0.3, 0.3, 0.1], [1 / 3, 1 / 3, 1 / 3, 0]),
    ],
)
def test_a_token_stays_if_the_mass_before_it_is_below_top_p(distribution: list[float], drawn: list[float]) -> None:
    exact = torch.tensor([distribution], dtype=torch.float64)
    kept = exact * nucleus(exact, 0.8)
    assert (kept / kept.sum())[0].tolist() == near(drawn)


def test_equally_likely_tokens_share_the_fate_of_the_first() -> None:
    assert nucleus(torch.tensor([[0.2, 0.4, 0.4]]), 0.3).tolist() == [[False, True, True]]
    assert nucleus(torch.full((1, 100), 0.01), 0.1).all()


def test_a_nucleus_wider_than_the_first_look_is_found_by_looking_again() -> None:
    flat, peaked = torch.arange(2000, 1000, -1.0), torch.arange(1000, 0, -1.0) * 5
    both = torch.stack([flat / flat.sum(), peaked.softmax(-1), flat.flip(0) / flat.sum()])
    needed = [int((part.double().cumsum(0) < 0.8).sum()) + 1 for part in (both[0], both[1])]
    assert needed[0] > 600
    assert needed[1] == 1
    assert nucleus(both, 0.8).sum(1).tolist() == [needed[0], 1, needed[0]]


def closed_form_step(gradient: Tensor, metric: Tensor, delta: float) -> Tensor:
    """The step s that gains most, gradient . s, under s . metric^-1 s <= 2 delta; `metric` is a diagonal."""
    return math.sqrt(2 * delta / float(gradient @ (metric * gradient))) * metric * gradient


def test_combined_logits_are_the_best_step_of_their_length_along_the_principles_effect() -> None:
    """Linear gain, quadratic constraint: the closed form that Linear Alignment is named for."""
    gradient, metric = torch.tensor([1.0, -2.0, 2.0]), torch.tensor([1.0, 0.5, 0.25])
    step = closed_form_step(gradient, metric, 0.125)
    assert step.tolist() == near([0.25, -0.25, 0.125])
    assert float((step / metric) @ step) == pytest.approx(0.25)
    assert float(gradient @ step) == pytest.approx(1.0)
    assert closed_form_step(gradient, torch.ones(3), 0.125).tolist() == near([0.166667, -0.333333, 0.333333])

    effect = torch.tensor(PRINCIPLED) - torch.tensor(PLAIN)
    for ratio in (0, 1, 2, 5):
        delta = float((1 + ratio) ** 2 * effect @ effect) / 2
        best = torch.tensor(PLAIN) + closed_form_step(effect, torch.ones(5), delta)
        assert torch.allclose(combined(PRINCIPLED, PLAIN, ratio), best.log_softmax(-1), atol=1e-5)


# ---------------------------------------------------------------- invariances

# Eighths, so that sums and shifts are exact and no rounding moves the edge of a nucleus.
eighths = st.integers(-80, 80).map(lambda number: number / 8)
contexts = st.integers(2, 30).flatmap(lambda size: st.tuples(*[st.lists(eighths, min_size=size, max_size=size)] * 2))
settings = st.fixed_dictionaries(
    {
        "ratio": st.integers(-4, 24).map(lambda number: number / 4),
        "temperature": st.sampled_from([0.5, 1.0, 2.0]),
        "top_p": st.sampled_from([0.1, 0.5, 0.8, 0.95, 1.0]),
        "mode": st.sampled_from(["official", "demo", "none"]),
    }
)


def off_the_edge(scores: Tensor, top_p: float) -> bool:
    """Whether rounding cannot change which tokens a nucleus holds: no sum of probabilities is close to `top_p`."""
    ordered = scores.softmax(-1).double().sort(descending=True).values
    return bool(((ordered.cumsum(-1) - top_p).abs() > 1e-5).all())


@given(contexts, settings)
def test_at_ratio_zero_it_is_the_principled_distribution_in_its_nucleus(both: tuple, setting: dict[str, Any]) -> None:
    setting |= {"ratio": 0.0}
    scores = row(both[0]) / setting["temperature"]
    outside = ~nucleus(scores.softmax(-1), 1.0 if setting["mode"] == "none" else setting["top_p"])
    expected = scores.masked_fill(outside, -math.inf).log_softmax(-1)[0]
    assert torch.allclose(combined(*both, **setting), expected, atol=1e-5)


@given(contexts, settings)
def test_where_the_principle_changes_nothing_every_ratio_is_plain_decoding(
    both: tuple, setting: dict[str, Any]
) -> None:
    steered = combined(both[0], both[0], **setting)
    assert torch.allclose(steered, combined(both[0], both[0], **setting | {"ratio": 0.0}), atol=1e-5)


@given(contexts, settings, st.integers(-100, 100), st.integers(-100, 100))
def test_a_constant_added_to_either_contexts_logits_changes_nothing(
    both: tuple, setting: dict[str, Any], one: int, other: int
) -> None:
    principled, plain = [value + one for value in both[0]], [value + other for value in both[1]]
    assert torch.allclose(combined(principled, plain, **setting), combined(*both, **setting), atol=1e-4)


@given(contexts, settings, st.randoms(use_true_random=False))
def test_the_order_of_the_vocabulary_does_not_matter(both: tuple, setting: dict[str, Any], random: Any) -> None:
    steered = combined(*both, **setting)
    for source in (row(both[0]) / setting["temperature"], combined(*both, **setting | {"mode": "none"})[None]):
        assume(off_the_edge(source[0], setting["top_p"]))
    order = random.sample(range(len(steered)), len(steered))
    principled, plain = ([values[place] for place in order] for values in both)
    assert torch.allclose(combined(principled, plain, **setting), steered[order], atol=1e-4)


@given(contexts, settings)
def test_rows_do_not_see_each_other(both: tuple, setting: dict[str, Any]) -> None:
    principled, plain = torch.tensor([both[0], both[1], both[0]]), torch.tensor([both[1], both[0], both[0]])
    together = combine_logits(principled, plain, **setting)
    for place in range(3):
        alone = combine_logits(principled[place : place + 1], plain[place : place + 1], **setting)
        assert torch.allclose(together[place], alone[0], atol=1e-6)


@given(contexts, settings)
def test_every_row_is_a_distribution_and_holds_the_best_token_of_its_nucleus(
    both: tuple, setting: dict[str, Any]
) -> None:
    steered = combined(*both, **setting)
    assert float(steered.exp().sum()) == pytest.approx(1, abs=1e-5)
    if setting["mode"] == "official":
        assert steered[torch.tensor(both[0]).argmax()].isfinite()
    if setting["mode"] == "demo":
        assert int(steered.argmax()) == int(combined(*both, **setting | {"mode": "none"}).argmax())


# ---------------------------------------------------------------- what has no value


@pytest.mark.parametrize("mode", ["official", "demo", "none"])
def test_a_token_that_is_impossible_in_both_contexts_stays_so(mode: str) -> None:
    steered = combined([0.0, -math.inf, 1.0], [1.0, -math.inf, 0.0], 3, top_p=0.9, mode=mode)
    assert steered[1] == -math.inf
    assert float(steered.exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("principled", "plain", "ratio"),
    [
        ([0.0, 2.0], [2.0, 0.0], 3e38),
        ([0.0, 1.0], [0.0, -math.inf], 1.0),
        ([-math.inf, -math.inf], [0.0, 1.0], 1.0),
        ([math.nan, 1.0], [0.0, 1.0], 1.0),
    ],
)
def test_a_row_without_any_computable_probability_is_an_error(principled: list, plain: list, ratio: float) -> None:
    with pytest.raises(ConfigError, match=rf"at ratio {re.escape(f'{ratio:g}')} no token has .*; lower sampler.ratio"):
        combined(principled, plain, ratio)


def test_a_ratio_that_makes_every_token_of_the_nucleus_impossible_is_an_error() -> None:
    assert combined([9.0, 0.0], [20.0, 0.0], 2, mode="official").tolist() == [0.0, -math.inf]
    with pytest.raises(ConfigError, match=r"at ratio 3e\+38 no token has .*; lower sampler.ratio"):
        combined([9.0, 0.0], [20.0, 0.0], 3e38, mode="official")


@pytest.mark.parametrize("ratio", [math.inf, math.nan])
def test_a_ratio_that_is_no_number_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match=r"sampler.ratio is (inf|nan); it must be a finite number"):
        Steering(ratio=ratio, temperature=1.0, top_p=1.0, mode="none")


def test_rows_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="got 3 rows; give prompts with their principles, then all without"):
        steering(1.0)(torch.empty(3, 0), torch.zeros(3, 4))


# ---------------------------------------------------------------- in the library's own loop


def steering(ratio: float) -> Steering:
    return Steering(ratio=ratio, temperature=1.0, top_p=1.0, mode="none")


def two_contexts(policy: Policy, ask: Callable[..., Prompt]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return policy.render(ask("the girl said hello. the cat sat on the mat")), policy.render(ask("the cat sat"))


@torch.no_grad()
def generated(policy: Policy, rows: list[tuple[int, ...]], **options: Any) -> list[list[int]]:
    """Greedy decoding by the library."""
    ids, mask = pad(rows, pad_id=policy.pad_id, left=True)
    output = policy.base.eval().generate(  # type: ignore
        input_ids=ids,
        attention_mask=mask.long(),
        do_sample=False,
        max_new_tokens=25,
        eos_token_id=list(policy.eos_ids),
        pad_token_id=policy.pad_id,
        **options,
    )
    return output[:, ids.shape[1] :].tolist()


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_it_is_classifier_free_guidance_of_one_and_the_ratio(ratio: float, chat_policy: Policy, ask: Callable) -> None:
    principled, plain = (torch.LongTensor([ids]) for ids in two_contexts(chat_policy, ask))
    with torch.no_grad():
        scores, other = (chat_policy.base.eval()(ids).logits[:, -1] for ids in (principled, plain))
        guidance = UnbatchedClassifierFreeGuidanceLogitsProcessor(1 + ratio, chat_policy.base, plain)
        expected = guidance(principled, scores).log_softmax(-1)
    ours = steering(ratio)(principled, torch.cat([scores, other]))
    assert torch.allclose(ours, expected.repeat(2, 1), atol=1e-4)


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_the_librarys_loop_decodes_both_contexts_as_it_decodes_with_guidance(
    ratio: float, chat_policy: Policy, ask: Callable
) -> None:
    principled, plain = two_contexts(chat_policy, ask)
    both = generated(chat_policy, [principled, plain], logits_processor=LogitsProcessorList([steering(ratio)]))
    guided = generated(chat_policy, [principled], guidance_scale=1 + ratio, negative_prompt_ids=torch.tensor([plain]))
    assert both[0] == both[1] == guided[0]
    assert both[0] != generated(chat_policy, [principled])[0]
