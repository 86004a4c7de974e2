"""The examination of a replica: silent about whole ones, and each kind of damage is told by its name."""

from __future__ import annotations

import gzip
import shutil
import sqlite3

import pytest

from davfs.cluster.fsck import Examination
from davfs.core.errors import StoreDamaged
from davfs.crdt.documents import AutomergeDocuments
from davfs.storage.replica_db import ReplicaDb
from tests.golden import history
from tests.golden.vectors import FOLDER


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("fsck") / "v.sqlite"
    history.build(path)
    return path


def examine(path):
    """(the digest, the kinds of the problems that were found)."""
    store = ReplicaDb(path)
    try:
        with store.audit() as audit:
            examination = Examination(audit, AutomergeDocuments(), history.VOLUME)
            problems = [problem for step in examination.steps() for problem in step.problems]
    finally:
        store.close()
    return examination.digest, problems


def test_a_whole_replica_has_no_problems_and_one_digest(whole, tmp_path):
    digest, problems = examine(whole)
    assert problems == []
    history.build(tmp_path / "again.sqlite")
    assert examine(tmp_path / "again.sqlite") == (digest, [])


def test_a_migrated_replica_has_no_problems(tmp_path):
    for file in FOLDER.glob("replica-*.gz"):
        path = tmp_path / file.name.removesuffix(".gz")
        path.write_bytes(gzip.decompress(file.read_bytes()))
        assert examine(path)[1] == []


def test_a_database_with_bad_pages_is_told_and_raises_nothing_of_sqlite(whole, tmp_path):
    path = tmp_path / "v.sqlite"
    shutil.copy(whole, path)
    with sqlite3.connect(path) as db:
        ((page,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'manifest'").fetchall()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 8)
    store = ReplicaDb(path)
    with store.audit() as audit:
        steps = Examination(audit, AutomergeDocuments(), history.VOLUME).steps()
        assert {problem.kind for problem in next(steps).problems} == {"database"}
        assert store.broken == ""
        with pytest.raises(StoreDamaged, match="is damaged"), audit.translated():
            list(steps)
    assert "is damaged" in store.broken
    store.close()


DAMAGES = {
    "orphan": "UPDATE entry SET parent = 'nowhere' WHERE name = 'larger.bin'",
    "orphan below a file": "UPDATE entry SET parent = (SELECT inode FROM manifest LIMIT 1) WHERE name = 'Papers'",
    "cycle": "UPDATE entry SET parent = inode WHERE name = 'Papers'",
    "double-name": "UPDATE entry SET name = 'larger.bin' WHERE kind = 'f'",
    "content": "UPDATE entry SET size = size + 1 WHERE name = 'larger.bin'",
    "content of nothing": "DELETE FROM entry WHERE name = 'larger.bin'",
    "content without a segment": "DELETE FROM segment WHERE number = 1",
    "content from the future": "UPDATE manifest SET version = '0001.00000009.000000000fff'",
    "property": "UPDATE property SET inode = 'nowhere'",
    "usage": "UPDATE state SET files = files + 1",
    "usage of bytes": "UPDATE state SET bytes = bytes - 1",
    "log": "DELETE FROM log WHERE seq = 7",
    "log with a record elsewhere": "UPDATE log SET record = (SELECT record FROM log WHERE seq = 3) WHERE seq = 4",
    "log with a damaged record": "UPDATE log SET record = x'4452' WHERE seq = 4",
    "version newer than the state": "DELETE FROM log WHERE seq > 9; UPDATE state SET committed_seq = 9",
    "index": "UPDATE entry SET name = 'other' WHERE name = 'larger.bin'",
    "index without its property": "DELETE FROM property",
    "index with more than there is": "INSERT INTO segment VALUES ('content-9', 0, '0001.00000001.000000000001', '{}')",
    "document": "UPDATE document SET snapshot = x'00'",
    "index beside a document that lost a change": (
        "DELETE FROM document_change WHERE seq = (SELECT min(seq) FROM document_change)"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(whole, tmp_path, damage):
    path = tmp_path / "v.sqlite"
    shutil.copy(whole, path)
    db = sqlite3.connect(path)
    before = list(db.iterdump())
    db.executescript(DAMAGES[damage])
    assert list(db.iterdump()) != before
    db.close()
    kinds = {problem.kind for problem in examine(path)[1]}
    assert damage.split()[0] in kinds


def test_a_damaged_file_is_found(whole, tmp_path):
    path = tmp_path / "v.sqlite"
    shutil.copy(whole, path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA writable_schema = 1")
    swap = "UPDATE sqlite_master SET sql = replace(sql, '(parent, canonical', '(canonical, parent') WHERE name = ?"
    db.execute(swap, ("entry_by_canonical",))
    db.commit()
    db.close()
    assert "database" in {problem.kind for problem in examine(path)[1]}
