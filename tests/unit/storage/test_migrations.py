"""A replica's database of an older format: migrated at open, the same as a new one, intact when that fails."""

from __future__ import annotations

import gzip
import os
import signal
import sqlite3
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from davfs.core.errors import NoSpace, Unavailable, UnknownFormat
from davfs.core.model import ROOT, Epoch
from davfs.core.record import START, decode
from davfs.storage import migrations, schema
from davfs.storage.migrations import FORMAT, STEPS, migrate
from davfs.storage.replica_db import ReplicaDb
from tests.golden import history

OLD = Path(history.__file__).parent / "vectors" / "replica-1.sqlite.gz"


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "v.sqlite"
    path.write_bytes(gzip.decompress(OLD.read_bytes()))
    return path


def dump(path):
    """(version, the statements that would make it)."""
    db = sqlite3.connect(path)
    try:
        return db.execute("PRAGMA user_version").fetchone()[0], list(db.iterdump())
    finally:
        db.close()


def layout(path):
    db = sqlite3.connect(path)
    tables = sorted(name for (name,) in db.execute("SELECT name FROM sqlite_master"))
    columns = {name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in tables}
    db.close()
    return columns


def test_the_steps_are_one_for_each_format():
    assert sorted(STEPS) == list(range(1, FORMAT))


def test_an_old_database_is_opened_with_all_that_is_in_it(old):
    assert dump(old)[0] == 1
    store = ReplicaDb(old)
    assert store.sealed == history.E2
    assert store.last.seq == 12
    assert store.committed.seq == 11
    with store.view() as view:
        assert view.usage() == (2, 500)
        (papers,) = view.children(ROOT)
        names = [entry.name for entry in view.children(papers.inode)]
        assert sorted(names) == sorted([history.NFD, "larger.bin"])
        small = view.child(papers.inode, history.NFD)
        assert small is not None
        assert view.properties(small.inode)[history.PROPERTY][1] == history.XML
    records = [decode(data, history.VOLUME) for data in store.read_log(1, 1 << 20)]
    assert [record.position.seq for record in records] == list(range(1, 13))
    assert (records[10].kind, records[10].position.epoch) == (START, history.E2)
    assert [at.seq for at, _ in store.late_records()] == [11]
    store.close()
    assert dump(old)[0] == FORMAT


def test_a_migrated_database_is_like_a_new_one(old, tmp_path):
    ReplicaDb(old).close()
    history.build(tmp_path / "new.sqlite")
    assert layout(old) == layout(tmp_path / "new.sqlite")
    names = "SELECT name, canonical, version FROM entry WHERE parent <> 'trash' ORDER BY version"
    rows = [sqlite3.connect(path).execute(names).fetchall() for path in (old, tmp_path / "new.sqlite")]
    assert rows[0] == rows[1]
    found = {name: plain for name, plain, _ in rows[0] if plain is not None}
    assert found == {history.NFD: unicodedata.normalize("NFC", history.NFD)}


def test_a_migration_that_fails_leaves_the_old_database(old, monkeypatch):
    before = dump(old)
    broken = {**STEPS, FORMAT: "CREATE TABLE half (a);\nINSERT INTO nowhere VALUES (1);\n"}
    monkeypatch.setattr(schema, "FORMAT", FORMAT + 1)
    monkeypatch.setattr(schema, "migrate", lambda db, version: migrate(db, version, broken))
    with pytest.raises(Unavailable, match="nowhere"):
        ReplicaDb(old)
    assert dump(old) == before
    monkeypatch.undo()
    ReplicaDb(old).close()
    assert dump(old)[0] == FORMAT


def test_a_full_disk_leaves_the_old_database(old, monkeypatch):
    before = dump(old)

    def narrow(db, version):
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        migrate(db, version, {1: STEPS[1] + "CREATE TABLE big (a);\nINSERT INTO big VALUES (zeroblob(100000));\n"})

    monkeypatch.setattr(schema, "migrate", narrow)
    with pytest.raises(NoSpace, match="full"):
        ReplicaDb(old)
    assert dump(old) == before


@pytest.mark.parametrize("statement", ["before", "within", "behind"])
def test_a_migration_that_is_killed_leaves_the_old_database(old, statement):
    before = dump(old)
    code = (
        "import os, signal, sys\n"
        "from davfs.storage import schema, migrations\n"
        "from davfs.storage.replica_db import ReplicaDb\n"
        "die = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "def dying(db, version):\n"
        "    if sys.argv[2] == 'within': migrations._nfc = lambda text: die()\n"
        "    if sys.argv[2] != 'before': migrations.migrate(db, version)\n"
        "    die()\n"
        "schema.migrate = dying\n"
        "ReplicaDb(sys.argv[1])\n"
    )
    root = str(Path(migrations.__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", code, str(old), statement], env={**os.environ, "PYTHONPATH": root}, timeout=60
    )
    assert run.returncode == -signal.SIGKILL
    assert dump(old) == before
    store = ReplicaDb(old)
    assert store.sealed == Epoch(1, 2)
    store.close()


def test_a_newer_one_is_refused_and_not_touched(old):
    db = sqlite3.connect(old)
    db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    db.close()
    before = old.read_bytes()
    with pytest.raises(UnknownFormat, match=f"format {FORMAT + 1}; this davfs knows format {FORMAT} and older ones"):
        ReplicaDb(old)
    assert old.read_bytes() == before


def test_a_script_that_stops_within_a_statement_is_a_mistake_that_shows():
    db = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(ValueError, match="ends within"):
        migrate(db, 1, {1: "CREATE TABLE a (b)"})
