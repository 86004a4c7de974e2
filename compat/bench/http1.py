"""One keep-alive HTTP/1.1 connection with little overhead: the client that every server gets.

Speaks just enough of RFC 9112 for WebDAV servers: Content-Length, chunked and read-to-close
bodies. It knows nothing of what is measured. Standard library only.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

_HEAD_LIMIT = 64 * 1024
_BLOCK = 1024 * 1024

Sink = Callable[[memoryview], None]
"""Is given each piece of a reply's body; the memory is reused after the call."""


class TransportError(Exception):
    """The connection broke or the server's answer is not HTTP."""


@dataclass(frozen=True)
class Reply:
    """A whole answer: `size` bytes of body were received, `body` is b"" when a sink took them."""

    status: int
    headers: dict[str, str]
    body: bytes
    size: int


class Connection:
    """A connection to one server, opened when needed and kept open while the server allows.

    `opened` counts how often it had to be opened: a server that closes after an answer makes
    the next request pay for a new connection, as it would any client. Not for several threads.
    """

    def __init__(self, url: str, timeout: float = 120.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not an http:// address")
        self.host = parts.netloc
        self._address = (parts.hostname, parts.port or 80)
        self._timeout = timeout
        self._sock: socket.socket | None = None
        self._block = bytearray(_BLOCK)
        self._rest = b""
        self.opened = 0

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the next request opens it again."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._rest = b""

    def request(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | memoryview = b"",
        sink: Sink | None = None,
    ) -> Reply:
        """Sends one request and reads its whole answer; `path` is already percent-encoded.

        A small body goes out in one write with the head. Raises TransportError (and closes)
        when the connection breaks; nothing is sent twice.
        """
        head = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", "User-Agent: davfs-bench"]
        head += [f"{name}: {value}" for name, value in headers]
        if body or method in ("PUT", "PROPFIND"):
            head.append(f"Content-Length: {len(body)}")
        start = ("\r\n".join(head) + "\r\n\r\n").encode("ascii")
        try:
            sock = self._connected()
            if len(body) <= 16 * 1024:
                sock.sendall(start + bytes(body))
            else:
                sock.sendall(start)
                sock.sendall(body)
            return self._answer(sock, method, sink)
        except (OSError, ValueError, TransportError) as error:
            self.close()
            raise TransportError(f"{method} {path}: {type(error).__name__}: {error}") from error

    def _connected(self) -> socket.socket:
        if self._sock is None:
            sock = socket.create_connection(self._address, self._timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock = sock
            self.opened += 1
        return self._sock

    def _answer(self, sock: socket.socket, method: str, sink: Sink | None) -> Reply:
        status, headers = self._head(sock)
        while 100 <= status < 200:
            status, headers = self._head(sock)
        kept: list[bytes] = []
        take: Sink = sink if sink is not None else (lambda piece: kept.append(bytes(piece)))
        closing = headers.get("connection", "").lower() == "close"
        if method == "HEAD" or status in (204, 304):
            size = 0
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            size = self._chunked(sock, take)
        elif "content-length" in headers:
            size = int(headers["content-length"])
            self._exactly(sock, size, take)
        else:
            size = self._to_end(sock, take)
            closing = True
        if closing:
            self.close()
        return Reply(status, headers, b"".join(kept), size)

    def _head(self, sock: socket.socket) -> tuple[int, dict[str, str]]:
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            if len(self._rest) > _HEAD_LIMIT:
                raise TransportError("the answer's head is too long")
            self._rest += self._more(sock)
        lines = self._rest[:end].decode("latin-1").split("\r\n")
        self._rest = self._rest[end + 4 :]
        version, _, status = lines[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise TransportError(f"not an HTTP answer: {lines[0][:80]!r}")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if version == "HTTP/1.0" and headers.get("connection", "").lower() != "keep-alive":
            headers["connection"] = "close"
        return int(status[:3]), headers

    def _more(self, sock: socket.socket) -> bytes:
        piece = sock.recv(64 * 1024)
        if not piece:
            raise TransportError("the server closed the connection before its answer was complete")
        return piece

    def _exactly(self, sock: socket.socket, size: int, take: Sink) -> None:
        first = self._rest[:size]
        self._rest = self._rest[size:]
        if first:
            take(memoryview(first))
        left = size - len(first)
        view = memoryview(self._block)
        while left:
            count = sock.recv_into(view, min(left, _BLOCK))
            if not count:
                raise TransportError(f"the server closed with {left} bytes of the body missing")
            take(view[:count])
            left -= count

    def _line(self, sock: socket.socket) -> bytes:
        while (end := self._rest.find(b"\r\n")) < 0:
            if len(self._rest) > _HEAD_LIMIT:
                raise TransportError("a chunk's head is too long")
            self._rest += self._more(sock)
        line, self._rest = self._rest[:end], self._rest[end + 2 :]
        return line

    def _chunked(self, sock: socket.socket, take: Sink) -> int:
        total = 0
        while size := int(self._line(sock).split(b";")[0], 16):
            self._exactly(sock, size, take)
            if self._line(sock):
                raise TransportError("a chunk does not end where it said")
            total += size
        while self._line(sock):
            pass
        return total

    def _to_end(self, sock: socket.socket, take: Sink) -> int:
        total = len(self._rest)
        if self._rest:
            take(memoryview(self._rest))
            self._rest = b""
        view = memoryview(self._block)
        while count := sock.recv_into(view):
            take(view[:count])
            total += count
        return total
