"""JSON Lines, plain or gzipped, with errors that name the line."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparring.core.errors import DataError


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """One object per line that is not blank; a bad line raises `DataError` when it is reached."""
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise DataError(f"{path}, line {number}, is not a JSON object; write one object per line.")
                yield row
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path.") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise DataError(f"{path}, line {number}, is not JSON ({error}); write one object per line.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read after line {number} ({error}); check the file.") from error
