"""HTTP/1.1 message framing (RFC 9112) over one TLS socket: heads, exact bodies, chunked bodies, sends with limits.

Shared by both ends of the node-to-node protocol and by the forwarder. Bodies go straight from the socket into their
final memory, heads through a small fixed buffer. Knows no methods, no addresses, no threads.
"""

from __future__ import annotations

import contextlib
import io
import math
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence

HEAD_LIMIT = 64 * 1024  # bytes of a message head; also the size of the buffer
LINE_LIMIT = 4 * 1024  # bytes of a chunk-size line with its extensions, and of a trailer line
BLOCK = 256 * 1024  # bytes of a block when a body is streamed
WATCH_EVERY = 0.2  # seconds of waiting between two calls of ``Stream.watch``


class ProtocolError(Exception):
    """The peer sent bytes that are no HTTP/1.1 message of the kind expected here."""


class ConnectionEnded(ConnectionError):
    """The peer closed the connection before a message was complete. ``clean``: before its first byte."""

    def __init__(self, message: str, *, clean: bool = False) -> None:
        super().__init__(message)
        self.clean = clean


class Stream:
    """Buffered reads and bounded writes on a connected TLS socket. One reader and one writer at a time.

    ``deadline`` (``time.monotonic()`` seconds, or None) bounds what is done in all, ``patience`` (seconds) each wait
    for the peer (None: for ever); running over either raises ``TimeoutError``. ``watch`` is called five times a second
    while the peer says nothing, and ends the wait by raising.
    """

    def __init__(self, sock: ssl.SSLSocket, patience: float | None = 30.0) -> None:
        self.sock = sock
        self.patience = patience
        self.deadline: float | None = None
        self.watch: Callable[[], None] | None = None
        self.last_used = 0.0
        self.fit: Callable[[], bool] = lambda: True  # whether it may go on being used: both certificates are still good
        self._buffer = bytearray(HEAD_LIMIT)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._hears = select.poll()
        self._hears.register(sock.fileno(), select.POLLIN)

    # --- state ------------------------------------------------------------------------------------------------------

    def has_data(self) -> bool:
        """Whether bytes are here that no system call has to bring."""
        return self._start < self._end or self.sock.pending() > 0

    def readable(self, timeout: float = 0.0) -> bool:
        """Whether a read would give something, the end of the stream included, within ``timeout`` seconds."""
        if self.has_data():
            return True
        return bool(self._hears.poll(timeout * 1000))

    def cut(self) -> None:
        """End the connection from another thread; whoever reads or writes it then finds out. Never raises."""
        with contextlib.suppress(OSError, ValueError):
            # Not SSLSocket.shutdown: that would take the TLS object away from under the thread that uses it.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close without a word. Never raises."""
        with contextlib.suppress(OSError):
            self.sock.close()

    def _arm(self) -> None:
        self.sock.settimeout(self._limit())

    def _limit(self) -> float | None:
        limit = self.patience
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the time for this exchange is over")
            limit = left if limit is None else min(limit, left)
        return limit

    # --- reading ----------------------------------------------------------------------------------------------------

    def _fill(self) -> int:
        """More bytes into the buffer, at most what fits; 0 at the end of the stream."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == HEAD_LIMIT:
            rest = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, len(rest)
            self._view[: self._end] = rest
        count = self._receive(self._view[self._end :])
        self._end += count
        return count

    def _read_until(self, mark: bytes, limit: int) -> bytes:
        """Bytes up to and without ``mark``, which is consumed; :class:`ProtocolError` when it is beyond ``limit``."""
        searched = 0
        while True:
            at = self._buffer.find(mark, self._start + searched, self._end)
            if at >= 0 and at - self._start <= limit:
                found = bytes(self._view[self._start : at])
                self._start = at + len(mark)
                return found
            held = self._end - self._start
            if at >= 0 or held >= min(limit + len(mark), HEAD_LIMIT):
                raise ProtocolError("a message head or line is too long")
            searched = max(0, held - len(mark) + 1)
            if not self._fill():
                raise ConnectionEnded("the connection ended", clean=held == 0)

    def read_head(self) -> bytes:
        """The next message head, without its empty last line."""
        return self._read_until(b"\r\n\r\n", HEAD_LIMIT - 4)

    def read_line(self) -> bytes:
        """The next line, without CRLF."""
        return self._read_until(b"\r\n", LINE_LIMIT)

    def read_into(self, target: memoryview) -> int:
        """Some bytes into ``target`` (not empty): how many; 0 at the end of the stream."""
        held = self._end - self._start
        if held:
            count = min(held, len(target))
            target[:count] = self._view[self._start : self._start + count]
            self._start += count
            return count
        return self._receive(target)

    def _receive(self, target: memoryview) -> int:
        limit = self._limit()
        if self.watch is None:
            self.sock.settimeout(limit)
            return self.sock.recv_into(target)
        ends = math.inf if limit is None else time.monotonic() + limit
        while True:
            self.sock.settimeout(min(WATCH_EVERY, max(ends - time.monotonic(), 0.001)))
            try:
                return self.sock.recv_into(target)
            except TimeoutError:
                if time.monotonic() >= ends:
                    raise
            self.watch()

    def read_exact(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        # BytesIO hands its own memory out as bytes: 4 MiB arrive without being copied once more.
        whole = io.BytesIO(bytes(size))
        with whole.getbuffer() as view:
            done = 0
            while done < size:
                count = self.read_into(view[done:])
                if not count:
                    raise ConnectionEnded(f"the connection ended after {done} of {size} bytes")
                done += count
        return whole.getvalue()

    # --- writing ----------------------------------------------------------------------------------------------------

    def send(self, *parts: bytes | bytearray | memoryview) -> None:
        """Send all parts; small neighbours travel in one TLS record."""
        for part in _joined(parts):
            with memoryview(part) as whole, whole.cast("B") as view:
                done = 0
                while done < len(view):
                    self._arm()
                    done += self.sock.send(view[done:])

    def send_unless_answered(self, *parts: bytes | memoryview) -> bool:
        """Send all parts, but stop and give False as soon as the peer says something.

        Then the connection is good for reading that answer and for nothing else.
        """
        if self.readable():
            return False
        self.sock.settimeout(0)
        for part in _joined(parts):
            with memoryview(part) as whole, whole.cast("B") as view:
                done = 0
                while done < len(view):
                    try:
                        done += self.sock.send(view[done:])
                    except ssl.SSLWantWriteError:
                        if not self._wait_to_send():
                            return False
        return True

    def _wait_to_send(self) -> bool:
        """Wait until the peer takes more (True) or says something (False)."""
        poller = select.poll()
        poller.register(self.sock.fileno(), select.POLLIN | select.POLLOUT)
        ends = math.inf if self.patience is None else time.monotonic() + self.patience
        while not (events := poller.poll(min(WATCH_EVERY, max(ends - time.monotonic(), 0.0)) * 1000)):
            if time.monotonic() >= ends:
                raise TimeoutError("the peer takes no more data")
            if self.watch is not None:
                self.watch()
        return not events[0][1] & select.POLLIN


class ChunkedReader:
    """A chunked body (RFC 9112, section 7.1), read as one stream of bytes. Linear whatever the size of its chunks."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = 0
        self._first = True
        self.finished = False

    def read_into(self, target: memoryview) -> int:
        """Some bytes into ``target`` (not empty): how many; 0 when the body is complete."""
        if self.finished:
            return 0
        if not self._left and not self._next_chunk():
            return 0
        count = self._stream.read_into(target[: self._left])
        if not count:
            raise ConnectionEnded("the connection ended inside a chunk")
        self._left -= count
        return count

    def read_exact(self, size: int) -> bytes | None:
        """Exactly ``size`` bytes; None when the body ends just before them."""
        whole = io.BytesIO(bytes(size))
        with whole.getbuffer() as view:
            done = 0
            while done < size:
                count = self.read_into(view[done:])
                if not count:
                    if done:
                        raise ConnectionEnded("the body ended half-way")
                    return None
                done += count
        return whole.getvalue()

    def _next_chunk(self) -> bool:
        """Read the size of the next chunk, or the trailers behind the last one: False."""
        if not self._first and self._stream.read_line():
            raise ProtocolError("a chunk is longer than its size says")
        self._first = False
        size = self._stream.read_line().partition(b";")[0].strip()
        if not size or len(size) > 15 or size.strip(b"0123456789abcdefABCDEF"):
            raise ProtocolError("a chunk size is no hexadecimal number")
        self._left = int(size, 16)
        if not self._left:
            for _ in range(100):  # trailers are read and dropped
                if not self._stream.read_line():
                    self.finished = True
                    return False
            raise ProtocolError("too many trailers")
        return True


def _joined(parts: Sequence[bytes | bytearray | memoryview]) -> list[bytes | bytearray | memoryview]:
    """Small parts joined: a record of its own would cost them a system call and a wake-up each."""
    if sum(len(part) for part in parts) <= 16 * 1024:
        return [b"".join(parts)]
    return [part for part in parts if len(part)]


def chunk_size_line(size: int) -> bytes:
    """What stands before the data of a chunk; CRLF follows the data."""
    return b"%x\r\n" % size


# --- heads ------------------------------------------------------------------------------------------------------------


def parse_request_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """(method, target, fields): field names in lower case; a name that comes twice is an error."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or parts[2] != "HTTP/1.1" or not parts[0].isalpha() or not parts[1].startswith("/"):
        raise ProtocolError("that is no HTTP/1.1 request line")
    fields: dict[str, str] = {}
    for name, value in _fields(lines[1:]):
        if name.lower() in fields:
            raise ProtocolError(f"the field {name} comes twice")
        fields[name.lower()] = value
    return parts[0], parts[1], fields


def parse_response_head(head: bytes) -> tuple[int, str, list[tuple[str, str]]]:
    """(status, reason, fields in their order)."""
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status, _, reason = rest.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or len(status) != 3 or not status.isdecimal():
        raise ProtocolError("that is no HTTP status line")
    return int(status), reason, _fields(lines[1:])


def content_length(value: str | None) -> int | None:
    """The number in a Content-Length field, None without one."""
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal()) or len(value) > 18:
        raise ProtocolError("Content-Length is no number")
    return int(value)


def _fields(lines: Sequence[str]) -> list[tuple[str, str]]:
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise ProtocolError("a field line has no name")
        fields.append((name, value.strip(" \t")))
    return fields
