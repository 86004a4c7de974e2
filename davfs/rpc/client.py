"""Calls to other nodes: ``RpcClient.call(node, method, args, blob)`` over pooled connections.

Its one promise about failure: :class:`Unreachable` means that the other node has not run the call and never will,
:class:`CallTimeout` that nobody knows. Nothing is sent twice but an idempotent call on a connection that had been idle.
"""

from __future__ import annotations

import select
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from davfs.core.errors import CallTimeout, DavfsError, Unreachable
from davfs.rpc import codec, http1
from davfs.rpc.identity import NodeIdentity
from davfs.rpc.pool import ConnectionPool, Resolve, describe, refused_by_tls

IDLE_LIMIT = 30.0  # seconds that an idle connection is kept; shorter than servers keep theirs
_MAX_ANSWER = 64 * 1024 * 1024  # bytes of an answer that are believed


class _Stale(Exception):
    """A connection that had been idle turned out to be closed; no byte of an answer came."""

    def __init__(self, cause: Exception, *, whole: bool) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.whole = whole  # whether the request had been sent whole: the node may have run it


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """A call that was sent whole and whose answer nobody has read yet."""

    node: str
    stream: http1.Stream
    head: bytes
    blob: bytes | memoryview


class RpcClient:
    """Calls methods of other nodes. Thread-safe. ``resolve``: node -> (host, port) of its node-to-node listener."""

    def __init__(self, tls: NodeIdentity, resolve: Resolve) -> None:
        self._pool = ConnectionPool(tls, resolve, IDLE_LIMIT)

    def up(self, node: str) -> bool:
        """False for a moment (0.2 s) after a connect to the node failed; calls then fail at once."""
        return self._pool.up(node)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def call(
        self,
        node: str,
        method: str,
        args: Mapping[str, Any],
        blob: bytes | memoryview = b"",
        timeout: float = 5.0,
        *,
        idempotent: bool = True,
    ) -> tuple[Any, bytes]:
        """(value, blob) that the node's handler gave, within ``timeout`` seconds.

        ``args``: str, int, float, bytes, list, dict, bool, None inside; tuples arrive as lists, and so does the value.
        Raises the :class:`DavfsError` of the other node, :class:`Unreachable` (not run), :class:`CallTimeout` (unknown),
        ``ValueError`` for arguments that cannot be sent.
        """
        head = _head(node, method, args, len(blob))
        deadline = time.monotonic() + timeout
        try:
            return self._exchange(node, head, blob, deadline, fresh=False)
        except _Stale as stale:
            if stale.whole and not idempotent:
                raise _lost(node, stale.cause) from stale
        return self._exchange(node, head, blob, deadline, fresh=True)

    def begin(
        self, node: str, method: str, args: Mapping[str, Any], blob: bytes | memoryview = b"", timeout: float = 5.0
    ) -> Exchange | None:
        """Send an idempotent call without waiting for its answer; None, and nothing was run, if no idle connection takes
        it at once. The caller then owes ``finish``."""
        stream = self._pool.take_idle(node)
        if stream is None:
            return None
        head = _head(node, method, args, len(blob))
        stream.deadline = time.monotonic() + timeout
        try:
            stream.send(head, blob)
        except (OSError, ValueError):
            stream.close()  # without its last byte a request is never run
            return None
        return Exchange(node, stream, head, blob)

    def answered(self, exchanges: Collection[Exchange], timeout: float) -> list[Exchange]:
        """Those of some begun calls whose answers have begun to come, waiting up to ``timeout`` seconds for the first."""
        by_socket = {exchange.stream.sock.fileno(): exchange for exchange in exchanges}
        poller = select.poll()
        for number in by_socket:
            poller.register(number, select.POLLIN)
        return [by_socket[number] for number, _ in poller.poll(max(0.0, timeout) * 1000)]

    def finish(self, exchange: Exchange) -> tuple[Any, bytes]:
        """The answer of a begun call, as ``call`` gives it."""
        try:
            return self._answer(exchange.node, exchange.stream, reused=True)
        except _Stale:
            deadline = exchange.stream.deadline or 0.0
            return self._exchange(exchange.node, exchange.head, exchange.blob, deadline, fresh=True)

    def _exchange(
        self, node: str, head: bytes, blob: bytes | memoryview, deadline: float, *, fresh: bool
    ) -> tuple[Any, bytes]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unreachable(f"no time was left to call {node}", node=node)
        stream, reused = self._pool.take(node, left, fresh=fresh)
        stream.deadline = deadline
        try:
            stream.send(head, blob)
        except (OSError, ValueError) as error:
            stream.close()
            # Without its last byte a request is never run.
            if reused and not isinstance(error, TimeoutError):
                raise _Stale(error, whole=False) from error
            raise Unreachable(f"{node} did not take the request: {describe(error)}", node=node) from error
        return self._answer(node, stream, reused=reused)

    def _answer(self, node: str, stream: http1.Stream, *, reused: bool) -> tuple[Any, bytes]:
        keep = False
        try:
            status, header, body, keep = self._receive(node, stream, reused=reused)
        finally:
            if keep:
                self._pool.give(node, stream)
            else:
                stream.close()
        if status != 200:
            raise codec.unpack_error(header, node)
        return header, body

    def _receive(self, node: str, stream: http1.Stream, *, reused: bool) -> tuple[int, Any, bytes, bool]:
        """(status, header, blob, whether the connection may be used again)."""
        try:
            received = stream.read_head()
        except (OSError, ValueError, http1.ProtocolError) as error:
            if reused and not isinstance(error, (TimeoutError, http1.ProtocolError)):
                raise _Stale(error, whole=True) from error
            if refused_by_tls(error):
                raise Unreachable(f"{node} refused this node's certificate: {describe(error)}", node=node) from error
            raise _lost(node, error) from error
        try:
            status, _, lines = http1.parse_response_head(received)
            fields = {name.lower(): value for name, value in lines}
            size = http1.content_length(fields.get("content-length"))
            if size is None or not codec.PREFIX <= size <= _MAX_ANSWER:
                raise http1.ProtocolError("an answer without a believable Content-Length")
            header = codec.header_size(stream.read_exact(codec.PREFIX), size)
            value = codec.unpack_header(stream.read_exact(header))
            blob = stream.read_exact(size - codec.PREFIX - header)
        except (OSError, ValueError, http1.ProtocolError) as error:
            raise _lost(node, error) from error
        return status, value, blob, "connection" not in fields


def _head(node: str, method: str, args: Mapping[str, Any], blob_size: int) -> bytes:
    """The head of a request, with the arguments that begin its body."""
    header = codec.pack_header(dict(args))
    return b"POST /rpc/v1/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        method.encode("ascii"),
        node.encode("ascii"),
        len(header) + blob_size,
        header,
    )


def _lost(node: str, error: Exception) -> DavfsError:
    if isinstance(error, TimeoutError):
        return CallTimeout(f"{node} did not answer in time; it is unknown whether it did what was asked", node=node)
    return CallTimeout(
        f"the connection to {node} ended before its answer ({describe(error)}); the outcome is unknown", node=node
    )
