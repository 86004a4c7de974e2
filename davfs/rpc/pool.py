"""Connections to other nodes: dialled over mutual TLS, checked for the right name, kept warm, given up when dead.

Shared by calls, frames and the forwarder. Knows no HTTP methods. A connection is used by one thread at a time.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from davfs.core.errors import DavfsError, Unreachable
from davfs.rpc.http1 import Stream
from davfs.rpc.identity import NodeIdentity, peer_name, peer_of

Resolve: TypeAlias = Callable[[str], tuple[str, int]]

CONNECT_LIMIT = 2.0  # seconds for TCP and TLS to stand
FAIL_FAST = 0.2  # seconds after a failed connect in which no other is tried
PROBE_WAIT = 0.1  # seconds that others wait for the first try after that: a node that is back takes it at once
_ENDED = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED
SILENCE_LIMIT_MS = 10_000  # unacknowledged data older than this ends a connection (a machine that lost its power)


def dial(identity: NodeIdentity, node: str, address: tuple[str, int], limit: float) -> Stream:
    """Connect to ``node`` within ``limit`` seconds; :class:`Unreachable` says why it did not work."""
    ends = time.monotonic() + limit
    generation = identity.generation
    sock: socket.socket | None = None
    if identity.own.name and time.time() >= identity.own.ends:  # the peer's alert may be lost to the reset that follows it
        raise Unreachable(f"the certificate of {identity.own.name} has ended; {node} would refuse it", node=node)
    try:
        sock = socket.create_connection(address, timeout=limit)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_USER_TIMEOUT", SILENCE_LIMIT_MS)):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        sock.settimeout(max(ends - time.monotonic(), 0.001))
        tls = identity.client.wrap_socket(sock, server_hostname=node)
        # Its alternative names hold host names too, and another node's host may be called like this node.
        certificate = tls.getpeercert()
        peer, name = peer_of(certificate), peer_name(certificate)
        if name != node or peer is None:
            tls.close()
            raise Unreachable(f"at {_text(address)} answers {name}, not {node}", node=node)
        if identity.refuses(peer):
            tls.close()
            raise Unreachable(f"at {_text(address)} answers {node} with a certificate that was revoked", node=node)
        stream = Stream(tls)
        stream.fit = lambda: (
            identity.generation == generation and time.time() < peer.ends and not identity.refuses(peer)
        )
        return stream
    except (OSError, ValueError) as error:
        if sock is not None:
            sock.close()
        raise Unreachable(f"cannot connect to {node} at {_text(address)}: {describe(error)}", node=node) from error


def describe(error: Exception) -> str:
    """An error of the network in few words."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == _ENDED:
        return f"its certificate has ended, or the clocks differ by a day (TLS: {error.reason})"
    if isinstance(error, ssl.SSLError):
        if "CERTIFICATE_EXPIRED" in (error.reason or ""):
            return f"the certificate shown to it has ended, or the clocks differ by a day (TLS: {error.reason})"
        return f"TLS: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def refused_by_tls(error: Exception) -> bool:
    """Whether the peer ended the handshake after we thought it done (TLS 1.3): it has read nothing of ours."""
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")


class ConnectionPool:
    """Idle connections by node, and who was found dead a moment ago. Thread-safe.

    After a failed connect every further one fails at once for :data:`FAIL_FAST` seconds; then one thread tries while
    the others go on failing after a moment, so a machine without power costs each connect limit only one thread.
    """

    def __init__(self, identity: NodeIdentity, resolve: Resolve, idle_limit: float, size: int = 32) -> None:
        self._identity = identity
        self._resolve = resolve
        self._idle_limit = idle_limit
        self._size = size
        self._lock = threading.Lock()
        self._tried = threading.Condition(self._lock)
        self._idle: dict[str, list[Stream]] = {}
        self._broken: dict[str, tuple[float, str]] = {}  # node -> (no try before, why)
        self._trying: set[str] = set()
        self._closed = False

    def up(self, node: str) -> bool:
        """Whether a call now would be tried: not within :data:`FAIL_FAST` of a failed connect."""
        with self._lock:
            return self._why_not(node) is None

    def take(self, node: str, limit: float = CONNECT_LIMIT, *, fresh: bool = False) -> tuple[Stream, bool]:
        """(connection, whether it was used before); :class:`Unreachable` when there is none to be had.

        ``fresh``: forget the idle ones and dial.
        """
        if fresh:
            self.forget(node)
        elif (stream := self.take_idle(node)) is not None:
            return stream, True
        return self._dial(node, min(limit, CONNECT_LIMIT)), False

    def take_idle(self, node: str) -> Stream | None:
        """A connection that was used before, if one is there; never waits."""
        while True:
            with self._lock:
                waiting = self._idle.get(node)
                stream = waiting.pop() if waiting else None
            if stream is None:
                return None
            # Nothing is under way on an idle connection: readable means that it was closed.
            if time.monotonic() - stream.last_used < self._idle_limit and not stream.readable() and stream.fit():
                return stream
            stream.close()

    def give(self, node: str, stream: Stream) -> None:
        """Keep a connection whose last exchange is complete."""
        now = stream.last_used = time.monotonic()
        surplus = [stream]
        with self._lock:
            waiting = self._idle.setdefault(node, [])
            if not self._closed and len(waiting) < self._size:
                waiting.append(surplus.pop())
            if waiting and now - waiting[0].last_used > self._idle_limit:  # the last come is the first taken
                surplus.append(waiting.pop(0))
        for old in surplus:
            old.close()

    def forget(self, node: str) -> None:
        """Close the idle connections to a node: it went away or came anew."""
        with self._lock:
            waiting = self._idle.pop(node, [])
        for stream in waiting:
            stream.close()

    def close(self) -> None:
        """Close all idle connections and keep none from now on."""
        with self._lock:
            self._closed = True
            nodes = list(self._idle)
        for node in nodes:
            self.forget(node)

    def _why_not(self, node: str) -> str | None:
        broken = self._broken.get(node)
        if broken is not None and (node in self._trying or time.monotonic() < broken[0]):
            return broken[1]
        return None

    def _dial(self, node: str, limit: float) -> Stream:
        with self._lock:
            self._tried.wait_for(lambda: node not in self._trying, PROBE_WAIT)
            why = self._why_not(node)
            probing = why is None and node in self._broken
            if probing:
                self._trying.add(node)
        if why is not None:
            raise Unreachable(why, node=node)
        try:
            stream = dial(self._identity, node, resolved(self._resolve, node), limit)
            with self._lock:
                self._broken.pop(node, None)
        except Unreachable as error:
            with self._lock:
                self._broken[node] = (time.monotonic() + FAIL_FAST, error.message)
            self.forget(node)
            raise
        finally:
            if probing:
                with self._lock:
                    self._trying.discard(node)
                    self._tried.notify_all()
        return stream


def resolved(resolve: Resolve, node: str) -> tuple[str, int]:
    """The node's address; :class:`Unreachable` when there is none known."""
    try:
        return resolve(node)
    except (LookupError, DavfsError) as error:
        raise Unreachable(f"no address of a node {node} is known", node=node) from error


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
