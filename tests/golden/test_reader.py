"""docs/FORMAT.md is enough to read a disk from: a reader that knows nothing of davfs finds all that was written."""

from __future__ import annotations

import ast
import gzip
import re
import sqlite3
from pathlib import Path

import pytest
from blake3 import blake3

from davfs.storage.chunk_store import DiskChunkStore
from davfs.storage.data_dir import DataDirectory
from davfs.storage.replica_db import ReplicaDb
from tests.golden import history, reader
from tests.golden.vectors import FOLDER, OPERATION_RECORD, OPERATION_RECORD_1, START_RECORD, file_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "FORMAT.md").read_text()


def test_the_reader_knows_nothing_of_davfs():
    tree = ast.parse(Path(reader.__file__).read_text())
    imports = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imports += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in imports if name.startswith(("davfs", "tests"))]


def test_chunks_and_records():
    assert reader.read_chunk(file_of("chunk", 1).read_bytes()) == b"chunk"
    for name, number, meant in (
        ("record", 1, OPERATION_RECORD_1),
        ("record", 2, OPERATION_RECORD),
        ("start-record", 1, START_RECORD),
        ("start-record", 2, START_RECORD),
    ):
        found = reader.read_record(file_of(name, number).read_bytes())
        assert found["position"] == [*meant.position.epoch, meant.position.seq]
        assert (found["volume"], found["kind"], found["request"]) == (meant.volume, meant.kind, meant.request_id)
        plain = [[list(map(list, c.puts)), list(c.deletes)] if number == 2 else [list(c.unvalued)] for c in meant.changes]
        wanted = [[c.document, c.change, *words, list(c.heads)] for c, words in zip(meant.changes, plain, strict=True)]
        assert found["changes"] == wanted
        assert found.get("who", "") == meant.who
        assert found["base"] == (None if meant.base is None else [*meant.base.epoch, meant.base.seq])
        assert (found["reply"], found["time"]) == (meant.reply, meant.at_ns)


@pytest.mark.parametrize("written", ["by this version", *sorted(f.name for f in FOLDER.glob("replica-*.gz"))])
def test_a_data_directory(tmp_path, written):
    with DataDirectory(tmp_path / "node", "node-1") as directory:
        database = directory.volume_database(history.VOLUME)
        if written.endswith(".gz"):
            database.write_bytes(gzip.decompress((FOLDER / written).read_bytes()))
        else:
            history.build(database)
        chunks = DiskChunkStore(directory.chunks)
        for size, number in [(1, 0), (1, 1), (1, 2), (1, 3), (100, 0), (100, 1)]:
            data = history.content(number, size)
            chunks.put(history.VOLUME, blake3(data).hexdigest(), data)
    volume = reader.Volume(tmp_path / "node", history.VOLUME)
    inodes = {path: (inode, kind) for path, inode, kind in volume.walk()}
    small = f"Papers/{history.NFD}"
    assert {path: kind for path, (_, kind) in inodes.items()} == {"Papers": "d", small: "f", "Papers/larger.bin": "f"}
    assert b"".join(volume.content(inodes[small][0])) == b"a" * 100 + b"b" * 100
    assert b"".join(volume.content(inodes["Papers/larger.bin"][0])) == b"abcd" * 75
    assert volume.times(inodes[small][0]) == (history.MTIME_NS, history.MTIME_NS + 1)
    assert volume.properties(inodes[small][0]) == {history.PROPERTY: history.XML}
    volume.close()


def test_the_page_has_every_table_and_column(tmp_path):
    ReplicaDb(tmp_path / "v.sqlite").close()
    db = sqlite3.connect(tmp_path / "v.sqlite")
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    section = PAGE.partition("## A replica's database")[2].partition("\n## ")[0]
    described = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.M))
    for table in tables:
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        assert re.findall(r"`(\w+)`", described.get(table, "")) == columns, f"table {table} in docs/FORMAT.md"
    db.close()
