"""All chunks of this node: those that are files, and the small ones that came with records, beside those records.

A small file costs one sync that way instead of three. Reads ask the files first: a repaired chunk is stored as a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from davfs.core.chunk_port import ChunkPage, ChunkStore
from davfs.core.errors import ChunkMissing
from davfs.core.ports import ReplicaStore

_SMALL = "small:"


class LocalChunks:
    """Port: ``core.chunk_port.ChunkStore``. ``replica_of``: the volume's replica store on this node, or None."""

    def __init__(self, files: ChunkStore, replica_of: Callable[[str], ReplicaStore | None]) -> None:
        self._files = files
        self._replica_of = replica_of

    def put(self, volume: str, digest: str, data: bytes | memoryview) -> None:
        self._files.put(volume, digest, data)

    def get(self, volume: str, digest: str) -> bytes:
        try:
            return self._files.get(volume, digest)
        except ChunkMissing:
            replica = self._replica_of(volume)
            data = replica.chunk(digest) if replica is not None else None
            if data is None:
                raise
            return data

    def has(self, volume: str, digest: str) -> bool:
        if self._files.has(volume, digest):
            return True
        replica = self._replica_of(volume)
        return replica is not None and replica.has_chunk(digest)

    def keep(self, volume: str, digest: str) -> int:
        try:
            return self._files.keep(volume, digest)
        except ChunkMissing:
            replica = self._replica_of(volume)
            size = replica.keep_chunk(digest) if replica is not None else None
            if size is None:
                raise
            return size

    def free_bytes(self) -> int:
        return self._files.free_bytes()

    def age_ns(self) -> int:
        return self._files.age_ns()

    def page(self, volume: str, after: str, limit: int, before: int) -> ChunkPage:
        """Files first, then the small ones: the place where the next page begins says which (``small:`` before it)."""
        replica = self._replica_of(volume)
        if not after.startswith(_SMALL):
            page = self._files.page(volume, after, limit, before)
            if page.after is not None or replica is None:
                return page
            return page._replace(after=_SMALL)
        if replica is None:
            return ChunkPage([], 0, 0, None)
        page = replica.chunk_page(after.removeprefix(_SMALL), limit, before)
        return page if page.after is None else page._replace(after=_SMALL + page.after)

    def remove(self, volume: str, digests: Sequence[str], before: int) -> tuple[int, int]:
        return self._both(
            volume, lambda files: files.remove(volume, digests, before), lambda db: db.remove_chunks(digests, before)
        )

    def sweep(self, volume: str, before: int) -> tuple[int, int]:
        return self._both(volume, lambda files: files.sweep(volume, before), lambda db: db.sweep_chunks(before))

    def _both(
        self,
        volume: str,
        of_files: Callable[[ChunkStore], tuple[int, int]],
        of_small: Callable[[ReplicaStore], tuple[int, int]],
    ) -> tuple[int, int]:
        count, size = of_files(self._files)
        replica = self._replica_of(volume)
        if replica is not None:
            more, bytes_ = of_small(replica)
            count, size = count + more, size + bytes_
        return count, size
