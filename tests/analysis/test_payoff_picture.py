import numpy as np
from matplotlib.image import imread

from sparring.analysis.payoff import Player, estimate_payoff, players_of
from sparring.analysis.payoff_picture import draw_payoff


def test_the_picture_is_whole_and_grows_with_the_players(tmp_path):
    pixels = []
    for rounds in (1, 4):
        players = players_of(rounds, teacher=True, best_of=2)
        blocks = np.full((3, len(players), len(players)), 0.5)
        path = tmp_path / f"{rounds}.png"
        draw_payoff(estimate_payoff(blocks, players, seed=0, resamples=10, nash_resamples=2), path)
        picture = imread(path)
        pixels.append(picture.shape[0] * picture.shape[1])
        assert len(np.unique(picture[::5, ::5, 0])) > 50  # text is anti-aliased
    assert pixels[0] < pixels[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "4.png"]


def test_players_without_rounds_have_a_picture_too(tmp_path):
    players = [Player(label, "other", None) for label in ("gpt", "human")]
    payoff = estimate_payoff(np.full((3, 2, 2), 0.5), players, seed=0, resamples=10, nash_resamples=2)
    draw_payoff(payoff, tmp_path / "payoff.png")
    assert imread(tmp_path / "payoff.png").size
