"""Chunks in memory, for the simulator: durable at once, so a crash loses none of them.

Promises what :class:`davfs.core.chunk_port.ChunkStore` promises (tests/conformance runs one suite over this and the real one)
and has handles for faults. May import only core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from blake3 import blake3

from davfs.core.chunk_port import ChunkPage
from davfs.core.errors import ChunkMissing, CorruptData, NoSpace, StorePoisoned


class MemoryChunkStore:
    """``capacity``: bytes that fit, None for no limit. ``age_ns``: the clock that chunks age by."""

    def __init__(self, capacity: int | None = None, age_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._chunks: dict[tuple[str, str], bytes] = {}
        self._touched: dict[tuple[str, str], int] = {}
        self._aside: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.age_ns = age_ns
        self.removed: Callable[[str, str], None] = lambda volume, digest: None  # told when a chunk was set aside
        self._capacity = capacity
        self._used = 0
        self._poisoned = False

    def put(self, volume: str, digest: str, data: bytes | memoryview) -> None:
        """Store; see the port for errors."""
        if self._poisoned:
            raise StorePoisoned()
        if not len(data):
            raise ValueError("a chunk has at least one byte")
        if blake3(data).hexdigest() != digest:
            raise CorruptData(f"what came as chunk {digest} has another digest; nothing was stored")
        there = len(self._chunks.get((volume, digest), b""))
        if self._capacity is not None and self._used - there + len(data) > self._capacity:
            raise NoSpace()
        self._used += len(data) - there
        self._chunks[volume, digest] = bytes(data)
        self._touched[volume, digest] = self.age_ns()

    def get(self, volume: str, digest: str) -> bytes:
        """The bytes, verified; see the port for errors."""
        data = self._chunks.get((volume, digest))
        if data is None and (volume, digest) in self._aside:
            return self._aside[volume, digest][0]
        if data is None:
            raise ChunkMissing(f"chunk {digest} is not here")
        if blake3(data).hexdigest() != digest:
            self.lose(volume, digest)
            raise CorruptData(f"the copy of chunk {digest} was damaged; it was set aside")
        return data

    def has(self, volume: str, digest: str) -> bool:
        """Whether there is one (not verified)."""
        return (volume, digest) in self._chunks

    def keep(self, volume: str, digest: str) -> int:
        """The size, verified, and the grace begun anew."""
        data = self.get(volume, digest)
        self.put(volume, digest, data)
        return len(data)

    def page(self, volume: str, after: str, limit: int, before: int) -> ChunkPage:
        """The next chunks by digest, and which of them were last touched before ``before``."""
        names = sorted(digest for vol, digest in self._chunks if vol == volume and digest > after)
        shown = names[:limit]
        sizes = {digest: len(self._chunks[volume, digest]) for digest in shown}
        old = [(digest, sizes[digest]) for digest in shown if self._touched[volume, digest] < before]
        return ChunkPage(old, len(shown), sum(sizes.values()), shown[-1] if len(names) > limit else None)

    def remove(self, volume: str, digests: Sequence[str], before: int) -> tuple[int, int]:
        """Set aside those that were last touched before ``before``."""
        count = size = 0
        for digest in digests:
            if (volume, digest) in self._chunks and self._touched[volume, digest] < before:
                data = self._chunks[volume, digest]
                self._aside[volume, digest] = data, self.age_ns()
                self.lose(volume, digest)
                self._used += len(data)
                count, size = count + 1, size + len(data)
                self.removed(volume, digest)
        return count, size

    def sweep(self, volume: str, before: int) -> tuple[int, int]:
        """Forget what was set aside before ``before``."""
        gone = [key for key, (_, at) in self._aside.items() if key[0] == volume and at < before]
        sizes = [len(self._aside.pop(key)[0]) for key in gone]
        self._used -= sum(sizes)
        return len(gone), sum(sizes)

    def free_bytes(self) -> int:
        """What still fits; 1 TiB without a limit."""
        return 1 << 40 if self._capacity is None else max(0, self._capacity - self._used)

    def crash(self) -> None:
        """Lose what was not durable: nothing, since ``put`` returns only when it is."""

    def poison(self) -> None:
        """From now on every write fails, as after a failed sync."""
        self._poisoned = True

    def damage(self, volume: str, digest: str) -> None:
        """Flip a bit of a stored chunk."""
        data = self._chunks[volume, digest]
        self._chunks[volume, digest] = bytes([data[0] ^ 1]) + data[1:]

    def lose(self, volume: str, digest: str) -> None:
        """Remove a stored chunk."""
        self._used -= len(self._chunks.pop((volume, digest)))

    def list(self) -> list[tuple[str, str]]:
        """(volume, digest) of all, sorted."""
        return sorted(self._chunks)
