from functools import partial
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.core.errors import ConfigError
from sparring.core.schedule import learning_rate_factor

PEAK = 5e-7
# 19,766 prompts at batch 64 are 309 steps.
sppo = partial(learning_rate_factor, steps_per_epoch=309, warmup_ratio=0.1, shape="linear")
schedules = st.fixed_dictionaries(
    {
        "steps_per_epoch": st.integers(1, 60),
        "schedule_total_epochs": st.integers(1, 8),
        "warmup_ratio": st.floats(0, 1),
        "shape": st.sampled_from(["linear", "cosine", "constant"]),
    }
)


@pytest.mark.parametrize(
    ("epochs", "after_one_epoch", "mean_of_first_epoch"),
    [
        (18, 2.77378815e-7, 1.38240574e-7),  # 309 / 557: still warming up
        (6, 4.63129496e-7, 3.41426859e-7),  # (1854 - 309) / (1854 - 186)
        (1, 0.0, 2.5e-7),
    ],
)
def test_epochs_scheduled_but_not_trained_set_the_learning_rate(epochs, after_one_epoch, mean_of_first_epoch):
    rates = [PEAK * sppo(step, schedule_total_epochs=epochs) for step in range(310)]
    assert rates[309] == pytest.approx(after_one_epoch, abs=1e-15)
    assert mean(rates[:309]) == pytest.approx(mean_of_first_epoch, abs=1e-15)


def test_warm_up_is_rounded_up_but_not_by_floating_point():
    factor = partial(learning_rate_factor, steps_per_epoch=100, schedule_total_epochs=1, shape="constant")
    assert factor(6, warmup_ratio=0.07) == pytest.approx(6 / 7)  # 0.07 * 100 is 7.000000000000001
    assert factor(7, warmup_ratio=0.071) == pytest.approx(7 / 8)


def test_cosine_is_at_half_height_half_way():
    factor = partial(
        learning_rate_factor, steps_per_epoch=110, schedule_total_epochs=1, warmup_ratio=0.0, shape="cosine"
    )
    assert [factor(step) for step in (0, 55, 110)] == pytest.approx([1.0, 0.5, 0.0])


@given(schedules, st.integers(0, 1000))
def test_the_factor_stays_between_zero_and_one(schedule, step):
    assert 0 <= learning_rate_factor(step, **schedule) <= 1


@given(schedules)
def test_it_rises_to_the_peak_and_never_rises_again(schedule):
    total = schedule["steps_per_epoch"] * schedule["schedule_total_epochs"]
    factors = [learning_rate_factor(step, **schedule) for step in range(total + 2)]
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] == (1.0 if schedule["shape"] == "constant" else 0.0)


@pytest.mark.parametrize("wrong", [{"steps_per_epoch": 0}, {"schedule_total_epochs": 0}, {"warmup_ratio": 1.5}])
def test_a_schedule_that_cannot_be_drawn_is_refused(wrong):
    schedule = {"steps_per_epoch": 10, "schedule_total_epochs": 1, "warmup_ratio": 0.1, "shape": "linear"} | wrong
    with pytest.raises(ConfigError, match="cannot be drawn"):
        learning_rate_factor(0, **schedule)
