"""A file of 100 GiB: what a write at a position of it costs, in bytes of records. Its content is one chunk of zeros."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from davfs.cluster import positions
from davfs.cluster.api import Caller
from davfs.core import values
from davfs.core.chunking import CHUNKS_PER_SEGMENT
from davfs.core.model import Manifest, Path
from tests.scale.commits import anything
from tests.scale.local import Alone

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one change: records, their bytes, and segments of the chunk list that it wrote anew."""

    records: int
    size: int
    segments: int


class LargeFile:
    """An open file of a drive that stands alone, and what changes of it cost."""

    def __init__(self, drive: Alone, path: Path) -> None:
        self._drive = drive
        self._path = path
        drive.held.put(path, lambda size: b"", 0, mtime_ns=None, condition=anything, caller=Caller())
        entry = drive.held.lookup(path)
        assert entry is not None
        self._inode = entry.inode

    def resize(self, size: int) -> Cost:
        return self._cost(lambda: positions.resize(self._drive.holder, self._inode, size, _caller()))

    def write(self, position: int | None, data: bytes) -> Cost:
        return self._cost(
            lambda: positions.write_at(self._drive.holder, self._inode, position, memoryview(data), _caller())
        )

    def read(self, start: int, stop: int) -> bytes:
        return b"".join(self._drive.held.open(self._path).read(start, stop))

    @property
    def manifest(self) -> Manifest:
        with self._drive.store.view() as view:
            held = view.manifest(self._inode)
        assert held is not None
        return held[1]

    def count(self) -> int:
        """The chunks that its segments name together."""
        manifest, count = self.manifest, 0
        with self._drive.store.view() as view:
            for number in range(manifest.segments):
                stored = view.segment(manifest.content_of(number), number)
                assert stored is not None
                chunks = values.decode_segment(stored[1])
                assert len(chunks) <= CHUNKS_PER_SEGMENT
                count += len(chunks)
        return count

    def _cost(self, change: Callable[[], object]) -> Cost:
        store = self._drive.store
        first = store.last.seq + 1
        before = self._places()
        self._drive.runtime.run(change())  # type: ignore[arg-type]
        records = store.read_log(first, 1 << 30)
        return Cost(len(records), sum(map(len, records)), len(self._places() - before))

    def _places(self) -> set[tuple[int, str]]:
        manifest = self.manifest
        return {(number, manifest.content_of(number)) for number in range(manifest.segments)}


def _caller() -> Caller:
    return Caller(request_id=secrets.token_hex(12))
