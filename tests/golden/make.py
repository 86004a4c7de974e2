"""Writes golden vectors of formats that are new: ``python -m tests.golden.make [NAME ...]``. Never overwrites one."""

from __future__ import annotations

import gzip
import sqlite3
import sys
import tempfile
from pathlib import Path

from davfs.core.raft_log import HardState, LogChange
from davfs.storage import raft_journal
from davfs.storage.migrations import FORMAT
from davfs.storage.raft_journal import RaftJournal
from tests.golden import history
from tests.golden.vectors import ENTRIES, FOLDER, PARCEL, VECTORS, file_of


def database(path: Path) -> bytes:
    """A closed database as one file, packed: no write-ahead log beside it, no free pages, nothing random in the packing."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("VACUUM")
    db.close()
    return gzip.compress(path.read_bytes(), 9, mtime=0)


def replica(folder: Path) -> bytes:
    history.build(folder / "replica.sqlite")
    return database(folder / "replica.sqlite")


def journal(folder: Path) -> bytes:
    """Two entries, the snapshot that stands for all before them, term 2 with a vote."""
    made = RaftJournal(folder / "journal.sqlite")
    made.load()
    made.save(LogChange(HardState(2, "node-2", 7), None, ENTRIES, PARCEL.snapshot))
    made.close()
    return database(folder / "journal.sqlite")


DATABASES = {"replica": (FORMAT, replica), "raft-journal": (raft_journal.FORMAT, journal)}


def main(names: list[str]) -> int:
    FOLDER.mkdir(exist_ok=True)
    for name in names or [*VECTORS, *DATABASES]:
        with tempfile.TemporaryDirectory() as folder:
            if name in DATABASES:
                number, make = DATABASES[name]
                file, made = FOLDER / f"{name}-{number}.sqlite.gz", make(Path(folder))
            else:
                file, made = file_of(name, VECTORS[name].format), VECTORS[name].make()
        if file.exists():
            sys.stderr.write(f"{file.name} is there already and stays as it is\n")
        else:
            file.write_bytes(made)
            sys.stderr.write(f"{file.name}: {len(made)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
