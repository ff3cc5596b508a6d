import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.core.errors import ConfigError
from sparring.pairing.replay import choose_replay, replay_shares

NEW_PAIRS = [60_800, 102_600, 50_400]  # DNO's three rounds on UltraFeedback


def test_shares_halve_going_back():
    assert replay_shares(0) == {}
    assert replay_shares(3) == pytest.approx({2: 0.30, 1: 0.15, 0: 0.075})


@pytest.mark.parametrize(
    ("round_index", "replayed", "full_steps", "steps"),
    [(0, 0, 950, 950), (1, 18_240, 1888, 1889), (2, 39_900, 1410, 1411)],
)
def test_the_published_counts_give_the_published_steps(round_index, replayed, full_steps, steps):
    shares = replay_shares(round_index, 0.30)
    assert sum(len(choose_replay(NEW_PAIRS[earlier], share, 1)) for earlier, share in shares.items()) == replayed
    total = NEW_PAIRS[round_index] + replayed
    assert (total // 64, -(-total // 64)) == (full_steps, steps)


@given(st.integers(0, 300), st.floats(0, 1), st.integers(0, 5))
def test_a_choice_is_sorted_without_repeats_and_never_more_than_the_share(available, share, seed):
    chosen = choose_replay(available, share, seed, "replay")
    assert len(chosen) <= share * available + 1e-9 < len(chosen) + 1
    assert (np.diff(chosen) > 0).all()
    assert ((chosen >= 0) & (chosen < available)).all()


def test_a_choice_is_a_function_of_its_seed():
    assert choose_replay(1000, 0.3, 1, "replay", 2).tolist() == choose_replay(1000, 0.3, 1, "replay", 2).tolist()
    assert choose_replay(1000, 0.3, 1, "replay", 2).tolist() != choose_replay(1000, 0.3, 1, "replay", 3).tolist()


def test_every_pair_is_as_likely_as_any_other():
    counts = np.bincount(np.concatenate([choose_replay(20, 0.3, seed) for seed in range(2000)]), minlength=20)
    # Each count is binomial(2000, 0.3): standard deviation 20.5.
    assert np.abs(counts - 600).max() < 5 * 20.5


def test_a_share_is_not_lost_to_rounding():
    assert len(choose_replay(10, 0.3, 0)) == 3
    assert len(choose_replay(100, 0.29, 0)) == 29  # 0.29 * 100 is 28.999999999999996


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_the_unit_interval_is_refused(share):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        replay_shares(2, share)
