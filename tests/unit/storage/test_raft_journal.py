"""Raft's journal on disk: what was saved comes back whole, or an error says what is wrong."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from davfs.core.errors import CorruptData, NoSpace, StorePoisoned, Unavailable, UnknownFormat
from davfs.core.raft_log import HardState, LogChange, LogEntry, LogSnapshot
from davfs.storage.raft_journal import RaftJournal


def entries(*indexes: int, term: int = 1) -> tuple[LogEntry, ...]:
    return tuple(LogEntry(b"\0command %d" % index, index, term) for index in indexes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raft" / "raft.db"


def test_everything_comes_back_and_boots_are_counted(path: Path) -> None:
    journal = RaftJournal(path)
    assert journal.load().boot == 1
    journal.save(LogChange(HardState(3, "b", 2), append=entries(1, 2, 3)))
    journal.save(LogChange(HardState(4, None, 3), cut_from=3, append=entries(3, 4, term=4)))
    journal.close()
    journal = RaftJournal(path)
    image = journal.load()
    assert image.boot == 2
    assert image.hard == HardState(4, None, 3)
    assert image.entries == entries(1, 2) + entries(3, 4, term=4)
    assert image.snapshot is None
    journal.save(LogChange(HardState(4, None, 4), snapshot=LogSnapshot(3, b"state"), trim_before=2))
    journal.close()
    journal = RaftJournal(path)
    image = journal.load()
    assert image.snapshot == LogSnapshot(3, b"state")
    assert [entry.index for entry in image.entries] == [2, 3, 4]
    journal.close()


def test_a_change_that_fails_half_way_changes_nothing(path: Path) -> None:
    journal = RaftJournal(path)
    journal.save(LogChange(HardState(), append=entries(1, 2)))
    with pytest.raises(StorePoisoned):
        journal.save(LogChange(HardState(9, "x", 1), cut_from=2, append=entries(2, 3, 3)))
    with pytest.raises(StorePoisoned, match="check the disk"):
        journal.save(LogChange(HardState(), append=entries(3)))
    journal.close()
    journal = RaftJournal(path)
    assert (journal.load().entries, journal.load().hard) == (entries(1, 2), HardState())
    journal.close()


def test_a_full_disk_changes_nothing_and_may_pass(path: Path) -> None:
    journal = RaftJournal(path)
    journal.save(LogChange(HardState(), append=entries(1)))
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    large = (LogEntry(b"x" * 200_000, 2, 1),)
    with pytest.raises(NoSpace):
        journal.save(LogChange(HardState(), append=large))
    journal._db.execute("PRAGMA max_page_count = 100000")
    journal.save(LogChange(HardState(), append=large))
    assert journal.load().entries == entries(1) + large
    journal.close()


def test_a_second_process_is_refused(path: Path) -> None:
    journal = RaftJournal(path)
    with pytest.raises(Unavailable, match="in use by another process"):
        RaftJournal(path)
    journal.close()
    RaftJournal(path).close()


KILLED = """
import os, signal, sys
from pathlib import Path
from davfs.core.raft_log import HardState, LogChange, LogEntry, LogSnapshot
from davfs.storage.raft_journal import RaftJournal
journal = RaftJournal(Path(sys.argv[1]))
left = int(sys.argv[2])
def step(statement):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
journal._db.set_trace_callback(step)
journal.save(LogChange(HardState(5, "b", 4), cut_from=4, append=(LogEntry(b"new", 4, 5), LogEntry(b"new", 5, 5)),
                       snapshot=LogSnapshot(3, b"state"), trim_before=2))
print("saved", flush=True)
journal._db.set_trace_callback(None)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_within_a_change_leaves_all_of_it_or_nothing(path: Path) -> None:
    seen = set()
    for step in range(1, 30):
        for leftover in path.parent.glob("raft.db*"):
            leftover.unlink()
        journal = RaftJournal(path)
        journal.save(LogChange(HardState(1, None, 1), append=entries(1, 2, 3, 4)))
        journal.close()
        command = [sys.executable, "-c", KILLED, str(path), str(step)]
        saved = subprocess.run(command, capture_output=True, timeout=20, check=False).stdout == b"saved\n"
        journal = RaftJournal(path)
        image = journal.load()
        journal.close()
        if image.hard.term == 1:
            assert not saved
            assert (image.entries, image.snapshot) == (entries(1, 2, 3, 4), None)
        else:
            assert image.hard == HardState(5, "b", 4)
            assert [(entry.index, entry.term) for entry in image.entries] == [(2, 1), (3, 1), (4, 5), (5, 5)]
            assert image.snapshot == LogSnapshot(3, b"state")
        seen.add((image.hard.term, saved))
        if saved:
            break
    assert {(1, False), (5, True)} <= seen


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE log SET command = x'00' WHERE idx = 3", "entry 3"),
        ("UPDATE log SET term = 7 WHERE idx = 3", "entry 3"),
        ("DELETE FROM log WHERE idx = 3", "gaps"),
        ("DELETE FROM log WHERE idx < 4", "gaps"),
        ("DELETE FROM snapshot", "gaps"),
        ("UPDATE snapshot SET data = x'00'", "snapshot"),
    ],
)
def test_damage_is_named(path: Path, damage: str, message: str) -> None:
    journal = RaftJournal(path)
    journal.save(LogChange(HardState(), append=entries(1, 2, 3, 4, 5)))
    journal.save(LogChange(HardState(), snapshot=LogSnapshot(3, b"state"), trim_before=2))
    journal.close()
    with sqlite3.connect(path) as database:
        database.execute(damage)
    database.close()
    journal = RaftJournal(path)
    with pytest.raises(CorruptData, match=message):
        journal.load()
    journal.close()


def test_a_flipped_bit_where_sqlite_finds_its_way_changes_nothing_or_is_told(path: Path) -> None:
    journal = RaftJournal(path)
    journal.save(LogChange(HardState(5, "a", 3), append=tuple(LogEntry(b"x" * 1500, n, 4) for n in range(1, 9))))
    journal.save(LogChange(HardState(5, "a", 3), snapshot=LogSnapshot(3, b"state" * 2000), trim_before=2))
    whole = journal.load()
    journal.close()
    before = path.read_bytes()
    told = 0
    for page in range(1, len(before) // 4096):
        for at, bit in ((0, 3), (4, 0), (6, 7)):
            harmed = bytearray(before)
            harmed[page * 4096 + at] ^= 1 << bit
            path.write_bytes(harmed)
            try:
                with closing(RaftJournal(path)) as opened:
                    image = opened.load()
                assert (image.hard, image.entries, image.snapshot) == (whole.hard, whole.entries, whole.snapshot)
            except (CorruptData, UnknownFormat):
                told += 1
    assert told > 10


def test_what_is_no_journal_or_a_newer_one_is_refused(path: Path) -> None:
    RaftJournal(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(UnknownFormat, match="format 2"):
        RaftJournal(path)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(CorruptData, match="not a readable"):
        RaftJournal(path)
