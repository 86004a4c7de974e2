"""The replica's database of a simulated node: it tells the watch what is durable, and forgets what is not when power fails.

SQLite with a write-ahead log loses whole transactions then, newest first, and none before the last one that was synced
(``storage/replica_db.py``). So every state since that one is remembered as an image, and a power loss goes back to any of
them. May import storage, core and the simulator's own parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from blake3 import blake3

from davfs.core.model import Epoch, Position
from davfs.core.ports import AppliedRecord
from davfs.core.snapshot_port import Snapshot
from davfs.sim.watch import Watch
from davfs.storage.images import failure, open_image
from davfs.storage.replica_db import ReplicaDb
from davfs.storage.schema import MEMORY
from davfs.storage.snapshots import SnapshotMemory

FULL, BROKEN = "full", "broken"


class WatchedStore(ReplicaDb):
    """``age_ns``: the clock that small chunks age by; ``failing()``: how writes fail now, FULL, BROKEN or ""."""

    def __init__(
        self, node: str, watch: Watch, age_ns: Callable[[], int], failing: Callable[[], str] = lambda: ""
    ) -> None:
        self._node = node
        self._watch = watch
        self._failing = failing
        self._states: list[bytes] = []  # what a power loss may leave: the synced state, and each one since; [] without any
        super().__init__(MEMORY, age_ns)

    # --- power ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, durable: bool) -> Iterator[Any]:
        if not durable and not self._states and not self._closed:
            self._states.append(self._db.serialize())
        before = 0 if self._closed else self._db.total_changes
        with super()._writing(durable) as db:
            if how := self._failing():
                raise failure(full=how == FULL)
            yield db
        if durable:
            self._states.clear()
        elif self._db.total_changes != before:
            self._states.append(self._db.serialize())

    def lose_power(self, random: Random) -> None:
        """Keep what was synced, and as much of what came after it as the disk happened to write; then start again."""
        if self._states and (image := random.choice(self._states)) is not self._states[-1]:
            self._replace(image)
        if isinstance(self._snapshots, SnapshotMemory) and self._snapshots.arrived() is not None and random.random() < 0.5:
            self._snapshots.tear(random.random(), zeroed=random.random() < 0.5)
        self.start_again()

    def start_again(self) -> None:
        """What a process that opens this database finds."""
        self._poison = self._damage = ""
        self._states.clear()  # whatever has survived is on the disk: it was read back
        self._snapshots.thaw()
        self._read_state()

    def rot(self, digest: str) -> None:
        """Flip a bit of a small chunk, where it lies."""
        (data,) = self._db.execute("SELECT data FROM chunk WHERE digest = ?", (digest,)).fetchone()
        self._db.execute("UPDATE chunk SET data = ? WHERE digest = ?", (bytes([data[0] ^ 1]) + data[1:], digest))

    def small_chunks(self) -> list[str]:
        """The digests of the small chunks that are not set aside, sorted."""
        rows = self._db.execute("SELECT digest FROM chunk WHERE removed_ns IS NULL ORDER BY digest").fetchall()
        return [digest for (digest,) in rows]

    def has_good_chunk(self, digest: str) -> bool:
        """Whether there is a small chunk that is whole and not set aside; a damaged database has none."""
        if self._damage:
            return False
        row = self._db.execute("SELECT data FROM chunk WHERE digest = ? AND removed_ns IS NULL", (digest,)).fetchone()
        return row is not None and blake3(row[0]).hexdigest() == digest

    def _replace(self, image: bytes) -> None:
        self._db = open_image(image)  # the other one dies with its process

    # --- what the watch is told -------------------------------------------------------------------------------------

    def seal(self, epoch: Epoch) -> None:
        super().seal(epoch)
        self._watch.sealed(self._node, epoch)

    def append(
        self,
        records: Sequence[tuple[Position, bytes]],
        cut_from: int | None,
        chunks: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        self._watch.taken_back += cut_from is not None and cut_from <= self.committed.seq
        super().append(records, cut_from, chunks)
        self._watch.appended(self._node, records, cut_from)

    def commit(self, applied: Sequence[AppliedRecord], firm: int | None = None) -> None:
        super().commit(applied, firm)
        self._watch.committed(self._node, [one.record.position for one in applied])

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> None:
        super().receive(snapshot, offset, data)
        self._watch.received(self._node)

    def install(self, volume: str = "") -> None:
        super().install(volume)
        self._states.clear()  # the database that was renamed into place was synced before
        history = [self.position_at(seq) for seq in range(1, self.last.seq + 1)]
        self._watch.installed(self._node, [at for at in history if at is not None])

    def remove_chunks(self, digests: Sequence[str], before: int) -> tuple[int, int]:
        there = [digest for digest in digests if self.has_chunk(digest)]
        removed = super().remove_chunks(digests, before)
        for digest in there:
            if not self.has_chunk(digest):
                self._watch.on_removed(self._node, digest)
        return removed
