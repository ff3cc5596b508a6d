"""Metrics as one long CSV file: `step,round,name,value`. Appended to, so a kill loses nothing that was flushed.

Lightning's CSVLogger starts a new version on resume; here a resumed run goes on where its checkpoint stands, so that an
interrupted run ends with the file of an uninterrupted one. `pandas.read_csv(f).pivot_table("value", "step", "name")`
gives the wide form.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from sparring.core.files import atomic_path

HEADER = ["step", "round", "name", "value"]


class CSVLog(Logger):
    """Logs every scalar to `path`; `forget_after(step)` drops what a checkpoint at `step` has not seen."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration is in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | int], step: int | None = None) -> None:
        values = {name: value for name, value in metrics.items() if name not in ("epoch", "round")}
        current = int(metrics["round"]) if "round" in metrics else ""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(HEADER)
            writer.writerows([step, current, name, value] for name, value in values.items())

    def names(self) -> set[str]:
        """Of all metrics that the run has logged so far."""
        if not self.path.exists():
            return set()
        with self.path.open(newline="") as file:
            return {row["name"] for row in csv.DictReader(file)}

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Keep the header and whole rows of earlier steps only; what follows will be logged again."""
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if len(row) == len(HEADER) and row[0].isdigit()]
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(row for row in rows if int(row[0]) < step)
