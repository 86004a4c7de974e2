"""Chunks in memory, for the simulator, with what the disk below them may do: flip, tear, lose, fill up, fail, lose power.

Promises what :class:`davfs.core.chunk_port.ChunkStore` promises (tests/conformance runs one suite over this and the real one).
What the real one syncs before it answers (a chunk that is stored or kept) survives a power loss; its renames and unlinks
that it does not sync (set aside, swept, quarantined) are each undone by one, or not. May import only core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from blake3 import blake3

from davfs.core.chunk_port import ChunkPage
from davfs.core.errors import ChunkMissing, CorruptData, NoSpace, StorePoisoned

FLUSH_NS = 5 * 10**9
"""A file system writes what nobody syncs after so long by itself."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Loose:
    """How a chunk was before changes that were not synced, and when the first of them was made."""

    data: bytes | None
    touched: int
    aside: tuple[bytes, int] | None
    since: int


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
        self._loose: dict[Key, _Loose] = {}

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
        before = self._before((volume, digest))
        self._chunks[volume, digest] = bytes(data)
        self._touched[volume, digest] = self.age_ns()
        self._sync((volume, digest), before)

    def get(self, volume: str, digest: str) -> bytes:
        """The bytes, verified; see the port for errors."""
        aside = self._aside.get((volume, digest))
        data = self._chunks.get((volume, digest), None if aside is None else aside[0])
        if data is None:
            raise ChunkMissing(f"chunk {digest} is not here")
        if blake3(data).hexdigest() != digest:
            if (volume, digest) in self._chunks:
                self._loosen((volume, digest))
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
                self._loosen((volume, digest))
                self._aside[volume, digest] = data, self.age_ns()
                self.lose(volume, digest)
                self._used += len(data)
                count, size = count + 1, size + len(data)
                self.removed(volume, digest)
        return count, size

    def sweep(self, volume: str, before: int) -> tuple[int, int]:
        """Forget what was set aside before ``before``."""
        gone = [key for key, (_, at) in self._aside.items() if key[0] == volume and at < before]
        for key in gone:
            self._loosen(key)
        sizes = [len(self._aside.pop(key)[0]) for key in gone]
        self._used -= sum(sizes)
        return len(gone), sum(sizes)

    def free_bytes(self) -> int:
        """What still fits; 1 TiB without a limit."""
        return 1 << 40 if self._capacity is None else max(0, self._capacity - self._used)

    # --- what is synced ---------------------------------------------------------------------------------------------

    def _before(self, key: Key) -> _Loose:
        return _Loose(self._chunks.get(key), self._touched.get(key, 0), self._aside.get(key), self.age_ns())

    def _loosen(self, key: Key) -> None:
        """Note that a power loss may undo what is done to a chunk now."""
        self._loose = {old: loose for old, loose in self._loose.items() if self.age_ns() - loose.since < FLUSH_NS}
        self._loose.setdefault(key, self._before(key))

    def _sync(self, key: Key, before: _Loose) -> None:
        """Make a chunk durable: its data, its name and the folder that the name stands in."""
        self._loose.pop(key, None)

    def start_again(self) -> None:
        """What a process that opens this store finds."""
        self._poisoned = False

    def lose_power(self, random: Random) -> None:
        """Undo some of what was not synced."""
        for key, loose in sorted(self._loose.items(), key=lambda item: item[0]):
            if random.random() < 0.5:
                self._put_back(key, loose)
        self._loose.clear()
        self.start_again()

    def _put_back(self, key: Key, loose: _Loose) -> None:
        if key in self._chunks:
            self.lose(*key)
        if loose.data is not None:
            self._chunks[key], self._touched[key] = loose.data, loose.touched
            self._used += len(loose.data)
        if (aside := self._aside.pop(key, None)) is not None:
            self._used -= len(aside[0])
        if loose.aside is not None:
            self._aside[key] = loose.aside
            self._used += len(loose.aside[0])

    # --- faults -----------------------------------------------------------------------------------------------------

    def fill(self, full: bool) -> None:
        """Leave no room from now on, or as much as is wanted again."""
        self._capacity = self._used if full else None

    def poison(self) -> None:
        """From now on every write fails, as after a failed sync."""
        self._poisoned = True

    def damage(self, volume: str, digest: str) -> None:
        """Flip a bit of a stored chunk."""
        data = self._chunks[volume, digest]
        self._chunks[volume, digest] = bytes([data[0] ^ 1]) + data[1:]

    def cut(self, volume: str, digest: str, size: int) -> None:
        """Keep only the first ``size`` bytes of a stored chunk: a torn write."""
        data = self._chunks[volume, digest]
        self._chunks[volume, digest] = data[:size]
        self._used -= len(data) - len(data[:size])

    def lose(self, volume: str, digest: str) -> None:
        """Remove a stored chunk."""
        self._used -= len(self._chunks.pop((volume, digest)))

    def is_good(self, volume: str, digest: str) -> bool:
        """Whether there is one that is whole."""
        data = self._chunks.get((volume, digest))
        return data is not None and blake3(data).hexdigest() == digest

    def list(self) -> list[tuple[str, str]]:
        """(volume, digest) of all, sorted."""
        return sorted(self._chunks)
