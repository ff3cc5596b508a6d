"""From a pairs table to batches: `batch_size` pairs per optimiser step, every response forwarded once per batch.

A table is read in windows of consecutive rows, so memory does not grow with it; windows are visited in random order,
and inside a window groups of similar length share a batch and batches are shuffled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from sparring.core.batch import PairBatch
from sparring.core.collate import make_groups
from sparring.core.errors import ConfigError, RoundError
from sparring.core.seeding import numpy_rng

WINDOW_STEPS = 32  # optimiser steps per window: enough to sort by length, little enough to hold in memory


@dataclass(frozen=True, slots=True)
class StepLayout:
    """How one optimiser step of `batch_size` pairs is shared by `world_size` ranks and `accumulate` micro-batches."""

    batch_size: int
    accumulate: int = 1
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < self.slices:
            raise ConfigError(
                f"batch_size={self.batch_size} is shared by {self.world_size} ranks with accumulate={self.accumulate}; "
                f"give {self.slices} or more, or lower accumulate."
            )

    @property
    def slices(self) -> int:
        return self.accumulate * self.world_size

    def steps(self, pairs: int) -> int:
        """Optimiser steps of one pass: the last partial step counts, unless it has fewer pairs than slices."""
        full, rest = divmod(pairs, self.batch_size)
        return full + (rest >= self.slices)

    def bounds(self, pairs: int, number: int) -> tuple[int, int]:
        """Where slice `number` of a step with `pairs` pairs begins and ends."""
        return pairs * number // self.slices, pairs * (number + 1) // self.slices


class PairLoader:
    """Iterates over one rank's micro-batches of a round, in an order that (seed, epoch) decide.

    Lightning calls `sampler.set_epoch` before each epoch, and stores `state_dict` in mid-epoch checkpoints.
    """

    def __init__(self, path: Path, layout: StepLayout, *, rank: int, pad_id: int, seed: int) -> None:
        self.path, self.layout, self.rank, self.pad_id, self.seed = path, layout, rank, pad_id, seed
        self.pairs = pq.read_metadata(path).num_rows
        self.steps = layout.steps(self.pairs)
        if self.steps == 0:
            raise RoundError(
                f"{path} holds {self.pairs} pairs, fewer than the {layout.slices} micro-batches of one optimiser step; "
                "lower the pairing thresholds, add prompts, or lower accumulate."
            )
        self.sampler = self
        self._epoch = 0
        self._done = 0
        self._cached: tuple[int, pa.Table] | None = None

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def state_dict(self) -> dict[str, int]:
        return {"batches_done": self._done % len(self)}  # Lightning does not exhaust an iterator whose length it knows

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._done = state["batches_done"]

    def __len__(self) -> int:
        return self.steps * self.layout.accumulate

    def __iter__(self) -> Iterator[PairBatch]:
        skip, self._done = self._done, 0
        for position, (window, rows) in enumerate(self._micro_batches()):
            self._done += 1
            if position >= skip:
                yield self._collate(window, rows)
        self._done = 0

    def _micro_batches(self) -> Iterator[tuple[int, tuple[np.ndarray, int]]]:
        """(window, (row positions in the window, pairs of the whole step)) in training order."""
        rng = numpy_rng(self.seed, "batches", self._epoch)
        size = self.layout.batch_size * WINDOW_STEPS
        windows = range(-(-self.pairs // size))
        remaining = len(self)
        for window in rng.permutation(len(windows)).tolist():
            steps = self._steps_of_window(window, rng)
            for number in rng.permutation(len(steps)).tolist():
                rows = steps[number]
                if len(rows) < self.layout.slices:
                    continue
                for turn in range(self.layout.accumulate):
                    begin, end = self.layout.bounds(len(rows), turn * self.layout.world_size + self.rank)
                    remaining -= 1
                    yield window, (rows[begin:end], len(rows))
        assert remaining == 0

    def _steps_of_window(self, window: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Rows of each optimiser step: groups in random order, stably sorted by length, cut at `batch_size` pairs."""
        table = self._window(window)
        groups = _group_numbers(table)
        length = _lengths(table, "prompt_ids") + np.maximum(
            _lengths(table, "chosen_ids"), _lengths(table, "rejected_ids")
        )  # the prompt is shared, so a group is as long as its prompt and its longest response
        longest = np.zeros(groups[-1] + 1, dtype=np.int64)
        np.maximum.at(longest, groups, length)
        shuffle = rng.permutation(len(longest))
        order = shuffle[np.argsort(longest[shuffle], kind="stable")]
        rank_of_group = np.argsort(order)
        rows = np.argsort(rank_of_group[groups], kind="stable")
        full, rest = divmod(len(rows), self.layout.batch_size)
        sizes = [self.layout.batch_size] * full
        if rest:  # anywhere: the partial step may be dropped, and would otherwise always hold the longest
            sizes.insert(int(rng.integers(full + 1)), rest)
        return np.split(rows, np.cumsum(sizes)[:-1])

    def _window(self, window: int) -> pa.Table:
        if self._cached is None or self._cached[0] != window:
            size = self.layout.batch_size * WINDOW_STEPS
            self._cached = window, _read_rows(self.path, window * size, min(size, self.pairs - window * size))
        return self._cached[1]

    def _collate(self, window: int, rows: tuple[np.ndarray, int]) -> PairBatch:
        positions, pairs_of_step = rows
        table = self._window(window).take(pa.array(np.sort(positions)))
        return collate_pairs(table.to_pylist(), pad_id=self.pad_id, scale=self.layout.slices / pairs_of_step)


def _read_rows(path: Path, start: int, count: int) -> pa.Table:
    """Rows `start` to `start + count`, reading only the row groups that hold them."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        first_rows = np.cumsum([0] + [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)])
        needed = [i for i in range(file.num_row_groups) if first_rows[i] < start + count and first_rows[i + 1] > start]
        return file.read_row_groups(needed).slice(start - int(first_rows[needed[0]]), count).combine_chunks()


def _lengths(table: pa.Table, column: str) -> np.ndarray:
    """How many tokens each row has in a column of ids; 0 where there are none."""
    return table[column].combine_chunks().value_lengths().fill_null(0).to_numpy(zero_copy_only=False)


def _group_numbers(table: pa.Table) -> np.ndarray:
    """For each row the number of its group: consecutive rows of one prompt of one round."""
    prompts = table["prompt_id"].to_numpy(zero_copy_only=False)
    rounds = table["source_round"].to_numpy()
    new = np.ones(len(prompts), dtype=bool)
    new[1:] = (prompts[1:] != prompts[:-1]) | (rounds[1:] != rounds[:-1])
    return np.cumsum(new) - 1


def collate_pairs(rows: Sequence[dict[str, Any]], *, pad_id: int, scale: float) -> PairBatch:
    """Rows of a pairs table, those of one prompt adjacent, as tensors; a response in many pairs stands there once."""
    prompts: dict[tuple[int, str], list[int]] = {}
    samples: dict[tuple[int, str], list[float]] = {}
    responses: dict[tuple[int, str], dict[int, dict[str, Any]]] = {}
    for row in rows:
        key = (row["source_round"], row["prompt_id"])
        prompts[key] = row["prompt_ids"]
        samples[key] = row["sample_win_rates"] or []
        members = responses.setdefault(key, {})
        for side in ("chosen", "rejected"):
            if row[f"{side}_index"] is not None:
                members.setdefault(
                    row[f"{side}_index"],
                    {name: row[f"{side}_{name}"] for name in ("ids", "ref_logp", "win_rate")},
                )
    position = {
        (key, index): number
        for number, (key, index) in enumerate((key, index) for key in responses for index in responses[key])
    }
    flat = [response for members in responses.values() for response in members.values()]

    def where(row: dict[str, Any], side: str) -> int:
        index = row[f"{side}_index"]
        return -1 if index is None else position[(row["source_round"], row["prompt_id"]), index]

    def floats(values: list[float | None]) -> torch.Tensor:
        return torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float32)

    return PairBatch(
        groups=make_groups(
            list(prompts.values()),
            [[response["ids"] for response in members.values()] for members in responses.values()],
            pad_id=pad_id,
            device=torch.device("cpu"),
        ),
        ref_logp=floats([response["ref_logp"] for response in flat]),
        win_rate=floats([response["win_rate"] for response in flat]),
        chosen=torch.tensor([where(row, "chosen") for row in rows]),
        rejected=torch.tensor([where(row, "rejected") for row in rows]),
        win=floats([row["win"] for row in rows]),
        sample_win_rates=_padded(list(samples.values())),
        scale=torch.tensor(scale, dtype=torch.float32),
    )


def _padded(rows: list[list[float]]) -> torch.Tensor:
    table = torch.full((len(rows), max(map(len, rows), default=0)), float("nan"))
    for number, row in enumerate(rows):
        table[number, : len(row)] = torch.tensor(row)
    return table
