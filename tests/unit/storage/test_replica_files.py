"""A replica's database on a real disk: reopening, kill -9, a log cut by a power loss, full and failing disks, damage."""

from __future__ import annotations

import errno
import io
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from davfs.core import keys, values
from davfs.core.errors import CorruptData, NoSpace, StorePoisoned
from davfs.core.model import ORIGIN, ROOT, Epoch, Manifest, Position
from davfs.core.ports import AppliedRecord, DocumentUpdate, IndexUpdate
from davfs.core.record import OPERATION, Record, decode, encode
from davfs.storage.replica_db import ReplicaDb
from tests.support.tools import refuse, require_tool

EPOCH = Epoch(1, 1)


def make(seq, padding=0):
    version = keys.version_of(Position(EPOCH, seq))
    inode = keys.make_inode(Position(EPOCH, seq), 0)
    updates = [
        IndexUpdate(keys.make(keys.NAME, inode, version), values.encode_name(ROOT, f"f{seq}", "f", seq)),
        IndexUpdate(keys.make(keys.MANIFEST, inode, version), values.encode_manifest(Manifest(0, seq, "e", 4096))),
    ]
    record = Record("v1", Position(EPOCH, seq), OPERATION, f"r{seq}", reply=b"x" * padding, at_ns=seq)
    return record, AppliedRecord(record, [DocumentUpdate("b/0", b"change %d" % seq)], updates)


def append(store, seq, padding=0):
    record, applied = make(seq, padding)
    store.append([(record.position, encode(record))], None)
    return applied


def state(store):
    with store.view() as view:
        return (store.sealed, store.last.seq, view.committed.seq, view.usage()[0], len(view.children(ROOT)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "v.sqlite"


def test_a_trimmed_log_gives_its_space_back(path):
    store = ReplicaDb(path)
    for start in range(1, 601, 100):
        made = [make(seq, padding=50_000) for seq in range(start, start + 100)]
        store.append([(record.position, encode(record)) for record, _ in made], None)
        store.commit([applied for _, applied in made])
    before = path.stat().st_size
    assert before > 25 << 20  # the log; the replies are as much again
    while store.trim(599, 50):
        pass
    while store.give_back(1000):
        pass
    store.close()
    store = ReplicaDb(path)
    assert (store.floor.seq, store.last.seq, store.position_at(17)) == (598, 600, Position(EPOCH, 17))
    assert store.incarnation
    store.close()
    assert before - path.stat().st_size > 15 << 20


def test_an_older_database_learns_to_give_space_back(path):
    old = sqlite3.connect(path)
    old.executescript("PRAGMA journal_mode = WAL; CREATE TABLE grown (x); DROP TABLE grown;")
    old.close()
    store = ReplicaDb(path)
    append(store, 1)
    store.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_everything_is_there_after_reopening(path):
    store = ReplicaDb(path)
    incarnation = store.incarnation
    store.seal(EPOCH)
    first = append(store, 1)
    append(store, 2)
    store.commit([first])
    store.append([], 2)
    before = state(store)
    store.close()
    again = ReplicaDb(path)
    assert again.incarnation == incarnation
    assert state(again) == before == (EPOCH, 1, 1, 1, 1)
    assert [at.seq for at, _ in again.late_records()] == [2]
    append(again, 2)
    assert again.late_records() == []
    again.close()


def test_kill_9_keeps_what_was_acknowledged(path):
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('helper', sys.argv[1])\n"
        "helper = importlib.util.module_from_spec(spec); spec.loader.exec_module(helper)\n"
        "store = helper.ReplicaDb(sys.argv[2]); store.seal(helper.EPOCH)\n"
        "for seq in range(store.last.seq + 1, 10**6):\n"
        "    applied = helper.append(store, seq)\n"
        "    print('appended', seq, flush=True)\n"
        "    store.commit([applied]); print('committed', seq, flush=True)\n"
    )
    rng = random.Random(7)
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", code, __file__, str(path)], stdout=subprocess.PIPE, text=True)
        try:
            lines = [writer.stdout.readline() for _ in range(rng.randrange(2, 60))]
        finally:
            writer.send_signal(signal.SIGKILL)
            rest, _ = writer.communicate(timeout=10)
        told = [line.split() for line in [*lines, *rest.splitlines()] if len(line.split()) == 2]
        appended = max(int(seq) for word, seq in told if word == "appended")
        committed = max((int(seq) for word, seq in told if word == "committed"), default=0)
        store = ReplicaDb(path)
        sealed, last, mark, files, listed = state(store)
        assert sealed == EPOCH
        assert last >= appended
        assert last >= mark >= committed
        assert files == listed == mark == len(store.load_document("b/0").changes)
        assert [decode(data, "v1").position.seq for data in store.read_log(1, 10**9)] == list(range(1, last + 1))
        for seq in range(mark + 1, last + 1):
            store.commit([make(seq)[1]])
        store.close()


def install_killed(path, step):
    """Install in a child that is killed just before its ``step``-th call into C; whether it came to its end before."""
    child = os.fork()
    if not child:
        calls = 0

        def hook(frame, event, argument):
            nonlocal calls
            calls += event == "c_call"
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)

        store = ReplicaDb(path)
        sys.setprofile(hook)
        store.install()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def survive_kills(folder):
    """For ``test_kill_9_while_a_snapshot_is_installed...``, in a process without other threads; the states that were seen."""
    source = ReplicaDb(folder / "source.sqlite")
    for seq in range(1, 31):
        source.commit([append(source, seq)])
    source.trim(30, 100)
    snapshot = source.freeze(1 << 30)
    stage = folder / "stage"
    stage.mkdir()
    store = ReplicaDb(stage / "v.sqlite")
    store.seal(EPOCH)
    store.commit([append(store, 1)])
    append(store, 2)
    old, new, incarnation = state(store), (EPOCH, *state(source)[1:]), store.incarnation
    store.receive(snapshot, 0, source.read_frozen(snapshot.id, 0, snapshot.size))
    store.close()
    seen, step, whole = [], 0, False
    while not whole:
        step += 1 + step // 5
        path = folder / f"at-{step}" / "v.sqlite"
        shutil.copytree(stage, path.parent)
        whole = install_killed(path, step)
        store = ReplicaDb(path)
        found = state(store)
        assert store.incarnation == incarnation
        assert found in (old, new), f"killed at step {step}: {found}"
        seen.append(found == new)
        if found == old:
            assert store.arrived() == (snapshot, snapshot.size)
            store.install()
            assert state(store) == new
        append(store, 31)
        store.close()
        shutil.rmtree(path.parent)
    return seen


def test_kill_9_while_a_snapshot_is_installed_leaves_the_old_or_the_new(tmp_path):
    code = (
        "import importlib.util, sys, pathlib\n"
        "spec = importlib.util.spec_from_file_location('helper', sys.argv[1])\n"
        "helper = importlib.util.module_from_spec(spec); spec.loader.exec_module(helper)\n"
        "seen = helper.survive_kills(pathlib.Path(sys.argv[2]))\n"
        "print(seen.index(True), len(seen))\n"
    )
    command = [sys.executable, "-c", code, __file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr[-3000:]
    first_new, runs = map(int, done.stdout.split())
    assert 10 < first_new < runs


def test_a_write_ahead_log_cut_anywhere_is_an_earlier_state(path, tmp_path):
    store = ReplicaDb(path)
    states = [state(store)]
    store.seal(EPOCH)
    states.append(state(store))
    for seq in range(1, 13):
        applied = append(store, seq)
        states.append(state(store))
        store.commit([applied])
        states.append(state(store))
    wal = path.with_name(path.name + "-wal")
    length = wal.stat().st_size
    rng = random.Random(11)
    seen = set()
    for number in range(40):
        copy = tmp_path / f"{number}.sqlite"
        shutil.copy(path, copy)
        shutil.copy(wal, tmp_path / f"{number}.sqlite-wal")
        os.truncate(tmp_path / f"{number}.sqlite-wal", rng.randrange(length + 1))
        cut = ReplicaDb(copy)
        assert state(cut) in states
        seen.add(state(cut))
        cut.close()
    assert len(seen) > 5
    store.close()


def test_appends_are_synced_and_commits_are_not(path):
    strace = require_tool("strace")
    code = (
        "import importlib.util, sys, os\n"
        "spec = importlib.util.spec_from_file_location('helper', sys.argv[1])\n"
        "helper = importlib.util.module_from_spec(spec); spec.loader.exec_module(helper)\n"
        "store = helper.ReplicaDb(sys.argv[2])\n"
        "for seq in range(1, 11):\n"
        "    os.write(1, b'append\\n'); applied = helper.append(store, seq)\n"
        "    os.write(1, b'commit\\n'); store.commit([applied])\n"
        "os.write(1, b'end\\n')\n"
    )
    command = [strace, "-f", "-e", "trace=fsync,fdatasync,write", sys.executable, "-c", code, __file__, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if run.returncode:
        refuse("tracing is not allowed here")
    steps: list[list[str]] = []
    for line in run.stderr.splitlines():
        for word in ("append", "commit", "end"):
            if f'write(1, "{word}\\n"' in line:
                steps.append([word])
        if steps and ("fdatasync(" in line or "fsync(" in line):
            steps[-1].append("sync")
    # The first one also syncs the header of the write-ahead log, which begins anew.
    assert [step for step in steps if step[0] == "append"][1:] == [["append", "sync"]] * 9
    assert [step for step in steps if step[0] == "commit"][1:] == [["commit"]] * 9


def fill(store):
    """Append until one more large record does not fit: (the state before that one, its seq)."""
    for seq in range(2, 30):  # the pages that are there already are used up first
        before = state(store)
        try:
            append(store, seq, padding=500_000)
        except NoSpace:
            return before, seq
    pytest.fail("the database never was full")


def test_a_full_database_refuses_and_keeps_its_state(path):
    store = ReplicaDb(path)
    store.commit([append(store, 1)])
    store._db.execute(f"PRAGMA max_page_count = {store._db.execute('PRAGMA page_count').fetchone()[0] + 4}")
    before, seq = fill(store)
    assert state(store) == before
    append(store, seq)
    assert store.last.seq == seq
    store.close()


def test_a_failed_write_poisons_for_ever(path):
    store = ReplicaDb(path)
    store.commit([append(store, 1)])
    before = state(store)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises((StorePoisoned, NoSpace)) as caught:
            append(store, 2, padding=500_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.type is StorePoisoned
    assert state(store) == before  # reads go on
    for use in (lambda: append(store, 2), lambda: store.seal(Epoch(9, 9))):
        with pytest.raises(StorePoisoned, match="check the disk"):
            use()
    store.close()
    again = ReplicaDb(path)
    append(again, 2)
    again.close()


def test_another_database_is_refused(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE songs (a)")
    db.commit()
    db.close()
    with pytest.raises(CorruptData, match="not one of a volume replica"):
        ReplicaDb(path)


def test_damage_names_the_file(path):
    path.write_bytes(b"this is no database at all, but long enough to be looked at" * 100)
    with pytest.raises(CorruptData, match=r"v\.sqlite"):
        ReplicaDb(path)


def test_damage_inside_is_an_error_not_an_answer(path):
    store = ReplicaDb(path)
    for seq in range(1, 200):
        store.commit([append(store, seq)])
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(CorruptData, match=r"v\.sqlite"):
        ReplicaDb(path)


def test_writing_under_ones_own_view_in_memory_is_a_mistake_that_shows():
    store = ReplicaDb(":memory:")
    with store.view() as view:
        assert view.committed == ORIGIN
        with pytest.raises(RuntimeError, match="view"):
            append(store, 1)
    append(store, 1)
    store.close()


def test_a_large_directory_is_listed_although_the_disk_has_no_room_for_it(path, monkeypatch):
    store = ReplicaDb(path)
    record, _ = make(1)
    entries = [(f"i{n:05d}", values.encode_name(ROOT, f"n{n:05d}", "f", n)) for n in range(5000)]
    many = [IndexUpdate(keys.make(keys.NAME, inode, "v"), value) for inode, value in entries]
    store.append([(record.position, encode(record))], None)
    store.commit([AppliedRecord(record, [], many)])
    real, written = os.write, []

    class Full(io.FileIO):
        def write(self, data):
            written.append(len(data))
            if len(written) > 2:
                real(self.fileno(), bytes(data)[:100])
                raise OSError(errno.ENOSPC, "no space left on device")
            return super().write(data)

    monkeypatch.setattr("davfs.storage.listing.tempfile.TemporaryFile", lambda dir, buffering: Full(dir / "listing", "w+b"))
    with store.view() as view:
        reading = view.members(ROOT)
    assert [entry.name for entry, _ in reading] == [f"n{n:05d}" for n in range(5000)]
    assert len(written) == 3
    store.close()
