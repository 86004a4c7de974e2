"""Port: whole replicas as snapshots, made for others and received from another. A part of ``ports.ReplicaStore``."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from davfs.core.model import Position


class Snapshot(NamedTuple):
    """A whole replica as it was when it had committed up to ``position``. ``id``: hex BLAKE3 of its ``size`` bytes."""

    id: str
    position: Position
    size: int


class SnapshotStore(Protocol):
    """What a replica's store does with snapshots (``storage/snapshots.py``)."""

    @property
    def frozen(self) -> Snapshot | None:
        """The snapshot that is kept for others."""
        ...

    def freeze(self, rate: int) -> Snapshot:
        """Make a snapshot of what is committed now, in place of an older one, at most ``rate`` bytes a second."""
        ...

    def read_frozen(self, name: str, offset: int, size: int) -> bytes:
        """A piece of the frozen snapshot; :class:`NotFound` if there is none of that id any more."""
        ...

    def thaw(self) -> None:
        """Forget the frozen snapshot."""
        ...

    def arrived(self) -> tuple[Snapshot, int] | None:
        """The snapshot that is being received, and how many bytes of it are here (a restart keeps them)."""
        ...

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> None:
        """Store a piece of a snapshot of another store; one at 0 begins anew."""
        ...

    def install(self, volume: str = "") -> None:
        """Replace everything here by the snapshot that has arrived, at once, once it is verified and, if the volume is named,
        known to be one of it.

        Incarnation and seal stay; what this log has and the snapshot's history has not becomes late.
        :class:`CorruptData` and nothing changed if it is not what was announced. :class:`Unavailable` if it is no later than
        what is here.
        """
        ...
