"""The store of a run's rounds: chunks while a round grows, one Parquet file per table when it is done, manifest last.

A round exists when its `manifest.json` does. A killed process leaves whole chunks behind, and they are never made
again. Nothing here knows what is in the tables.
"""

import json
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparring.core.errors import DataError, RoundError
from sparring.core.files import atomic_path, read_json, sha256, write_json

ROW_GROUP = 512  # rows that are read or written at once: bounds memory, whatever the size of a round

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Chunks:
    """Pieces of growing tables in one directory. A piece is there whole or not at all, with facts about its making."""

    directory: Path

    def path(self, table: str, chunk: int) -> Path:
        return self.directory / f"{table}-{chunk:05d}.parquet"

    def has(self, table: str, chunk: int) -> bool:
        return self.path(table, chunk).exists()

    def write(self, table: str, chunk: int, schema: pa.Schema, rows: Rows, facts: Mapping[str, Any]) -> None:
        described = schema.with_metadata({"facts": json.dumps(dict(facts))})
        with atomic_path(self.path(table, chunk)) as temporary:
            pq.write_table(pa.Table.from_pylist(list(rows), described), temporary, compression="zstd")

    def facts(self, table: str, chunk: int) -> dict[str, Any]:
        with _undamaged(self.path(table, chunk)) as path:
            return json.loads(pq.read_schema(path).metadata[b"facts"])

    def rows(self, table: str, chunk: int) -> list[dict[str, Any]]:
        with _undamaged(self.path(table, chunk)) as path:
            return pq.read_table(path).to_pylist()

    def length(self, table: str, chunk: int) -> int:
        return pq.read_metadata(self.path(table, chunk)).num_rows

    def count(self, table: str) -> int:
        return len(list(self.directory.glob(f"{table}-*.parquet")))


@contextmanager
def _undamaged(path: Path) -> Generator[Path]:
    try:
        yield path
    except (OSError, pa.ArrowInvalid) as error:
        raise RoundError(f"{path} is damaged ({error}); restore it, or delete it to have it made again.") from error


def write_parquet(path: Path, schema: pa.Schema, rows: Rows) -> int:
    """Write `rows` as they come, `ROW_GROUP` at a time, and return how many there were."""
    written = 0
    buffer: list[Mapping[str, Any]] = []
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for row in rows:
            buffer.append(row)
            if len(buffer) == ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(buffer, schema))
                written += len(buffer)
                buffer = []
        writer.write_table(pa.Table.from_pylist(buffer, schema))
    return written + len(buffer)


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema) -> Generator[Callable[[Rows], None]]:
    """What takes rows, a row group at each call; the file is there when the block ends well."""
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(list(rows), schema))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, one row group in memory at a time."""
    try:  # by default the whole file is buffered
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(ROW_GROUP):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as a Parquet file ({error}); restore it.") from error


@dataclass(frozen=True, slots=True)
class RoundStore:
    """`root/round-000/{candidates,judgements,pairs}.parquet` and `manifest.json`; chunks live below while it grows."""

    root: Path

    def directory(self, index: int) -> Path:
        return self.root / f"round-{index:03d}"

    def table(self, index: int, name: str) -> Path:
        return self.directory(index) / f"{name}.parquet"

    def chunks(self, index: int) -> Chunks:
        return Chunks(self.directory(index) / "chunks")

    def complete(self, index: int) -> bool:
        return (self.directory(index) / "manifest.json").exists()

    def finish(self, index: int, tables: Iterable[str], facts: Mapping[str, Any]) -> None:
        """Write the manifest, which makes the round exist, then drop its chunks."""
        files = {
            f"{name}.parquet": {
                "rows": pq.read_metadata(self.table(index, name)).num_rows,
                "sha256": sha256(self.table(index, name)),
            }
            for name in tables
        }
        write_json(self.directory(index) / "manifest.json", {"round": index, **facts, "files": files})
        self.drop_chunks(index)

    def drop_chunks(self, index: int) -> None:
        shutil.rmtree(self.chunks(index).directory, ignore_errors=True)

    def manifest(self, index: int) -> dict[str, Any]:
        return read_json(self.directory(index) / "manifest.json")

    def manifest_hash(self, index: int) -> str:
        return sha256(self.directory(index) / "manifest.json")

    def verify(self, index: int) -> None:
        """Refuse a round whose tables are not the ones its manifest was written for."""
        for name, expected in self.manifest(index)["files"].items():
            path = self.directory(index) / name
            if not path.exists() or sha256(path) != expected["sha256"]:
                raise RoundError(
                    f"{path} is not the file that {path.parent / 'manifest.json'} describes; "
                    "restore it, or start over with resume=never overwrite=true."
                )
