"""Raft's frames over HTTP: to each peer one endless chunked POST, written by one thread; best effort, never twice.

A frame is handed to a connection once or dropped; whoever needs order and single delivery numbers the frames (the
consensus layer does). Nothing runs while nothing is sent: threads sleep on a condition, connections on TCP keep-alive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from davfs.core.errors import DavfsError
from davfs.rpc.frame_stream import FRAME_LIMIT, FRAMES_PATH, pack_frames
from davfs.rpc.http1 import Stream
from davfs.rpc.identity import NodeIdentity
from davfs.rpc.pool import Resolve, describe, dial, resolved

QUEUE_FRAMES = 4096  # frames that wait for a peer; more are dropped
QUEUE_BYTES = 64 * 1024 * 1024  # bytes of them (one frame is taken whatever its size)
BATCH_BYTES = 1024 * 1024  # bytes that are written at once, when as much waits
CONNECT_LIMIT = 1.0  # seconds
WRITE_LIMIT = 5.0  # seconds that a peer may take nothing before its connection is given up
BACKOFF_FIRST = 0.05  # seconds in which frames are dropped after a failed connect, doubled up to ...
BACKOFF_MOST = 0.5

log = logging.getLogger(__name__)


class HttpFrameNetwork:
    """:class:`davfs.core.ports.FrameNetwork` over mutual TLS. Give :meth:`deliver` to the node's ``RpcServer``."""

    def __init__(self, tls: NodeIdentity, resolve: Resolve) -> None:
        self._identity = tls
        self._resolve = resolve
        self._receive: Callable[[str, bytes], None] | None = None
        self._lock = threading.Lock()
        self._senders: dict[str, _Sender] = {}
        self._closed = False

    def start(self, receive: Callable[[str, bytes], None]) -> None:
        """Give what arrives to ``receive`` (peer's name, frame), from one thread per peer. Earlier frames are dropped."""
        self._receive = receive

    def deliver(self, peer: str, frame: bytes) -> None:
        """A frame came in. Frames of nodes that are no peers are dropped."""
        receive = self._receive
        if receive is not None and peer in self._senders:
            receive(peer, frame)

    def set_peers(self, peers: Iterable[str]) -> None:
        """Who frames go to and come from, from now on. Connections to others end."""
        wanted = set(peers)
        with self._lock:
            if self._closed:
                return
            gone = [self._senders[name] for name in self._senders if name not in wanted]
            kept = {name: sender for name, sender in self._senders.items() if name in wanted}
            for name in sorted(wanted - kept.keys()):
                kept[name] = _Sender(self._identity, self._resolve, name)
            self._senders = kept  # replaced, never changed: readers need no lock
        for sender in gone:
            sender.close()

    def send(self, peer: str, frame: bytes) -> bool:
        """Queue a frame without ever blocking. False: dropped (no such peer, not reachable just now, queue full)."""
        sender = self._senders.get(peer)
        return sender is not None and sender.offer(frame)

    def close(self) -> None:
        """End all connections; what is queued is dropped."""
        with self._lock:
            self._closed = True
            senders, self._senders = self._senders, {}
        for sender in senders.values():
            sender.close()
        for sender in senders.values():
            sender.join(CONNECT_LIMIT + 0.5)


class _Sender:
    """One peer's queue and the thread that writes it."""

    def __init__(self, identity: NodeIdentity, resolve: Resolve, node: str) -> None:
        self._identity = identity
        self._resolve = resolve
        self._node = node
        self._wake = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._not_before = 0.0  # no connect before this time
        self._backoff = BACKOFF_FIRST
        self._closed = False
        self._stream: Stream | None = None  # set by the thread alone
        self._thread = threading.Thread(target=self._run, name=f"frames-to-{node}", daemon=True)
        self._thread.start()

    def offer(self, frame: bytes) -> bool:
        if len(frame) > FRAME_LIMIT:
            return False
        with self._wake:
            if self._closed or (self._not_before and time.monotonic() < self._not_before):
                return False
            if self._queue and (len(self._queue) >= QUEUE_FRAMES or self._queued_bytes + len(frame) > QUEUE_BYTES):
                return False
            self._queue.append(frame)
            self._queued_bytes += len(frame)
            if len(self._queue) == 1:
                self._wake.notify()  # a thread that does not wait looks at the queue by itself
            return True

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._queue.clear()
            self._wake.notify()
            stream = self._stream
        if stream is not None:
            stream.cut()  # a write that waits for the peer ends

    def join(self, limit: float) -> None:
        self._thread.join(limit)

    def _run(self) -> None:
        while True:
            frames = self._next_frames()
            if frames is None:
                break
            try:
                self._write(frames)
            except DavfsError as error:
                log.debug("frames to %s dropped: %s", self._node, error)
                self._back_off()
            except (OSError, ValueError) as error:
                # Part of them may have arrived: sending them again on another connection could deliver them twice.
                log.info("the connection for frames to %s ended: %s", self._node, describe(error))
                self._hang_up()
                self._drop_queue()
        self._hang_up()

    def _next_frames(self) -> list[bytes] | None:
        with self._wake:
            while not self._queue and not self._closed:
                self._wake.wait()
            if self._closed:
                return None
            frames, size = [], 0
            while self._queue and size < BATCH_BYTES:
                frames.append(self._queue.popleft())
                size += len(frames[-1])
            self._queued_bytes -= size
            return frames

    def _write(self, frames: list[bytes]) -> None:
        # The peer never speaks on this connection: readable means that it closed it. Found out before a byte is
        # handed over, so these frames may still go by a new one.
        if self._stream is not None and (self._stream.readable() or not self._stream.fit()):
            self._hang_up()
        if self._stream is None:
            self._connect()
        if self._stream is not None:
            self._stream.send(pack_frames(frames))

    def _connect(self) -> None:
        stream = dial(self._identity, self._node, resolved(self._resolve, self._node), CONNECT_LIMIT)
        stream.patience = WRITE_LIMIT
        self._stream = stream
        stream.send(
            b"POST %s HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
            % (FRAMES_PATH.encode("ascii"), self._node.encode("ascii"))
        )
        with self._wake:
            self._not_before = 0.0
            self._backoff = BACKOFF_FIRST

    def _back_off(self) -> None:
        with self._wake:
            self._queue.clear()
            self._queued_bytes = 0
            self._not_before = time.monotonic() + self._backoff
            self._backoff = min(self._backoff * 2, BACKOFF_MOST)

    def _drop_queue(self) -> None:
        with self._wake:
            self._queue.clear()
            self._queued_bytes = 0

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
