"""Quorum writes of chunks: each on its own to N nodes, acknowledged when W hold it durably (design, section 2, Write).

An upload keeps a bounded window of chunks on their way, so that disks and network work while the client still sends,
and memory does not grow with the file. A chunk's slow third copy may finish after the answer; it keeps its place in the
window until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

from davfs.cluster.keeping import confirm
from davfs.cluster.lagging import Credentials
from davfs.cluster.site import Site
from davfs.core.chunking import digest_of
from davfs.core.effects import Blob, Call, Gather, Outcome, Protocol_, Reply, Wait
from davfs.core.errors import NoSpace, QuorumLost
from davfs.core.model import AVAILABLE, ChunkRef, VolumePolicy
from davfs.core.placement import choose, ranked

LINGERING = 3
"""Chunks beyond the window that may wait for a last, slow copy."""


@dataclass(slots=True)
class ChunkWrite:
    """One chunk on its way to its nodes."""

    number: int
    digest: str
    size: int
    data: Blob
    chosen: list[str]
    tried: set[str]
    begun: float = 0.0  # when it was first sent, or last confirmed
    pending: set[str] = field(default_factory=set)
    stored: set[str] = field(default_factory=set)
    errors: dict[str, Exception] = field(default_factory=dict)
    quorum: int = 0  # copies that it waits for

    def reference(self) -> ChunkRef:
        """The chunk for the manifest: the nodes that were to have it and those that took it in their place."""
        extra = sorted(self.stored - set(self.chosen))
        return ChunkRef(self.digest, self.size, (*self.chosen, *extra))


def targets(
    site: Site, policy: VolumePolicy, volume: str, inode: str, number: int, before: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """(the N nodes for a chunk, all nodes in order of preference). ``before``: the nodes of the version it replaces."""
    nodes = site.state.storing()
    order = ranked(volume, inode, number, nodes.values())
    order.sort(key=lambda name: name not in before)
    return choose(order, policy.copies, site.up, lambda name: nodes[name].zone), order


class Upload:
    """The chunks of one file that is being written. ``inode`` only spreads them; it need not exist yet.

    Keep it until the fate of their record is known: that keeps the collector from them.
    """

    def __init__(self, site: Site, credentials: Credentials, policy: VolumePolicy, inode: str) -> None:
        self._site = site
        self._use = site.in_use.upload(credentials.volume)
        self._credentials = credentials
        self._policy = policy
        self._inode = inode
        self._signal = site.make_signal()
        self._lock = Lock()
        self._writes: list[ChunkWrite] = []
        self._open: list[ChunkWrite] = []  # without their quorum yet, or with copies still on their way

    def write(self, data: Blob, number: int | None = None, before: Sequence[str] = ()) -> Protocol_[None]:
        """Start writing a chunk (without a ``number``: the file's next); waits while the window is full.

        ``before``: the nodes of the version that it replaces; they get the new one as far as they are up.
        """
        number = len(self._writes) if number is None else number
        chosen, _ = targets(self._site, self._policy, self._credentials.volume, self._inode, number, before)
        # A node that does not answer is named in the manifest all the same and fetches its copy when it is back; if it
        # is back sooner and another fails, it is asked after all.
        answering = [node for node in chosen if self._site.up(node)]
        enough = 1 if self._policy.consistency == AVAILABLE else self._policy.write_quorum
        asked = answering if len(answering) >= enough else chosen
        now, quorum = self._site.clock.now(), self._policy.write_quorum
        write = ChunkWrite(number, digest_of(data), len(data), data, chosen, set(asked), now, quorum=quorum)
        self._use.add([write.digest])
        self._writes.append(write)
        self._open.append(write)
        yield from self._send(write, asked)
        yield from self._settle(self._site.bounds.window - 1, LINGERING)

    def finish(self) -> Protocol_[tuple[ChunkRef, ...]]:
        """Wait until W nodes hold every chunk durably; the chunks as they were written. QuorumLost, NoSpace if not."""
        yield from self._settle(0, LINGERING + self._site.bounds.window)
        with self._lock:
            self.check()
            return tuple(write.reference() for write in self._writes)

    def check(self) -> None:
        """:class:`QuorumLost` if a node that left the cluster meanwhile is missing from a chunk's quorum. For right before
        the record: whoever removes the node waits only for records, not for uploads."""
        if not all(map(self._has_quorum, self._writes)):
            raise QuorumLost("a node that was to store the file leaves the cluster; try again")

    def end(self) -> None:
        """The fate of the record is known."""
        self._use.end()

    def renew(self) -> Protocol_[None]:
        """Have acknowledgements that are older than half the grace confirmed again; :class:`QuorumLost` if they are not.

        For right before the record (design, section 3): what is acknowledged for longer than the grace may be collected.
        """
        now = self._site.clock.now()
        old = [write for write in self._writes if now - write.begun > self._site.timing.grace / 2]
        if old:
            chunks = [write.reference() for write in old]
            yield from confirm(self._site, self._credentials, chunks, min(write.quorum for write in old))
        for write in old:
            write.begun = now

    # --- inside -----------------------------------------------------------------------------------------------------

    def _send(self, write: ChunkWrite, nodes: Sequence[str]) -> Protocol_[None]:
        with self._lock:
            write.pending.update(nodes)
        args = {**self._credentials.wire(), "digest": write.digest}
        calls = [Call(node, "chunk.put", args, write.data, self._site.timing.transfer) for node in nodes]

        def ended(node: str, outcome: Outcome) -> None:
            with self._lock:
                write.pending.discard(node)
                if isinstance(outcome, Reply):
                    write.stored.add(node)
                else:
                    write.errors[node] = outcome
                if not write.pending and self._has_quorum(write):
                    write.data = b""
            self._signal.notify()

        yield Gather(calls, lambda outcomes: True, ended)

    def _settle(self, waiting: int, lingering: int) -> Protocol_[None]:
        """Wait until at most so many chunks wait for their quorum and at most so many more for a last copy."""
        while True:
            yield Wait(
                self._signal,
                lambda: self._within(waiting, lingering) or bool(self._short()),
                self._site.timing.transfer + 1,
            )
            short = self._short()
            if not short:
                self._open = [write for write in self._open if write.pending or not self._has_quorum(write)]
                if self._within(waiting, lingering):
                    return
            for write in short:
                yield from self._substitute(write)

    def _within(self, waiting: int, lingering: int) -> bool:
        still = [write for write in self._open if not self._has_quorum(write)]
        slow = [w for w in self._open if self._has_quorum(w) and any(map(self._site.up, tuple(w.pending)))]
        return len(still) <= waiting and len(slow) <= lingering

    def _has_quorum(self, write: ChunkWrite) -> bool:
        return len(self._lasting(write.stored)) >= write.quorum

    def _short(self) -> list[ChunkWrite]:
        """Chunks that cannot reach their quorum with the nodes that were asked so far."""
        return [w for w in self._open if len(self._lasting(w.stored | w.pending)) < w.quorum]

    def _lasting(self, nodes: set[str]) -> set[str]:
        """Without those that leave the cluster: their copies do not count."""
        return nodes.difference(self._site.state.membership.leaving)

    def _substitute(self, write: ChunkWrite) -> Protocol_[None]:
        """Ask nodes that were not chosen, so that a chunk gets its W copies although some of its N nodes fail."""
        missing = write.quorum - len(self._lasting(write.stored | write.pending))
        _, order = targets(self._site, self._policy, self._credentials.volume, self._inode, write.number)
        if write.size and not len(write.data):
            raise QuorumLost("a node that stored the file leaves the cluster; try again")
        others = [node for node in order if node not in write.tried and self._site.up(node)][:missing]
        if len(others) < missing:
            reached = len(self._lasting(write.stored | write.pending)) + len(others)
            if self._policy.consistency != AVAILABLE or not reached:
                raise self._failure(write)
            write.quorum = reached  # as many as can be reached; the others are made when they can be
        write.tried.update(others)
        yield from self._send(write, others)

    @staticmethod
    def _failure(write: ChunkWrite) -> Exception:
        for error in write.errors.values():
            if isinstance(error, NoSpace):
                return error
        reasons = "; ".join(f"{node}: {error}" for node, error in write.errors.items())
        return QuorumLost(f"too few nodes can store a chunk ({reasons})")
