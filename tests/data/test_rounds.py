import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparring.core.errors import DataError, RoundError
from sparring.data import rounds
from sparring.data.rounds import Chunks, RoundStore, read_rows, write_parquet

SCHEMA = pa.schema({"number": pa.int64(), "ids": pa.list_(pa.int32())})


def some_rows(count):
    return [{"number": number, "ids": list(range(number % 4))} for number in range(count)]


@pytest.fixture
def store(tmp_path):
    return RoundStore(tmp_path / "rounds")


@pytest.fixture
def finished(store):
    """Round 0 with ten pairs, made of one chunk."""
    store.chunks(0).write("pairs", 0, SCHEMA, some_rows(10), {})
    write_parquet(store.table(0, "pairs"), SCHEMA, some_rows(10))
    store.finish(0, ["pairs"], {"seed": 3})
    return store


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8])
def test_rows_come_back_however_they_fall_into_row_groups(tmp_path, monkeypatch, count):
    monkeypatch.setattr(rounds, "ROW_GROUP", 4)
    path = tmp_path / "deep" / "rows.parquet"
    assert write_parquet(path, SCHEMA, iter(some_rows(count))) == count
    assert list(read_rows(path)) == some_rows(count)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    with pytest.raises(DataError, match=r"rows\.parquet cannot be read as a Parquet file"):
        next(read_rows(path))
    write_parquet(path, SCHEMA, some_rows(200))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"rows\.parquet cannot be read as a Parquet file"):
        next(read_rows(path))


def test_no_row_group_is_larger_than_what_may_be_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "ROW_GROUP", 4)
    write_parquet(tmp_path / "rows.parquet", SCHEMA, some_rows(10))
    metadata = pq.read_metadata(tmp_path / "rows.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 2]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "rows.parquet"
    write_parquet(path, SCHEMA, some_rows(2))

    def breaking():
        yield from some_rows(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_parquet(path, SCHEMA, breaking())
    assert list(read_rows(path)) == some_rows(2)
    assert list(tmp_path.iterdir()) == [path]


def test_a_chunk_comes_back_with_its_rows_and_facts(store):
    chunks = store.chunks(2)
    assert not chunks.has("pairs", 5)
    chunks.write("pairs", 5, SCHEMA, some_rows(3), {"policy": "ab", "seconds": {"sample": 0.1}})
    assert chunks.has("pairs", 5)
    assert not chunks.has("candidates", 5)
    assert chunks.rows("pairs", 5) == some_rows(3)
    assert chunks.length("pairs", 5) == 3
    assert chunks.facts("pairs", 5) == {"policy": "ab", "seconds": {"sample": 0.1}}


def test_tables_are_counted_apart_and_without_what_is_still_being_written(store):
    chunks = store.chunks(0)
    for number in range(3):
        chunks.write("pairs", number, SCHEMA, some_rows(1), {})
    chunks.write("candidates", 0, SCHEMA, some_rows(1), {})
    (chunks.directory / ".pairs-00003.parquet.99.tmp").write_bytes(b"half")
    assert (chunks.count("pairs"), chunks.count("candidates"), chunks.count("replay")) == (3, 1, 0)


def test_a_round_exists_once_its_manifest_does_and_then_its_chunks_do_not(store, finished):
    assert finished.complete(0)
    assert not finished.complete(1)
    assert not finished.chunks(0).directory.exists()
    manifest = finished.manifest(0)
    assert (manifest["round"], manifest["seed"], manifest["files"]["pairs.parquet"]["rows"]) == (0, 3, 10)
    finished.verify(0)


def test_a_table_that_changed_is_refused_by_name(finished):
    write_parquet(finished.table(0, "pairs"), SCHEMA, some_rows(9))
    with pytest.raises(RoundError, match=r"round-000/pairs\.parquet is not the file"):
        finished.verify(0)


def test_a_table_that_is_gone_is_refused_by_name(finished):
    finished.table(0, "pairs").unlink()
    with pytest.raises(RoundError, match=r"round-000/pairs\.parquet is not the file"):
        finished.verify(0)


def test_the_hash_of_a_manifest_changes_with_it(finished):
    before = finished.manifest_hash(0)
    path = finished.directory(0) / "manifest.json"
    path.write_text(json.dumps(finished.manifest(0) | {"seed": 4}))
    assert finished.manifest_hash(0) != before


def test_a_damaged_piece_is_named(tmp_path):
    chunks = Chunks(tmp_path)
    chunks.write("numbers", 3, pa.schema({"n": pa.int64()}), [{"n": n} for n in range(100)], {"made": "here"})
    path = chunks.path("numbers", 3)
    path.write_bytes(path.read_bytes()[:100])
    for read in (chunks.facts, chunks.rows):
        with pytest.raises(RoundError, match=r"numbers-00003.parquet is damaged \(.*\); restore it, or delete it to"):
            read("numbers", 3)
