"""What Hydra calls when all jobs of a sweep have ended, whatever launcher ran them."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class StudyReport(Callback):
    """Prints the report of a sweep that has a `study`, as `sparring report` does for the sweep's directory."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        if config.study is not None:
            from sparring.cli.report import main  # tables are for those that are shown one

            main([config.hydra.sweep.dir])
