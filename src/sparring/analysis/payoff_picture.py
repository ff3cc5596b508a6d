"""The payoff matrix as a picture: who beats whom, and beside each player its weight in the Nash mixtures."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sparring.analysis.payoff import Payoff
from sparring.core.files import atomic_path
from sparring.core.preference import TOLERANCE

ORANGE, PURPLE = "#b35806", "#542788"  # the ends of the map: told apart with any colour vision, and in grey by the text


def draw_payoff(payoff: Payoff, path: Path, unit: str = "held-out prompts") -> None:
    """A PNG. Entries whose interval excludes 1/2 are bold; `unit` is what the payoffs are means over."""
    labels = [player.label for player in payoff.players]
    win, low, high = (np.array(part) for part in (payoff.win, payoff.ci95_low, payoff.ci95_high))
    size = len(labels)
    figure = Figure(figsize=(4.5 + 0.62 * size, 2.4 + 0.5 * size), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    matrix, bars = figure.subplots(1, 2, width_ratios=[size, max(2.0, size / 4)])
    reach = max(0.05, float(np.abs(win - 0.5).max()))
    matrix.imshow(win, cmap="PuOr_r", vmin=0.5 - reach, vmax=0.5 + reach, aspect="auto")
    for i, j in np.ndindex(size, size):
        decided = low[i, j] > 0.5 + TOLERANCE or high[i, j] < 0.5 - TOLERANCE
        colour = "white" if abs(win[i, j] - 0.5) > 0.66 * reach else "black"
        weight = "bold" if decided else "normal"
        matrix.text(j, i, f"{win[i, j]:.2f}", ha="center", va="center", color=colour, fontweight=weight, fontsize=8)
    matrix.set_xticks(range(size), labels, rotation=45, ha="right", rotation_mode="anchor")
    matrix.set_yticks(range(size), labels)
    matrix.set_title(f"P(row beats column), {payoff.prompts} {unit}; bold: interval excludes 1/2", fontsize=9)
    sides = {"rounds": (ORANGE, -0.2), "all": (PURPLE, 0.2)}
    for group, nash in payoff.nash.items():
        colour, shift = sides[group]
        weights = np.array([nash.weights.get(label, 0.0) for label in labels])
        edges = np.array([nash.ci95.get(label, (0.0, 0.0)) for label in labels])
        bars.barh(np.arange(size) + shift, weights, height=0.38, color=colour, label=f"among {group}")
        bars.hlines(np.arange(size) + shift, edges[:, 0], edges[:, 1], color="black", linewidth=1)
    bars.set(xlim=(0, 1.02), ylim=(size - 0.5, -0.5), yticks=[])
    bars.set_title("Nash weight, 95 %", fontsize=9)
    figure.legend(loc="outside lower right", ncols=2, fontsize=8, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
