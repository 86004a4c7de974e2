"""PySyncObj's transport over a :class:`~davfs.core.ports.FrameNetwork`.

Frames come from any thread into a queue and wake PySyncObj's own poller through a pipe, so that they are handled on the
tick thread at once (an on-tick callback would add up to a tick of latency). Before anything leaves that promises durability,
the journal is flushed; what one wake-up brings in is answered together, after one flush. May import pysyncobj and core.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any

from pysyncobj.node import Node
from pysyncobj.poller import POLL_EVENT_TYPE
from pysyncobj.transport import Transport

from davfs.consensus import wire
from davfs.consensus.link import Link
from davfs.consensus.timing import RaftTiming
from davfs.core.ports import FrameNetwork

log = logging.getLogger(__name__)

MAX_QUEUED_FRAMES = 20_000
"""More than that and frames are dropped, which ends their session; Raft asks again."""

_NEEDS_NO_FLUSH = frozenset(
    {"append_entries", "apply_command", "apply_command_response", "timeout_now", "pre_vote", "pre_vote_response"}
)
"""These promise nothing: a leader may send entries before it holds them durably, it only may not count itself yet."""


class FrameTransport(Transport):
    """Sends and receives Raft messages. All methods but :meth:`deliver` run on the tick thread."""

    def __init__(
        self, peers: Iterable[str], boot: int, network: FrameNetwork, timing: RaftTiming, flush: Callable[[], None]
    ) -> None:
        self._boot = boot
        self._timing = timing
        self._nodes = {peer: Node(peer) for peer in peers}
        super().__init__(None, None, list(self._nodes.values()))
        self._network = network
        self._flush = flush
        self._links = {peer: self._link() for peer in self._nodes}
        self._announced: dict[str, int] = {}  # peer -> the session that PySyncObj was told is connected
        self._outbox: list[tuple[str, dict[str, Any]]] | None = None
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        self._wake_lock = threading.Lock()
        self._woken = False
        self._closed = False
        self._warned: set[str] = set()
        self.held = False
        """While true, every frame is dropped, as if the peers were not there."""
        self.ignored = 0
        """Frames that were no frames, or not from a peer, since the start."""
        self.on_loss: Callable[[Node], None] = lambda node: None
        """Told, on the tick thread, when messages from or to a node may have been lost."""

    @property
    def nodes(self) -> list[Node]:
        """The peers as PySyncObj knows them."""
        return list(self._nodes.values())

    @property
    def peers(self) -> list[str]:
        """Their names."""
        return sorted(self._nodes)

    def connected(self, peer: str) -> bool:
        """Whether messages to a peer can be sent right now (any thread)."""
        return peer in self._announced

    def attach(self, poller: Any) -> None:
        """Let PySyncObj's poller wake up for incoming frames."""
        poller.subscribe(self._read_end, self._on_readable, POLL_EVENT_TYPE.READ)

    # --- any thread -------------------------------------------------------------------------------------------------

    def deliver(self, peer: str, frame: bytes) -> None:
        """A frame from an authenticated peer; the network calls this from its own threads."""
        if self.held or peer not in self._links or len(self._inbox) >= MAX_QUEUED_FRAMES:
            self.ignored += 1
            return
        self._inbox.append((peer, frame))
        self.wake()

    def wake(self) -> None:
        """End the tick thread's wait."""
        if self._woken:
            return
        with self._wake_lock:  # or the pipe could be closed, and its number be another file's, before the write
            if not self._closed:
                self._woken = True
                with contextlib.suppress(BlockingIOError):
                    os.write(self._write_end, b"\0")

    # --- what PySyncObj calls ---------------------------------------------------------------------------------------

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """PySyncObj's send: False when it was dropped. While frames are handled, answers wait for their end."""
        if self._outbox is not None:
            self._outbox.append((node.id, message))
            link = self._links.get(node.id)
            return link is not None and link.connected
        if message["type"] not in _NEEDS_NO_FLUSH:
            self._flush()
        return self._send_now(node.id, message)

    def destroy(self) -> None:
        with self._wake_lock:
            if not self._closed:
                self._closed = True
                os.close(self._read_end)
                os.close(self._write_end)

    # --- tick thread ------------------------------------------------------------------------------------------------

    def set_peers(self, peers: Collection[str]) -> None:
        """Who messages go to and come from, from now on. Links to others end, and what is on its way to them is dropped."""
        for gone in self._nodes.keys() - set(peers):
            if self._announced.pop(gone, None) is not None:
                self._onNodeDisconnected(self._nodes[gone])
        kept, links = self._nodes, self._links
        # Replaced, never changed: other threads look into them.
        self._nodes = {peer: kept.get(peer) or Node(peer) for peer in sorted(peers)}
        self._links = {peer: links.get(peer) or self._link() for peer in self._nodes}
        self._network.set_peers(self.peers)

    def _link(self) -> Link:
        timing = self._timing
        return Link(self._boot, retry=timing.reconnect, ping=timing.silence / 4, silence=timing.silence)

    def on_tick(self) -> None:
        """Greet, show signs of life, notice silence."""
        now = time.monotonic()
        for peer, link in self._links.items():
            frames = link.tick(now)
            self._announce(peer)
            for frame in frames:
                self._put(peer, frame)

    def _on_readable(self, descriptor: int, event: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_end, 4096)
        # In this order: whoever saw the flag set has put its frame into the queue before, and it is taken below.
        self._woken = False
        self._outbox = []
        try:
            for _ in range(len(self._inbox)):
                self._take(*self._inbox.popleft())
        finally:
            if self._inbox:  # come while this ran, or left by an error
                self.wake()
            outbox, self._outbox = self._outbox, None
            self._send_gathered(outbox)

    def _send_gathered(self, outbox: list[tuple[str, dict[str, Any]]]) -> None:
        if any(message["type"] not in _NEEDS_NO_FLUSH for _, message in outbox):
            self._flush()
        for peer, message in outbox:
            self._send_now(peer, message)

    def _take(self, peer: str, data: bytes) -> None:
        link = self._links.get(peer)
        if link is None:  # it went while its frame waited
            return
        try:
            frame = wire.decode_frame(data)
        except ValueError as error:
            self._ignore(peer, error)
            return
        arrival = link.receive(frame, time.monotonic())
        self._announce(peer)
        if arrival.lost:
            self.on_loss(self._nodes[peer])
        if arrival.former_life:
            self._ignore(peer, "it greets as an earlier life of itself; if its disk was replaced it must join anew")
        for reply in arrival.replies:
            self._put(peer, reply)
        if arrival.body is None:
            return
        try:
            message = wire.decode_message(arrival.body)
        except ValueError as error:
            self._ignore(peer, error)
            return
        self._onMessageReceived(self._nodes[peer], message)

    def _send_now(self, peer: str, message: dict[str, Any]) -> bool:
        link = self._links.get(peer)
        if link is None or not link.connected:
            return False
        frame = link.wrap(wire.encode_message(message), time.monotonic())
        return frame is not None and self._put(peer, frame)

    def _put(self, peer: str, frame: wire.Frame) -> bool:
        if self._network.send(peer, wire.encode_frame(frame)):
            return True
        if frame.kind == wire.DATA:
            # A number is missing from now on: end the session here rather than wait to be told.
            self._links[peer].restart()
            self._announce(peer)
        return False

    def _announce(self, peer: str) -> None:
        """Tell PySyncObj what changed: the end of a session as a lost connection, a welcomed one as a new connection."""
        link, node = self._links[peer], self._nodes[peer]
        told = self._announced.get(peer)
        if told is not None and (not link.connected or told != link.session):
            del self._announced[peer]
            self._onNodeDisconnected(node)
            self.on_loss(node)
        if link.connected and peer not in self._announced:
            self._announced[peer] = link.session
            self._onNodeConnected(node)

    def _ignore(self, peer: str, reason: object) -> None:
        self.ignored += 1
        if peer not in self._warned:  # once a peer: a broken one must not fill the log
            self._warned.add(peer)
            log.warning("ignored a frame of %s: %s", peer, reason)
