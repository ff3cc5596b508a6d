import numpy as np
from matplotlib.image import imread

from sparring.analysis.calibration import Judge, reliability
from sparring.analysis.calibration_picture import draw_reliability
from sparring.analysis.resampling import resampling


def test_the_picture_is_whole_and_shows_how_sure_the_annotator_was(tmp_path):
    none = np.full((40, 2), np.nan)
    outcome = Judge("outcome", (np.arange(40) % 3 > 0).astype(float), none)
    draw = resampling(np.arange(40), seed=0, resamples=50)
    pictures = []
    for name, win in (("timid", np.full(40, 0.55)), ("bold", np.full(40, 0.95))):
        found = reliability(Judge(name, win, none), outcome, draw)
        assert found is not None
        draw_reliability(found, name, tmp_path / f"{name}.png")
        pictures.append(imread(tmp_path / f"{name}.png"))
    assert pictures[0].shape == pictures[1].shape
    blue = [picture[..., 2] - picture[..., 0] > 0.3 for picture in pictures]
    middles = [np.nonzero(each)[1].mean() for each in blue]
    assert middles[0] < middles[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bold.png", "timid.png"]
