"""How much of a volume's log is needed no longer, as the holder tells the replicas with each append."""

from __future__ import annotations

from collections.abc import Collection

from davfs.cluster.followers import Follower
from davfs.cluster.site import Bounds
from davfs.core.ports import ReplicaStore


class TrimMark:
    """Weighs the own log now and then. Not thread-safe in what it remembers, and needs not be: any value is a safe one."""

    def __init__(self, bounds: Bounds, store: ReplicaStore) -> None:
        self._bounds = bounds
        self._store = store
        self._heavy = 0  # up to here the log was too long in bytes, when it was weighed last
        self._weighed = 0
        self._recent = 0  # from here on all logs keep what they have, for who was away for a moment
        self._looked = 0

    def now(self, committed: int, followers: Collection[Follower]) -> int:
        """Records before it may go from all logs: everyone has applied them, or one that is away has missed too many."""
        bounds = self._bounds
        slowest = min(f.applied for f in followers)
        weigh_every = max(bounds.log_recent, bounds.log_records // 16)
        if committed - self._looked >= min(bounds.log_recent, 100):
            self._recent = self._store.log_within(bounds.log_recent_bytes, max(1, committed - bounds.log_recent))
            self._looked = committed
        if committed - slowest > bounds.log_recent and committed - self._weighed > weigh_every:
            self._heavy = self._store.log_within(bounds.log_bytes, committed - bounds.log_records)
            self._weighed = committed
        away = max(committed - bounds.log_records, self._heavy)
        # What comes after a snapshot that is being fetched stays for whoever fetches it, but not without end.
        pins = [f.pinned for f in followers if f.catching is not None]
        away = min([away, *(max(pin, committed - 4 * bounds.log_records) for pin in pins)])
        return max(0, min(max(slowest, away), self._recent))
