"""One client's connection and its requests: cheroot's classes with other rules for heads, bodies and the end.

``100 Continue`` is sent when the application first reads; after an early answer a little of the body is drained, else the
connection is closed (cheroot drains 600 MB in one read); answers without a length are chunked. Imports only cheroot.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from contextlib import nullcontext, suppress
from typing import Any

from cheroot.server import HTTPConnection, HTTPRequest

from davfs.core.errors import IncompleteBody
from davfs.dav.crowd import HEAD_LIMIT, SLOW, SLOW_AFTER
from davfs.dav.dates import http_date
from davfs.dav.head import FIELD_NAME, parse_plain
from davfs.dav.limits import Working
from davfs.dav.wire import (
    LARGE,
    WANTS_MORE,
    ChunkedBody,
    KnownLengthBody,
    SocketReader,
    SocketWriter,
    make_file,
    no_delay,
)

MAX_HEAD = 64 * 1024  # bytes of a request's line and fields
DRAIN = 256 * 1024  # bytes of an unread body that are read to keep a connection
DRAIN_TIME = 2.0  # seconds for it
PEEK_TIME = 0.1  # seconds that an answer waits for the rest of a chunked body, so as to say whether the connection ends
LINGER_TIME = 2.0  # seconds that a closed connection still takes bytes, so that the client can read its answer
LINGER_BYTES = 64 * LARGE
NEXT_REQUEST = 0.02  # seconds that a thread waits for the next request before it turns to other connections
HANDSHAKE_LIMIT = 10.0  # seconds from the acceptance of a connection to the end of its TLS handshake
_ONCE = frozenset((b"Content-Length", b"Host", b"Transfer-Encoding", b"Content-Range", b"Destination"))

log = logging.getLogger(__name__)

# cheroot's type stubs leave out what its subclasses need.
_RequestBase: Any = HTTPRequest
_ConnectionBase: Any = HTTPConnection


class ClientBody:
    """``wsgi.input``: the body of a request as its client sends it. ``broken``: nothing more can be read after it."""

    def __init__(self, connection: DavConnection, framing: KnownLengthBody | ChunkedBody, expects: bool) -> None:
        self._connection = connection
        self._framing = framing
        self.expects = expects
        self.broken = False
        self.working: Working | None = None

    @property
    def finished(self) -> bool:
        return self._framing.finished

    @property
    def remaining(self) -> int | None:
        """Bytes still to come, None if only the client knows."""
        return self._framing.remaining if isinstance(self._framing, KnownLengthBody) else None

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; IncompleteBody when the client goes away or stalls."""
        if self._framing.finished:
            return b""
        with self.working.waiting() if self.working else nullcontext():
            return self._read(size)

    def _read(self, size: int) -> bytes:
        try:
            if self.expects:
                self.expects = False
                self._connection.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return self._framing.read(size if size >= 0 else LARGE)
        except OSError as error:
            self.broken = True
            raise IncompleteBody("the client went away or stalled in the middle of the body") from error
        except Exception:
            self.broken = True
            raise

    def drain(self, limit: int, seconds: float) -> bool:
        """Read and drop up to ``limit`` bytes; whether that was all of it."""
        self.working = None
        ends = time.monotonic() + seconds
        while not self._framing.finished and not self.broken:
            if limit <= 0 or not self._connection.rfile.wait(max(0.0, ends - time.monotonic())):
                return False
            try:
                limit -= len(self.read(min(limit, LARGE)))
            except Exception:  # noqa: BLE001 - whatever it is, this body is not worth more effort
                return False
        return not self.broken


class DavRequest(_RequestBase):
    """A request and its answer on the wire."""

    def __init__(self, server: Any, conn: Any) -> None:
        # "Proxy mode" is how cheroot is told to take absolute request targets, as every server must (RFC 9112, 3.2.2).
        super().__init__(server, conn, proxy_mode=True)
        self.body: ClientBody | None = None
        self.lingers = False
        conn.last_request = self
        conn.begin()

    # --- the request ------------------------------------------------------------------------------------------------

    def parse_request(self) -> None:
        """The head, at once if it is whole and plain; else line by line, as cheroot does."""
        data = self.conn.rfile.head(MAX_HEAD)
        head = parse_plain(data) if data else None
        if head is None:
            super().parse_request()
            return
        self.conn.rfile.skip(len(data))
        self.started_request = True
        self.method, self.uri, self.path, self.qs, self.inheaders = head
        self.request_protocol, self.response_protocol = b"HTTP/1.1", "HTTP/1.1"
        self.ready = self._take_fields()

    def read_request_line(self) -> bool:
        """The first line; whether it is well-formed (it has been answered if not)."""
        try:
            if not super().read_request_line():
                return False
            if not self.uri.isascii() or any(byte < 33 or byte == 127 for byte in self.uri):
                raise ValueError
            return True
        except ValueError:  # cheroot expects none of an address such as //[
            self.simple_response("400 Bad Request", "Malformed Request-URI")
            return False

    def read_request_headers(self) -> bool:
        """Fields into ``inheaders``; whether the request is well-formed (it has been answered if not)."""
        try:
            self._read_fields()
        except ValueError as error:
            return self._malformed(error)
        return self._take_fields()

    def _malformed(self, error: ValueError) -> bool:
        self.close_connection = True
        self.simple_response("400 Bad Request", f"{error}\n")
        return False

    def _take_fields(self) -> bool:
        """What the fields say of body and connection; whether it makes sense (it has been answered if not)."""
        try:
            length = self._content_length()
        except ValueError as error:
            return self._malformed(error)
        persistent = self.inheaders.get(b"Connection", b"").lower()
        if self.response_protocol == "HTTP/1.1":
            self.close_connection = b"close" in persistent
        else:
            self.close_connection = b"keep-alive" not in persistent
        coding = self.inheaders.get(b"Transfer-Encoding", b"").strip().lower()
        if coding not in (b"", b"chunked"):
            self.close_connection = True
            self.simple_response("501 Not Implemented", "Only the chunked transfer coding is understood.\n")
            return False
        self.chunked_read = coding == b"chunked"
        framing = ChunkedBody(self.conn.rfile) if self.chunked_read else KnownLengthBody(self.conn.rfile, length)
        expects = self.inheaders.get(b"Expect", b"").lower() == b"100-continue" and self.response_protocol == "HTTP/1.1"
        self.body = ClientBody(self.conn, framing, expects)
        return True

    def _read_fields(self) -> None:
        fields = self.inheaders
        while (line := self.rfile.readline()) not in (b"\r\n", b"\n"):
            name, colon, value = line.partition(b":")
            if not colon or not line.endswith(b"\n") or not FIELD_NAME.fullmatch(name):
                raise ValueError("malformed header field")
            name, value = name.title(), value.strip(b" \t\r\n")
            if b"\r" in value or b"\0" in value:
                raise ValueError("malformed header field")
            if b"_" in name:
                continue  # in WSGI's environment it would pass for the field with hyphens
            if name in fields:
                if name in _ONCE:
                    raise ValueError(f"the header field {name.decode('latin-1')} comes twice")
                value = fields[name] + b", " + value
            fields[name] = value

    def _content_length(self) -> int:
        text = self.inheaders.get(b"Content-Length")
        if text is None:
            return 0
        if not text.isdigit() or len(text) > 18:
            raise ValueError("Content-Length is no number")
        if b"Transfer-Encoding" in self.inheaders:
            raise ValueError("Content-Length and Transfer-Encoding exclude each other")
        return int(text)

    def respond(self) -> None:
        """Let the application answer, then deal with what is left of the body."""
        self.server.gateway(self).respond()
        self.ensure_headers_sent()
        if self.chunked_write and self.method != b"HEAD":
            self.conn.wfile.write(b"0\r\n\r\n")
        self.conn.wfile.flush()
        body = self.body
        if body and not body.finished:
            if not self.close_connection and not body.drain(DRAIN, DRAIN_TIME):
                self.close_connection = True
            self.lingers = self.close_connection and not body.broken

    # --- the answer -------------------------------------------------------------------------------------------------

    def send_headers(self) -> None:
        """The status line and fields, held back until the first block of the body."""
        names = {name.lower(): value for name, value in self.outheaders}
        status = int(self.status[:3])
        if b"content-length" not in names and status >= 200 and status not in (204, 304) and self.method != b"HEAD":
            if self.response_protocol == "HTTP/1.1":
                self.chunked_write = True
                self.outheaders.append((b"Transfer-Encoding", b"chunked"))
            else:
                self.close_connection = True
        if names.get(b"connection", b"").lower() == b"close" or not self._keeps_body():
            self.close_connection = True
        if not self.close_connection:
            self.close_connection = not self.server.can_add_keepalive_connection
        if b"connection" not in names:
            if self.close_connection:
                self.outheaders.append((b"Connection", b"close"))
            elif self.response_protocol != "HTTP/1.1":
                self.outheaders.append((b"Connection", b"Keep-Alive"))
        if b"date" not in names:
            self.outheaders.append((b"Date", http_date(time.time_ns()).encode("ascii")))
        self.outheaders.append((b"Server", self.server.server_name.encode("ascii")))
        lines = [b"HTTP/1.1 " + self.status + b"\r\n"]
        lines.extend(name + b": " + value + b"\r\n" for name, value in self.outheaders)
        lines.append(b"\r\n")
        self.conn.wfile.hold(b"".join(lines))

    def _keeps_body(self) -> bool:
        """Whether the connection may be kept, as far as the rest of the request's body is concerned."""
        body = self.body
        if body is None or body.finished:
            return True
        if body.broken or body.expects:
            return False
        if body.remaining is None:  # endless perhaps; who is not told sends the next request into a closed connection
            return self._peek(body)
        return body.remaining <= DRAIN

    def _peek(self, body: ClientBody) -> bool:
        """Read and drop what has come of a body; whether that was all of it. A client that stops in a line delays nobody."""
        timeout = self.conn.socket.gettimeout()
        self.conn.socket.settimeout(PEEK_TIME)
        try:
            return body.drain(DRAIN, PEEK_TIME)
        finally:
            self.conn.socket.settimeout(timeout)

    def write(self, block: bytes | memoryview) -> None:
        """A block of the body, as a chunk when the answer is chunked."""
        out = self.conn.wfile
        if self.chunked_write:
            out.hold(b"%x\r\n" % len(block))
            out.write(block)
            out.hold(b"\r\n")
        else:
            out.write(block)


class DavConnection(_ConnectionBase):
    """A client's connection; ``peer`` is the name in its certificate when the listener asks for one."""

    RequestHandlerClass = DavRequest
    rfile: SocketReader
    wfile: SocketWriter

    def __init__(self, server: Any, sock: Any, makefile: Any = None) -> None:
        no_delay(sock)
        super().__init__(server, sock, make_file)
        self.announced = False  # the selector has seen it once
        self.peer = ""
        self.certificate: dict[str, Any] | None = None
        self._shaken = not hasattr(sock, "do_handshake")
        self._handshake_ends = time.monotonic() + HANDSHAKE_LIMIT
        self.last_request: DavRequest | None = None
        self.head_ends = math.inf  # when a head that has begun must be complete
        self._began: tuple[float, int] | None = None  # when the present request did, and the bytes that had passed then
        server.open.add(self)

    def gather(self) -> bool:
        """Read what is there of a head, without waiting. Whether a thread is to look: it is whole, or will never be."""
        if not self._shaken:
            return True
        ready = self.rfile.gather(MAX_HEAD)
        if ready:
            self.head_ends = math.inf
        elif self.head_ends == math.inf and self.rfile.buffered():
            self.head_ends = time.monotonic() + HEAD_LIMIT
        return ready

    def begin(self) -> None:
        """A request begins to be served."""
        self._began = time.monotonic(), self.rfile.bytes_read + self.wfile.bytes_written

    def slowness(self, now: float) -> float | None:
        """Bytes a second of a request that waits for its client, if they are too few; None for any other."""
        began = self._began
        if began is None or now - began[0] < SLOW_AFTER or not (self.rfile.waits or self.wfile.waits):
            return None
        rate = (self.rfile.bytes_read + self.wfile.bytes_written - began[1]) / (now - began[0])
        return rate if rate < SLOW else None

    def cut(self) -> None:
        """End the connection from another thread; the one that waits for the client finds out."""
        with suppress(OSError, ValueError):
            # Not SSLSocket.shutdown: that would take the TLS object away from under the thread that uses it.
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self.server.open.discard(self)
        super().close()

    def communicate(self) -> bool:
        """Serve what comes. True: keep the connection, call again when bytes arrive."""
        if not self._shaken and not self._shake_hands():
            return False
        if not self._shaken or not self.gather():
            return True
        while super().communicate():
            self._began = None
            if not self.server.ready:
                return False
            # The next request of a busy client usually follows at once: two changes of threads are saved.
            if not self.rfile.has_data() and (self.server.crowded or not self.rfile.wait(NEXT_REQUEST)):
                return True
            if not self.gather():
                return True
        self._linger()
        return False

    def _shake_hands(self) -> bool:
        """One step of the TLS handshake; whether the connection is to be kept."""
        timeout = self.socket.gettimeout()
        self.socket.settimeout(0)
        try:
            self.socket.do_handshake()
        except OSError as error:
            if error.errno in WANTS_MORE:
                return time.monotonic() < self._handshake_ends
            log.info("refused a connection from %s: %s", self.remote_addr, error)
            return False
        finally:
            self.socket.settimeout(timeout)
        if self.server.peer_name is not None:
            self.certificate = self.socket.getpeercert()
            self.peer = self.server.peer_name(self.certificate) or ""
            if not self.peer:
                return False
        self._shaken = True
        return True

    def _linger(self) -> None:
        """Let a client that is still sending read its answer before the connection is reset."""
        request, self.last_request = self.last_request, None
        if request is None or not request.lingers:
            return
        ends, taken = time.monotonic() + LINGER_TIME, 0
        try:
            self.socket.shutdown(socket.SHUT_WR)
            while taken < LINGER_BYTES and self.rfile.wait(max(0.0, ends - time.monotonic())):
                data = self.rfile.read(LARGE)
                taken += len(data)
                if not data:
                    return
        except OSError:
            return
