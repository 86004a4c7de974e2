"""The requests of a program's session to the nodes: each bears the volume's token, and chunks are kept for a while.

Chunks are immutable and named by their digest, so one that was read or written once need not be fetched again: many
small reads and writes in one place of a file cost one transfer. Knows no flows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

from davfs.client.link import Link
from davfs.cluster.lagging import Credentials
from davfs.core.chunking import digest_of

KEPT_BYTES = 32 << 20


class Bearer:
    """Port: ``cluster.threads.Remote``: every request for the volume carries its token (design, section 2, Assign 4)."""

    def __init__(self, link: Link) -> None:
        self.credentials: Credentials | None = None
        self._link = link
        self._kept = KeptChunks(KEPT_BYTES)

    def call(
        self, node: str, method: str, args: Mapping[str, Any], blob: bytes | memoryview = b"", *, timeout: float
    ) -> tuple[Any, bytes]:
        proof = self.credentials.wire() if self.credentials is not None else {}
        if method == "chunk.get" and (kept := self._kept.get(args["digest"])) is not None:
            return {}, kept
        value, answer = self._link.call(node, method, {**args, **proof}, blob, timeout=timeout)
        if method == "chunk.get":
            self._kept.put(args["digest"], answer)
        elif method == "chunk.put":
            self._kept.put(args["digest"], blob)
        return value, answer

    def begin(
        self, node: str, method: str, args: Mapping[str, Any], blob: bytes | memoryview = b"", timeout: float = 5.0
    ) -> None:
        """Never: ``call`` alone notes which nodes are silent."""

    def answered(self, exchanges: Collection[Any], timeout: float) -> list[Any]:
        """Nothing is ever begun."""
        return []

    def finish(self, exchange: Any) -> tuple[Any, bytes]:
        """Nothing is ever begun."""
        raise TypeError(f"{exchange!r} was not begun here")


class KeptChunks:
    """Chunks in memory, those that were wanted last, of so many bytes together. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._chunks: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, digest: str) -> bytes | None:
        """The chunk, if it is here."""
        with self._lock:
            data = self._chunks.get(digest)
            if data is not None:
                self._chunks.move_to_end(digest)
            return data

    def put(self, digest: str, data: bytes | memoryview) -> None:
        """Keep a chunk; one whose bytes are not those of its digest is not kept, so that another node is asked."""
        if self.get(digest) is not None or len(data) > self._limit or digest_of(data) != digest:
            return
        with self._lock:
            if digest not in self._chunks:
                self._chunks[digest] = bytes(data)
                self._size += len(data)
            while self._size > self._limit:
                self._size -= len(self._chunks.popitem(last=False)[1])
