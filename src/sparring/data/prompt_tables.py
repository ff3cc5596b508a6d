"""Arrow tables of files and of the Hub, by the `datasets` library: memory-mapped, quiet, never stale.

Files are local, and reading them never asks the network.
"""

import glob
import hashlib
import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sparring.core.errors import DataError
from sparring.core.files import sha256
from sparring.core.jsonl import read_jsonl

if TYPE_CHECKING:  # importing it takes more than a second
    import datasets

Format = Literal["json", "parquet"]


def find_files(patterns: str | Sequence[str]) -> list[Path]:
    """A pattern that names an existing file is that file, whatever characters it holds; else it is a glob."""
    files: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = Path(pattern).expanduser()
        matches = [path] if path.is_file() else map(Path, sorted(glob.glob(str(path), recursive=True)))
        found = [match for match in matches if match.is_file()]
        if not found:
            raise DataError(f"No file is at {pattern}; give a file, a glob, or a list of them.")
        files += found
    return files


def load_files(format: Format, files: list[Path], cache_dir: str | None) -> "datasets.Dataset":
    # Left alone, the cache knows a file by its path and time of change, and both can stay the same while the content
    # does not (`cp -p`). A configuration named by the content cannot be stale.
    contents = hashlib.sha256("".join(sha256(file) for file in files).encode()).hexdigest()[:16]
    # Some rows look like transcripts of coding agents to the JSON reader, which would read them as such.
    options: dict[str, Any] = {"parse_agent_traces": False} if format == "json" else {}
    with _quiet():
        import datasets
        from datasets.exceptions import DatasetsError

        try:
            table = datasets.load_dataset(
                format,
                name=contents,
                data_files=[glob.escape(str(file)) for file in files],
                split="train",
                cache_dir=cache_dir,
                **options,
            )
        except (DatasetsError, ValueError, OSError, EOFError, zlib.error, StopIteration) as error:
            raise _unreadable(format, files, error) from error
    assert isinstance(table, datasets.Dataset)
    return table


def _unreadable(format: Format, files: list[Path], error: Exception) -> DataError:
    """The sentence that says which file is at fault, found by reading them again one at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        try:
            rows = sum(1 for _ in read_jsonl(file)) if format == "json" else pq.read_metadata(file).num_rows
        except DataError as fault:
            return fault
        except pa.ArrowInvalid as fault:
            return DataError(f"{file} is not a Parquet file ({fault}).")
        if not rows:
            return DataError(f"{file} holds no rows; give a file that has some, or leave it out.")
    reason = " ".join(str(error.__cause__ or error).split())
    names = ", ".join(map(str, files))
    return DataError(f"{names} cannot be read as one table ({reason}); check that all rows have the same columns.")


def load_hub(
    repo: str, name: str | None, split: str, revision: str | None, cache_dir: str | None
) -> "datasets.Dataset":
    with _quiet():
        import datasets
        from datasets.exceptions import DatasetsError

        try:
            table = datasets.load_dataset(repo, name, split=split, revision=revision, cache_dir=cache_dir)
        except (DatasetsError, OSError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise DataError(
                f"Split {split!r} of {repo} cannot be loaded ({reason}); check prompts.repo, name and splits."
            ) from error
    assert isinstance(table, datasets.Dataset)
    return table


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no log lines of `datasets`: it is fast here, and errors are told in our own sentence."""
    import datasets

    level = datasets.logging.get_verbosity()
    bars_were_on = not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(logging.CRITICAL)
    if bars_were_on:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars_were_on:
            datasets.enable_progress_bars()
