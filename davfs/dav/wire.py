"""The two ends of a client's socket as cheroot wants them: large blocks, few copies, no thread held without need.

cheroot's own (``cheroot.makefile``) are pure Python buffers that copy every block several times. Knows no HTTP beyond
the chunked coding of bodies (RFC 9112, section 7.1), which it reads in linear time and bounded memory.
"""

from __future__ import annotations

import io
import select
import socket
from typing import Any

from davfs.core.errors import IncompleteBody, InvalidInput

LINE = 16 * 1024  # bytes that a read for a line asks for
LARGE = 1024 * 1024  # bytes that one read of a body gives at most
TLS_BLOCK = 256 * 1024  # bytes that a read over TLS gathers from records of 16 KiB
COALESCE = 64 * 1024  # small chunks are gathered up to this many bytes
MAX_CHUNK_LINE = 1024
WANTS_MORE = (2, 3)  # errno of ssl.SSLWantReadError and ssl.SSLWantWriteError
MAX_TRAILERS = 16 * 1024


class SocketReader:
    """The reading end: lines for the head, large blocks for bodies. ``bytes_read`` counts for cheroot's statistics."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._buffer = b""
        self._start = 0
        self._tls = hasattr(sock, "pending")
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        self.bytes_read = 0
        self.closed = False
        self.waits = False  # for the client
        self._looked = 0  # bytes of the buffer in which no head ends

    def gather(self, most: int) -> bool:
        """Take what has come of a head, without waiting; whether it is whole, longer than ``most`` or will never be whole."""
        timeout = self._socket.gettimeout()
        try:
            while True:
                if self.buffered() >= most or self._has_head():
                    return True
                self._socket.settimeout(0)
                try:
                    more = self._receive(LINE)
                except OSError as error:
                    # After any other error whoever reads it finds out.
                    return not (isinstance(error, BlockingIOError) or error.errno in WANTS_MORE)
                if not more:
                    return True
                self._buffer = self._buffer[self._start :] + more
                self._looked -= self._start
                self._start = 0
        finally:
            self._socket.settimeout(timeout)

    def _has_head(self) -> bool:
        """Whether an empty line is here that something stands before."""
        at = max(self._start, self._looked - 3)
        if self._buffer.find(b"\n\r\n", at) >= 0 or self._buffer.find(b"\n\n", at) >= 0:
            return True
        self._looked = len(self._buffer)
        return False

    def head(self, most: int) -> bytes:
        """The head that is here, with its empty line; b"" if none is, whole, within ``most`` bytes, with CRLF. It stays."""
        end = self._buffer.find(b"\r\n\r\n", self._start, self._start + most)
        return self._buffer[self._start : end + 4] if end >= 0 else b""

    def skip(self, size: int) -> None:
        """Take so many bytes that are here."""
        self._take(size)

    def has_data(self) -> bool:
        """Whether bytes are here that the socket's descriptor would not announce."""
        return self._start < len(self._buffer) or (self._tls and self._socket.pending() > 0)

    def wait(self, seconds: float) -> bool:
        """Whether bytes (or the end) arrive within so many seconds."""
        return self.has_data() or bool(self._poll.poll(seconds * 1000))

    def readline(self, size: int | None = None) -> bytes:
        """A line with its LF; less at the end of the stream or after ``size`` bytes."""
        limit = LARGE if size is None or size < 0 else size
        searched = 0
        while True:
            start = self._start
            found = self._buffer.find(b"\n", start + searched, start + limit)
            if found >= 0:
                return self._take(found + 1 - start)
            searched = self.buffered()
            if searched >= limit:
                return self._take(limit)
            more = self._receive(LINE)
            if not more:
                return self._take(searched)
            self._buffer = self._buffer[start:] + more
            self._start = 0

    def read(self, size: int = LARGE) -> bytes:
        """Up to ``size`` bytes, what one or a few system calls give; b"" at the end of the stream."""
        held = self.buffered()
        if held:
            return self._take(min(size, held))
        return self._gather(min(size, TLS_BLOCK)) if self._tls else self._receive(min(size, LARGE))

    def _gather(self, size: int) -> bytes:
        """What has come over TLS, up to ``size`` bytes: one record each call, into one piece of memory."""
        whole = io.BytesIO(bytes(size))
        with whole.getbuffer() as view:
            count = 0
            while count < size:
                self.waits = True
                got = self._socket.recv_into(view[count:])
                self.waits = False
                count += got
                if not got or not self.wait(0):
                    break
        self.bytes_read += count
        return whole.getvalue() if count == size else whole.getvalue()[:count]

    def buffered(self) -> int:
        """How many bytes a read would give without a system call."""
        return len(self._buffer) - self._start

    def close(self) -> None:
        """Forget the buffer; the connection closes the socket."""
        self._buffer = b""
        self.closed = True

    def _take(self, size: int) -> bytes:
        data = self._buffer[self._start : self._start + size]
        self._start += size
        self._looked = 0
        if self._start >= len(self._buffer):
            self._buffer, self._start = b"", 0
        return data

    def _receive(self, size: int) -> bytes:
        self.waits = True
        data: bytes = self._socket.recv(size)
        self.waits = False  # after an error nothing is read any more
        self.bytes_read += len(data)
        return data


class SocketWriter:
    """The writing end. Small heads are held back until the first bytes of the body, to travel with them."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._held = b""
        self.bytes_written = 0
        self.closed = False
        self.waits = False  # for the client

    def hold(self, data: bytes) -> None:
        """Send this together with what is written next, or at the next flush."""
        self._held += data

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Send everything; each step may take as long as the socket's timeout."""
        if self._held:
            held, self._held = self._held, b""
            if len(data) <= COALESCE:
                self._send(held + bytes(data))
                return len(data)
            self._send(held)
        self._send(data)
        return len(data)

    def flush(self) -> None:
        """Send what is held back."""
        if self._held:
            held, self._held = self._held, b""
            self._send(held)

    def close(self) -> None:
        """Drop what is held back; the connection closes the socket."""
        self._held = b""
        self.closed = True

    def _send(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                self.waits = True
                count = self._socket.send(view[sent:])
                self.waits = False
                sent += count
                self.bytes_written += count


def make_file(sock: Any, mode: str = "rb", bufsize: int = -1) -> SocketReader | SocketWriter:
    """cheroot's seam: the end of the socket for ``mode``."""
    return SocketReader(sock) if "r" in mode else SocketWriter(sock)


class KnownLengthBody:
    """A body of Content-Length bytes. ``remaining``: how many the client has still to send."""

    def __init__(self, reader: SocketReader, length: int) -> None:
        self._reader = reader
        self.remaining = length

    @property
    def finished(self) -> bool:
        return self.remaining == 0

    def read(self, size: int = LARGE) -> bytes:
        """Up to ``size`` bytes; b"" at the end, :class:`IncompleteBody` when the client goes away before it."""
        if self.remaining == 0:
            return b""
        data = self._reader.read(min(size, self.remaining))
        if not data:
            raise IncompleteBody(f"the client went away {self.remaining} bytes before the end of the body")
        self.remaining -= len(data)
        return data


class ChunkedBody:
    """A body in the chunked coding: however long or short its chunks are, time is linear and memory bounded."""

    def __init__(self, reader: SocketReader) -> None:
        self._reader = reader
        self._left = 0  # bytes of the current chunk that are still to be read
        self._inside = False  # a chunk's closing CRLF is still to be read
        self.finished = False

    def read(self, size: int = LARGE) -> bytes:
        """Up to ``size`` bytes; b"" after the last chunk; InvalidInput for anything malformed."""
        if self.finished:
            return b""
        first = self._read_some(size)
        if not first or len(first) >= min(size, COALESCE):
            return first
        parts, count = [first], len(first)
        wanted = min(size, COALESCE)
        while count < wanted and self._reader.buffered():
            part = self._read_some(wanted - count)
            if not part:
                break
            parts.append(part)
            count += len(part)
        return b"".join(parts)

    def _read_some(self, size: int) -> bytes:
        if self._left == 0:
            self._next_chunk()
            if self.finished:
                return b""
        data = self._reader.read(min(size, self._left))
        if not data:
            raise IncompleteBody("the client went away before the last chunk of the body")
        self._left -= len(data)
        return data

    def _next_chunk(self) -> None:
        if self._inside:
            if self._line() != b"":
                raise InvalidInput("a chunk of the body is longer than it said")
            self._inside = False
        digits = self._line().partition(b";")[0].strip()
        if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise InvalidInput("a chunk of the body has no hexadecimal size")
        self._left = int(digits, 16)
        self._inside = True
        if self._left == 0:
            self._trailers()
            self.finished = True

    def _trailers(self) -> None:
        size = 0
        while line := self._line():
            size += len(line)
            if size > MAX_TRAILERS:
                raise InvalidInput("the trailers of the body are too long")

    def _line(self) -> bytes:
        line = self._reader.readline(MAX_CHUNK_LINE)
        if not line:
            raise IncompleteBody("the client went away before the last chunk of the body")
        if not line.endswith(b"\n"):
            if len(line) < MAX_CHUNK_LINE:
                raise IncompleteBody("the client went away before the last chunk of the body")
            raise InvalidInput("the size line of a chunk is too long")
        return line.rstrip(b"\r\n")


def no_delay(sock: Any) -> None:
    """Send what is written at once, and notice peers that vanished."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
