"""Rows of files as other tools leave them: JSON Lines, a JSON array, CSV or Parquet; any but the last may be gzipped.

Whole files of text are held in memory: these are evaluation sets, not training data.
"""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sparring.core.errors import DataError
from sparring.core.jsonl import read_jsonl
from sparring.data.rounds import read_rows

Row = Mapping[str, Any]


def read_any_rows(path: Path) -> Iterator[Row]:
    """By the ending of the name; what is not .parquet, .csv or .json, with or without .gz, is JSON Lines."""
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    if kind == ".parquet":
        try:
            yield from read_rows(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} cannot be read as a Parquet file ({error}); check the file.") from error
    elif kind == ".csv":
        yield from _table(path)
    elif kind == ".json":
        yield from _array(path)
    else:
        yield from read_jsonl(path)


def storable(text: str, where: str) -> str:
    """Refuses half of a surrogate pair, which JSON can escape and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} has half a character in a text ({error}); mend or remove it.") from error
    return text


def _table(path: Path) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # else a response may have no more than 131,072 characters
    rows = csv.DictReader(io.StringIO(_whole(path), newline=""))
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise DataError(f"row {number} of {path} has more cells than its header; quote texts with commas.")
        yield row


def _array(path: Path) -> list[Row]:
    try:
        rows = json.loads(_whole(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); give an array of objects, or JSON Lines as .jsonl.") from error
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise DataError(f"{path} is not an array of JSON objects; give one, or JSON Lines as .jsonl.")
    return rows


def _whole(path: Path) -> str:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            return file.read().decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); check the path and the file.") from error
