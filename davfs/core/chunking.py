"""Where bytes of a file lie: positions, chunk indexes, etags. Sizes and positions are bytes; ranges are half open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from blake3 import blake3

from davfs.core.model import ChunkRef

CHUNKS_PER_SEGMENT = 256


class Span(NamedTuple):
    """A part of one chunk: its number in the file, and the half-open range inside it."""

    number: int
    start: int
    stop: int


def digest_of(data: bytes | memoryview) -> str:
    """The hex BLAKE3 digest that a chunk is stored under."""
    return blake3(data).hexdigest()


def spans(start: int, stop: int, chunk_size: int) -> Iterator[Span]:
    """The chunks that [start, stop) of a file touches."""
    while start < stop:
        number, offset = divmod(start, chunk_size)
        end = min(chunk_size, offset + stop - start)
        yield Span(number, offset, end)
        start += end - offset


def even_chunk_size(length: int, largest: int, smallest: int) -> int:
    """A chunk size from ``smallest`` to ``largest`` that divides ``length`` without a rest, else ``largest``.

    Parts of equal length that are cut like this are the chunks of the whole when they are put one behind the other.
    """
    fewest = max(1, -(-length // largest))
    for count in range(fewest, 4 * fewest + 1):
        if length and length % count == 0 and length // count >= smallest:
            return length // count
    return largest


def etag_of(chunk_size: int, chunks: Iterable[ChunkRef]) -> str:
    """An opaque strong etag that changes exactly when the content does: the digest of the chunk list.

    ``chunk_size`` goes in because the same bytes cut otherwise give other digests; a file keeps its own chunk size.
    """
    hasher = blake3(str(chunk_size).encode())
    for chunk in chunks:
        hasher.update(bytes.fromhex(chunk.digest) + chunk.size.to_bytes(8, "big"))
    return hasher.hexdigest(16)


def etag_after(etag: str, size: int, segments: Iterable[tuple[int, Sequence[ChunkRef]]]) -> str:
    """The etag of a large file after a write at a position, from the one before it and the segments that it wrote anew:
    reading all the others for a digest of the whole list would cost more than the write."""
    hasher = blake3(f"{etag} {size}".encode())
    for number, chunks in segments:
        hasher.update(b"%d " % number)
        for chunk in chunks:
            hasher.update(bytes.fromhex(chunk.digest) + chunk.size.to_bytes(8, "big"))
    return hasher.hexdigest(16)


def segmented(chunks: Sequence[ChunkRef]) -> list[Sequence[ChunkRef]]:
    """The chunk list cut into segments; empty if it is short enough to stand in the manifest itself."""
    if len(chunks) <= CHUNKS_PER_SEGMENT:
        return []
    return [chunks[at : at + CHUNKS_PER_SEGMENT] for at in range(0, len(chunks), CHUNKS_PER_SEGMENT)]
