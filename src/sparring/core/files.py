"""Files that are there whole or not at all, whenever the process is killed."""

import hashlib
import json
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparring.core.errors import ConfigError, DataError


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """A temporary path beside `path`; what the block writes there becomes `path` in one step when it ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def readable(*paths: Path) -> None:
    """Give files the permissions that new files have here; safetensors writes for its owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in paths:
        path.chmod(0o666 & ~mask)


def require_writable(path: Path, option: str) -> None:
    """Make room for a file that `option` names and that comes last of all: whether it can be written is known now."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); give {option} another place.") from error
    if path.is_dir():
        raise ConfigError(f"{path} is a directory; give {option} the name of a file.")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON (line {error.lineno}): {error.msg}.") from error


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
