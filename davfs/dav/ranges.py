"""Byte ranges of GET (RFC 9110, section 14): which bytes a Range header asks for, and the multipart answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

MAX_RANGES = 32  # more, or overlapping ones, get the whole file (RFC 9110, 14.2: a server may ignore Range)
_SPEC = re.compile(r"(\d{0,18})\s*-\s*(\d{0,18})")


class ByteRange(NamedTuple):
    """The bytes [start, stop)."""

    start: int
    stop: int


def parse_range(header: str, size: int) -> list[ByteRange] | None:
    """The satisfiable ranges in their order, clipped to ``size``; [] when none can be satisfied (416).

    None when the header is to be ignored: another unit, malformed, or not worth it.
    """
    unit, equals, specs = header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    ranges: list[ByteRange] = []
    count = 0
    for spec in specs.split(","):
        if not spec.strip():
            continue
        found = _SPEC.fullmatch(spec.strip())
        count += 1
        if not found or count > MAX_RANGES:
            return None
        first, last = found.groups()
        if first:
            start, stop = int(first), min(int(last) + 1 if last else size, size)
            if last and int(last) < int(first):
                return None
        elif last:
            start, stop = max(size - int(last), 0), size
        else:
            return None
        if start < stop:
            ranges.append(ByteRange(start, stop))
    if not count:
        return None
    return None if _overlapping(ranges) else ranges


def _overlapping(ranges: list[ByteRange]) -> bool:
    ordered = sorted(ranges)
    return any(after.start < before.stop for before, after in pairwise(ordered))


def content_range(one: ByteRange, size: int) -> str:
    """The value of Content-Range for a range of a file of ``size`` bytes."""
    return f"bytes {one.start}-{one.stop - 1}/{size}"


class Multipart:
    """A multipart/byteranges answer: its length is known before its first byte is read."""

    def __init__(self, ranges: list[ByteRange], size: int, content_type: str, boundary: str) -> None:
        self._ranges = ranges
        self._heads = [
            f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {content_range(one, size)}\r\n\r\n".encode()
            for one in ranges
        ]
        self._end = f"\r\n--{boundary}--\r\n".encode()
        self.content_type = f"multipart/byteranges; boundary={boundary}"

    @property
    def length(self) -> int:
        """Bytes of the whole body."""
        return sum(map(len, self._heads)) + sum(one.stop - one.start for one in self._ranges) + len(self._end)

    def blocks(self, read: Callable[[int, int], Iterable[bytes | memoryview]]) -> Iterator[bytes | memoryview]:
        """The body; ``read(start, stop)`` gives the file's bytes."""
        for head, one in zip(self._heads, self._ranges, strict=True):
            yield head
            yield from read(one.start, one.stop)
        yield self._end
