"""Ways to break davfs that only a crash shows. Each must be found by the crash points; nothing else would find it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path

from davfs.storage import chunk_store, files, raft_journal, replica_db, snapshots


def _no_directory_sync() -> None:
    """New names of chunks are answered for before they are durable."""
    chunk_store.DiskChunkStore._sync_folder = lambda self, folder: None  # type: ignore[method-assign]
    for module in (files, chunk_store, snapshots):
        module.sync_directory = lambda path: None  # type: ignore[attr-defined]


def _rename_before_sync() -> None:
    """A file has its final name before its bytes are durable."""
    rename, sync = os.rename, os.fsync
    late: list[int] = []

    def renamed(source, target, *, src_dir_fd=None, dst_dir_fd=None):
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        while late:
            fd = late.pop()
            sync(fd)
            os.close(fd)

    def synced(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            sync(fd)
        else:
            late.append(os.dup(fd))

    os.fsync = os.fdatasync = synced  # type: ignore[assignment]
    os.rename = renamed


def _answer_before_sync() -> None:
    """Records are acknowledged when they are written and not synced."""
    durable = replica_db.ReplicaDb._writing

    @contextmanager
    def writing(self, durable_too):
        with durable(self, durable=False) as db:
            yield db

    replica_db.ReplicaDb._writing = lambda self, durable: writing(self, durable)  # type: ignore[method-assign]


def _raft_without_sync() -> None:
    """Raft's log is acknowledged when it is written and not synced."""
    prepare = raft_journal.RaftJournal._prepare

    def careless(self: raft_journal.RaftJournal) -> None:
        prepare(self)
        self._db.execute("PRAGMA synchronous = NORMAL")

    raft_journal.RaftJournal._prepare = careless  # type: ignore[method-assign]


def _marker_in_place() -> None:
    """Small files are replaced by writing over them."""

    def careless(path: Path, data: bytes) -> None:
        path.write_bytes(data)

    from davfs.storage import age_clock, data_dir

    for module in (files, snapshots, age_clock, data_dir):
        module.write_durably = careless  # type: ignore[attr-defined]


BREAKS: Mapping[str, Callable[[], None]] = {
    "no directory fsync": _no_directory_sync,
    "rename before fsync": _rename_before_sync,
    "acknowledge before fsync": _answer_before_sync,
    "Raft's log without fsync": _raft_without_sync,
    "files replaced in place": _marker_in_place,
}


def breaks(name: str) -> None:
    """Break this process in the way of that name; "" breaks nothing."""
    if name:
        BREAKS[name]()
