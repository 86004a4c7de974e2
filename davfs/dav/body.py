"""The body of a request: counted, complete or an error, and read again from the start while it is small.

Knows neither sockets nor WSGI servers: it reads from whatever has ``read(n)``.
"""

from __future__ import annotations

from typing import Protocol

from davfs.core.errors import DavfsError, IncompleteBody

KEEP = 64 * 1024  # bytes of a body that are kept, so that it can be sent once more


class Source(Protocol):
    """Where a body comes from: ``wsgi.input``. Gives up to n bytes, b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


class BodyTooLarge(DavfsError):
    """The request's body is larger than this method takes."""

    code = "body-too-large"
    status = 413


class CodingNotTaken(DavfsError):
    """A body that has to be read comes in a content coding (RFC 9110, 8.4 and 15.5.16)."""

    code = "content-coding"
    status = 415


class RequestBody:
    """A body of ``length`` bytes, or of unknown length (None: chunked; the source knows its end).

    Reading past an early end raises :class:`IncompleteBody`. What was read is kept up to 64 KiB, so that a small
    body can be rewound and used again: by another node, or by this one after it took the volume over.
    """

    def __init__(self, source: Source, length: int | None) -> None:
        self.length = length
        self._source = source
        self._left = length
        self._kept: list[bytes] | None = []
        self._kept_size = 0
        self._replay: list[bytes] = []

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; b"" at the end of a complete body."""
        if self._replay:
            return self._from_replay(size)
        left = self._left
        if left is not None:
            if left == 0:
                return b""
            size = min(size, left)
        data = self._source.read(size)
        if left is not None:
            if not data:
                raise IncompleteBody(f"the body ended {left} bytes early; nothing was changed")
            self._left = left - len(data)
        elif not data:
            self._left = 0
        if self._kept is not None:
            self._keep(data)
        return data

    def read_all(self, limit: int) -> bytes:
        """The whole body; :class:`BodyTooLarge` beyond ``limit`` bytes."""
        if self.length is not None and self.length > limit:
            raise BodyTooLarge(f"a body of {limit} bytes at most is taken here")
        parts = []
        size = 0
        while data := self.read(limit + 1 - size):
            parts.append(data)
            size += len(data)
            if size > limit:
                raise BodyTooLarge(f"a body of {limit} bytes at most is taken here")
        return b"".join(parts)

    def rewind(self) -> bool:
        """Back to the start, if everything that was read has been kept."""
        if self._kept is None:
            return False
        self._replay = [part for part in reversed(self._kept) if part]
        return True

    @property
    def untouched(self) -> bool:
        """Whether nothing has been read from the source yet."""
        return self._kept is not None and not self._kept_size and self._left == self.length

    def _keep(self, data: bytes) -> None:
        self._kept_size += len(data)
        if self._kept is None or self._kept_size > KEEP:
            self._kept = None
        else:
            self._kept.append(data)

    def _from_replay(self, size: int) -> bytes:
        data = self._replay.pop()
        if len(data) > size:
            self._replay.append(data[size:])
            data = data[:size]
        return data
