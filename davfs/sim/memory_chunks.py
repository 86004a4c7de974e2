"""Chunks in memory, for the simulator: durable at once, so a crash loses none of them.

Promises what :class:`davfs.core.ports.ChunkStore` promises (tests/conformance runs one suite over this and the real one)
and has handles for faults. May import only core.
"""

from __future__ import annotations

from blake3 import blake3

from davfs.core.errors import ChunkMissing, CorruptData, NoSpace, StorePoisoned


class MemoryChunkStore:
    """``capacity``: bytes that fit, None for no limit."""

    def __init__(self, capacity: int | None = None) -> None:
        self._chunks: dict[tuple[str, str], bytes] = {}
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

    def get(self, volume: str, digest: str) -> bytes:
        """The bytes, verified; see the port for errors."""
        try:
            data = self._chunks[volume, digest]
        except KeyError:
            raise ChunkMissing(f"chunk {digest} is not here") from None
        if blake3(data).hexdigest() != digest:
            self.lose(volume, digest)
            raise CorruptData(f"the copy of chunk {digest} was damaged; it was set aside")
        return data

    def has(self, volume: str, digest: str) -> bool:
        """Whether there is one (not verified)."""
        return (volume, digest) in self._chunks

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
