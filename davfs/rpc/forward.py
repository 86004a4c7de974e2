"""Forwarding a DAV request to the node that holds the volume, streaming both ways over mutual TLS.

The bodies pass in blocks, never whole. A large body is not touched before the other node said 100 Continue (RFC 9110,
10.1.1), so that a request can be sent elsewhere as long as possible. Knows HTTP's hop-by-hop rules, nothing of DAV.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from davfs.core.errors import DavfsError, IncompleteBody, OutcomeUnknown, Unavailable, Unreachable
from davfs.rpc import http1
from davfs.rpc.http1 import BLOCK, ChunkedReader, Stream
from davfs.rpc.identity import NodeIdentity
from davfs.rpc.pool import ConnectionPool, Resolve, describe

SMALL_BODY = 64 * 1024  # bytes of a body that is sent without waiting for 100 Continue
IDLE_LIMIT = 5.0  # seconds that an idle connection is kept; shorter than the other side's listener keeps it
PATIENCE = 60.0  # seconds that the other node may be silent
GRACE = 0.5  # seconds that a node which is no longer the right one has for an answer that may be on its way

Body: TypeAlias = Callable[[int], bytes]
Fields: TypeAlias = list[tuple[str, str]]

_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)  # RFC 9110, 7.6.1
_SAFE = frozenset(("GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH"))


class _BodyFailed(Exception):
    """The source of the body raised ``cause``: that says nothing about the other node."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass
class _Request:
    node: str
    method: str
    head: bytes
    body: Body | None
    length: int | None
    expects: bool  # 100 Continue before the body
    small: bytes | None = None  # a small body, once read: a second connection may need it again
    body_touched: bool = False
    complete: bool = False  # every byte of it has been handed over

    def failed(self, error: Exception) -> DavfsError:
        """What it means that the connection ended now."""
        why = describe(error)
        if self.body_touched or (self.complete and self.method not in _SAFE):
            return OutcomeUnknown(
                f"the connection to {self.node} ended before its answer ({why}); {self.method} may or may not "
                "have taken effect",
                node=self.node,
            )
        return Unreachable(f"{self.node} did not answer the forwarded request: {why}", node=self.node)


class _Watch:
    """Ends a wait for a node some moments after ``over()`` became true."""

    def __init__(self, node: str, over: Callable[[], bool]) -> None:
        self._node = node
        self._over = over
        self._since: float | None = None

    def __call__(self) -> None:
        if not self._over():
            self._since = None
            return
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= GRACE:
            raise TimeoutError(f"{self._node} is silent, and serves the volume no longer")


class Forwarder:
    """Sends DAV requests to other nodes. Thread-safe. ``resolve``: node -> (host, port) of its ``forward`` listener."""

    def __init__(self, tls: NodeIdentity, resolve: Resolve, patience: float = PATIENCE) -> None:
        self._pool = ConnectionPool(tls, resolve, IDLE_LIMIT)
        self._patience = patience

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def up(self, node: str) -> bool:
        """False for a moment after a connect to the node failed."""
        return self._pool.up(node)

    def open(
        self,
        node: str,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: Body | None = None,
        length: int | None = None,
        over: Callable[[], bool] = lambda: False,
    ) -> ForwardedResponse:
        """Send the request and give the answer's head; its body is read from the result.

        ``target``: path and query as the client sent them, percent-encoded. ``body(n)``: up to n bytes, ``b""`` at the
        end; ``length``: their number, None for a chunked body. Bodies above 64 KiB or of unknown length are read only
        after the node has said 100 Continue; a smaller one must be something that ``body`` can give at once. An answer
        that comes before or while the body is sent is given as it is (see ``ForwardedResponse.body_touched``).
        ``over()``: whether it has become pointless to wait for this node (it is paused or dead, and another took over);
        asked while it is silent, and then the exchange ends as if the connection had.

        :class:`Unreachable`: nothing was done, no byte of a large body was read: try elsewhere.
        :class:`OutcomeUnknown`: the request may have taken effect, or its body is gone. :class:`IncompleteBody`: the
        body ended early. What ``body`` raises comes through; the other node then sees the request break off.
        """
        expects = body is not None and (length is None or length > SMALL_BODY)
        head = _request_head(
            node,
            method,
            target,
            headers,
            length if body is not None or length == 0 else None,
            chunked=body is not None and length is None,
            expects=expects,
        )
        request = _Request(node, method, head, body, length, expects)
        fresh = False
        while True:
            stream, reused = self._pool.take(node, fresh=fresh)
            stream.deadline = None
            stream.patience = self._patience
            stream.watch = _Watch(node, over)
            ok = False
            try:
                response = self._exchange(stream, request)
                stream.watch = None  # an answer that has begun is one version, whoever holds the volume meanwhile
                ok = True
                return response
            except _BodyFailed as failure:
                raise failure.cause from None
            except (OSError, ValueError, http1.ProtocolError) as error:
                meaning = request.failed(error)
                # An idle connection that turned out to be closed; nothing has happened, so a new one may be tried.
                if not (reused and isinstance(meaning, Unreachable) and not isinstance(error, TimeoutError)):
                    raise meaning from error
                fresh = True
            finally:
                if not ok:
                    stream.close()

    def _exchange(self, stream: Stream, request: _Request) -> ForwardedResponse:
        if request.expects:
            stream.send(request.head)
            status, reason, fields = _read_final_or_continue(stream, continues=True)
            if status == 100:
                request.body_touched = True
                if not self._send_body(stream, request):
                    request.complete = False
                status, reason, fields = _read_answer(stream)
        else:
            if request.small is None:
                request.small = _small_body(request)
            stream.send(request.head, request.small)
            request.complete = True
            status, reason, fields = _read_answer(stream)
        return ForwardedResponse._begin(self._pool, stream, request, status, reason, fields)

    def _send_body(self, stream: Stream, request: _Request) -> bool:
        """Whether the body was sent whole; not if an answer came first or the peer stopped listening."""
        body, left = request.body, request.length
        assert body is not None  # noqa: S101  (expects implies it)
        while left is None or left > 0:
            block = _read(body, BLOCK if left is None else min(BLOCK, left))
            if not block and left is not None:
                raise IncompleteBody(f"the body ended {left} bytes early; nothing was changed")
            if left is not None and len(block) > left:
                block = block[:left]
            parts = [block] if left is not None else [http1.chunk_size_line(len(block)), block, b"\r\n"]
            try:
                if not stream.send_unless_answered(*parts):
                    return False
            except (ConnectionError, ValueError):
                return False  # it closed; what it said before may still be read
            if left is not None:
                left -= len(block)
            elif not block:
                break
        request.complete = True
        return True


@dataclass
class ForwardedResponse:
    """The other node's answer. Iterate it for the body (blocks of bytes), then :meth:`close` it, come what may.

    ``headers`` are those of the node without the hop-by-hop ones. ``body_touched``: whether the request's body was
    read; if not, the same request may be sent elsewhere.
    """

    status: int
    reason: str
    headers: Fields
    body_touched: bool
    _node: str
    _pool: ConnectionPool
    _stream: Stream
    _length: int | None  # bytes of the body that are still to come; None: until the end of chunks or of the connection
    _chunked: bool
    _reusable: bool
    _done: bool = field(default=False)

    @classmethod
    def _begin(
        cls, pool: ConnectionPool, stream: Stream, request: _Request, status: int, reason: str, fields: Fields
    ) -> ForwardedResponse:
        seen = {name.lower(): value for name, value in fields}
        codings = seen.get("transfer-encoding", "").lower()
        if codings not in ("", "chunked"):
            raise http1.ProtocolError(f"a transfer coding that nobody asked for: {codings}")
        length = (
            0
            if request.method == "HEAD" or status in (204, 304)
            else http1.content_length(None if codings else seen.get("content-length"))
        )
        named = {name.strip().lower() for name in seen.get("connection", "").split(",")}
        response = cls(
            status=status,
            reason=reason,
            headers=[(n, v) for n, v in fields if n.lower() not in _HOP_BY_HOP and n.lower() not in named],
            body_touched=request.body_touched,
            _node=request.node,
            _pool=pool,
            _stream=stream,
            _length=length,
            _chunked=bool(codings) and length is None,
            # After an early answer the rest of the request would be missing on this connection.
            _reusable="close" not in named and request.complete and (length is not None or bool(codings)),
        )
        if length == 0:
            response._finish()
        return response

    def __iter__(self) -> Iterator[bytes]:
        """Blocks of the body, 256 KiB but the last ones; :class:`Unavailable` when it breaks off."""
        try:
            if self._chunked:
                yield from self._chunks()
            elif not self._done:
                yield from self._plain()
        except (OSError, ValueError, http1.ProtocolError) as error:
            self.close()
            raise Unavailable(f"the answer of {self._node} broke off: {describe(error)}", node=self._node) from error

    def close(self) -> None:
        """Let go of the connection: back to the pool when the body was read to its end, else closed."""
        if not self._done:
            self._done = True
            self._stream.close()

    def _plain(self) -> Iterator[bytes]:
        while self._length is not None and self._length > 0:
            block = self._stream.read_exact(min(BLOCK, self._length))
            self._length -= len(block)
            if not self._length:
                self._finish()  # before the block is given out: the consumer may never come back
            yield block
        if self._length is None:
            room = memoryview(bytearray(BLOCK))
            while count := self._stream.read_into(room):
                yield bytes(room[:count])
            self._finish()

    def _chunks(self) -> Iterator[bytes]:
        body = ChunkedReader(self._stream)
        room = memoryview(bytearray(BLOCK))
        while not self._done:
            held = 0
            while held < BLOCK:
                count = body.read_into(room[held:])
                if not count:
                    self._finish()
                    break
                held += count
                if not self._stream.has_data():
                    break  # what is here goes on now: the sender may take its time
            if held:
                yield bytes(room[:held])

    def _finish(self) -> None:
        if not self._done:
            self._done = True
            if self._reusable:
                self._pool.give(self._node, self._stream)
            else:
                self._stream.close()


def _request_head(
    node: str,
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    length: int | None,
    *,
    chunked: bool,
    expects: bool,
) -> bytes:
    named = {name.strip().lower() for key, value in headers if key.lower() == "connection" for name in value.split(",")}
    dropped = _HOP_BY_HOP | named | {"content-length", "expect"}
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() not in dropped]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.insert(1, f"Host: {node}")
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif length is not None:
        lines.append(f"Content-Length: {length}")
    if expects:
        lines.append("Expect: 100-continue")
    if any("\r" in line or "\n" in line for line in lines) or " " in method or " " in target:
        raise ValueError("a line break or blank where none may stand")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def _read(body: Body, size: int) -> bytes:
    try:
        return body(size)
    except Exception as error:
        raise _BodyFailed(error) from error


def _small_body(request: _Request) -> bytes:
    parts, left = [], request.length if request.body is not None else 0
    while request.body is not None and left:
        block = _read(request.body, left)
        if not block:
            raise IncompleteBody(f"the body ended {left} bytes early; nothing was changed")
        parts.append(block[:left])
        left -= len(parts[-1])
    return b"".join(parts)


def _read_answer(stream: Stream) -> tuple[int, str, Fields]:
    return _read_final_or_continue(stream, continues=False)


def _read_final_or_continue(stream: Stream, *, continues: bool) -> tuple[int, str, Fields]:
    """The next final head, or 100 Continue if that is waited for; other interim ones (1xx) are passed over."""
    for _ in range(100):
        status, reason, fields = http1.parse_response_head(stream.read_head())
        if status >= 200 or (status == 100 and continues):
            return status, reason, fields
    raise http1.ProtocolError("interim answers without end")
