"""The reliability diagram of an annotator: how often it is right over how sure it is, and how often it is so sure."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sparring.analysis.calibration import Reliability
from sparring.core.files import atomic_path

BLUE, GREY = "#2166ac", "#777777"


def draw_reliability(reliability: Reliability, name: str, path: Path) -> None:
    """A PNG. On the dashed line an annotator is right as often as it says; below it, it is too sure of itself."""
    points = [(each.confidence, each.count, each.right.value, *each.right.ci95) for each in reliability.bins]
    confidence, count, right, low, high = np.array(points).T
    figure = Figure(figsize=(4.6, 5.2), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    above.plot([0.5, 1], [0.5, 1], linestyle="--", color=GREY, linewidth=1, label="right as often as it says")
    above.vlines(confidence, low, high, color=BLUE, linewidth=1)
    above.plot(confidence, right, marker="o", color=BLUE, label=name)
    above.set(xlim=(0.49, 1.01), ylim=(min(0.4, float(low.min()) - 0.02), 1.02), ylabel="share that is right, 95 %")
    above.set_title(
        f"Brier {reliability.brier.value:.3f}, calibration error {reliability.error.value:.3f}, "
        f"{reliability.brier.count:,} comparisons",
        fontsize=9,
    )
    above.legend(loc="upper left", fontsize=8, frameon=False)
    below.bar(confidence, count, width=0.03, color=BLUE)
    below.set(xlabel="probability that the annotator gives its winner", ylabel="comparisons")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
