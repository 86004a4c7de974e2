"""What all protocols of one node share: its ports, its timing, its view of Raft's state.

Beside core it knows only the table of what is in use; ``node`` fills it in production, ``sim`` in the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from davfs.cluster.in_use import InUse
from davfs.core.chunk_port import ChunkStore
from davfs.core.cluster_state import ClusterState
from davfs.core.effects import Signal
from davfs.core.ports import Clock, Documents, Random, ReplicaStore


@dataclass(frozen=True, slots=True)
class Timing:
    """Limits of waiting, in seconds."""

    ttl: float = 5.0  # of a token; the lease is 80 % of it
    call: float = 3.0  # one small request between nodes
    transfer: float = 15.0  # one request that carries a chunk
    commit: float = 4.0  # until a record that was sent must be committed
    gather: float = 0.03  # a replica that follows enters what was committed in so long together
    heartbeat: float = 0.5  # between appends to a replica when there is nothing to send
    idle: float = 60.0  # a volume that nobody uses is freed after this
    leaderless: float = 2.5  # elections take less: after this, requests that wait for Raft are refused
    tidy: float = 2.0  # between looks at what a replica's log no longer needs
    compaction: float = 5.0  # between looks at documents whose history may have grown too long
    gate: float = 30.0  # how long a change waits for others on the same path
    drain: float = 0.5  # how long requests that are on their way keep a volume that is to be given up
    retire: float = 10.0  # how long a replica that is not one any more still serves downloads
    grace: float = 3600.0  # a chunk that nothing names is collected so long after it was last promised, at the earliest
    quarantine: float = 86_400.0  # and may be read for so long after that

    @property
    def lease(self) -> float:
        """How long after the first send of a grant or refresh its holder may serve."""
        return 0.8 * self.ttl


@dataclass(frozen=True, slots=True)
class Bounds:
    """What keeps a node's memory small, whatever is stored and however many ask."""

    documents: int = 64  # kept loaded by each replica and by each holder's workspace
    window: int = 3  # chunks of one upload that may wait for their write quorum at once
    log_recent: int = 1_000  # records that stay in every log, so that a moment's absence costs no snapshot
    log_recent_bytes: int = 2 << 20  # as long as they are no more than this
    log_records: int = 200_000  # that stay for a replica which is away; it then gets a snapshot
    snapshot_rate: int = 32 << 20  # bytes a second of a snapshot that is made or fetched
    snapshot_piece: int = 1 << 20  # of which that many bytes are fetched at once
    log_bytes: int = 256 << 20  # the same in bytes


@dataclass(slots=True)
class Site:
    """One node, as its protocols see it. ``applied`` is notified after every command that Raft applies here;
    ``leader_known`` is false while this node sees no Raft leader with a majority behind it. ``stored`` names the volumes
    that have a database on this disk; ``drop_store`` removes one, which is closed, for good."""

    node: str
    clock: Clock
    random: Random
    state: ClusterState
    applied: Signal
    chunks: ChunkStore
    documents: Documents
    open_store: Callable[[str], ReplicaStore]
    make_signal: Callable[[], Signal]
    up: Callable[[str], bool]
    timing: Timing
    leader_known: Callable[[], bool] = lambda: True
    bounds: Bounds = field(default_factory=Bounds)
    stored: Callable[[], Sequence[str]] = tuple
    drop_store: Callable[[str], None] = lambda volume: None
    in_use: InUse = field(default_factory=InUse)

    def request_id(self) -> str:
        return self.random.token(12).hex()
