"""The picture of a study: win rate over what was spent, a line per arm, its interval as a band."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from sparring.analysis.study import Point
from sparring.core.errors import ConfigError
from sparring.core.files import atomic_path


def draw_curves(curves: Mapping[str, Sequence[Point]], *, x: str, path: Path) -> None:
    """Every arm starts where nothing is spent and the policy is the base policy, which wins half."""
    if path.suffix != ".png":
        raise ConfigError(f"plot is {path}; give it a name that ends in .png.")
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    colours = colormaps["tab10" if len(curves) <= 10 else "tab20"].colors  # pyright: ignore[reportAttributeAccessIssue]
    for number, (arm, points) in enumerate(curves.items()):
        colour = colours[number % len(colours)]
        spent = [0.0, *(point.spent for point in points)]
        low, high = zip((0.5, 0.5), *(point.win_rate.ci95 for point in points), strict=True)
        axes.plot(spent, [0.5, *(point.win_rate.mean for point in points)], marker="o", color=colour, label=arm)
        axes.fill_between(spent, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"{x}, cumulative over rounds, per run")
    axes.set_ylabel("win rate against the base policy")
    axes.legend(fontsize="small", ncols=2 if len(curves) > 8 else 1)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
