import gzip
from pathlib import Path

import pytest

from sparring.core.errors import DataError
from sparring.core.jsonl import read_jsonl


def test_blank_lines_are_skipped_and_gzip_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n\n{"a": 2}'))
    assert list(read_jsonl(tmp_path / "a.jsonl.gz")) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": 1}\n\n{"a"', "line 3, is not JSON"),
        (b"[1]\n", "line 1, is not a JSON object"),
        (b'{"a": "\xff"}\n', "line 1, is not JSON"),
    ],
)
def test_a_bad_line_is_named_counting_blank_ones(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        list(read_jsonl(tmp_path / "a.jsonl"))


def test_files_that_are_absent_or_corrupt_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"plain")
    with pytest.raises(DataError, match="cannot be read after line 0"):
        list(read_jsonl(tmp_path / "a.jsonl.gz"))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}')[:10] + b"garbage")
    with pytest.raises(DataError, match="cannot be read after line 0"):
        list(read_jsonl(tmp_path / "a.jsonl.gz"))
    with pytest.raises(DataError, match="does not exist"):
        list(read_jsonl(tmp_path / "b.jsonl"))
