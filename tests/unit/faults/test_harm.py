"""Harm to files: what is flipped is told apart from what is whole, and is nothing else than what was meant."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from blake3 import blake3

from davfs.storage.chunk_store import DiskChunkStore
from tests.faults import harm


def test_flipped_copies_are_told_from_whole_ones(tmp_path: Path) -> None:
    (tmp_path / "chunks").mkdir()
    store = DiskChunkStore(tmp_path / "chunks")
    for number in range(30):
        body = bytes([number]) * 1000
        store.put("0" * 32, blake3(body).hexdigest(), body)
    there = harm.chunk_files(tmp_path)
    assert len(there) == 30 and all(map(harm.is_whole, there))
    flips = harm.flip_chunks(2, tmp_path, random.Random(1))
    assert len(flips) == harm.CHUNKS_AT_MOST
    assert [path for path in there if not harm.is_whole(path)] == sorted(flip.path for flip in flips)
    flips[0].path.unlink()
    assert harm.is_whole(flips[0].path), "what is gone shows nothing wrong"


def test_a_damaged_database_and_a_wiped_disk(tmp_path: Path) -> None:
    folder = tmp_path / "volumes"
    folder.mkdir()
    path = folder / "1.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (a TEXT)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 400)
    before = path.read_bytes()
    pages = harm.flip_database(path, random.Random(2))
    differ = {at // harm.PAGE for at, (a, b) in enumerate(zip(before, path.read_bytes(), strict=True)) if a != b}
    assert differ == set(pages) and 0 not in differ and len(differ) == harm.PAGES_AT_MOST
    with pytest.raises(sqlite3.DatabaseError), sqlite3.connect(path) as db:
        db.execute("SELECT sum(length(a)) FROM t").fetchall()
    (folder / "1.sqlite-wal").touch()
    harm.remove_databases(tmp_path)
    assert not list(folder.iterdir())
    harm.wipe(tmp_path)
    assert tmp_path.is_dir() and not list(tmp_path.iterdir())
