"""All chunks of this node: those that are files, and the small ones that came with records, beside those records.

A small file costs one sync that way instead of three. Reads ask the files first: a repaired chunk is stored as a file.
"""

from __future__ import annotations

from collections.abc import Callable

from davfs.core.errors import ChunkMissing
from davfs.core.ports import ChunkStore, ReplicaStore


class LocalChunks:
    """Port: ``core.ports.ChunkStore``. ``replica_of``: the volume's replica store on this node, or None."""

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

    def free_bytes(self) -> int:
        return self._files.free_bytes()
