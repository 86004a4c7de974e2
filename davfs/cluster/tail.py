"""The end of a volume's log, in memory: records that are not known to be everywhere, with the small chunks beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from davfs.core.model import MIB, Position

BATCH_BYTES = MIB
ATTACHED_BYTES = 4 * MIB
"""What one append carries: so much of records, and of the small chunks that travel with them."""

KEPT_BYTES = 4 * MIB
"""What is kept for replicas that are slow; what they lack beyond it is read from the log."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A small chunk that travels with its record: the replica makes it durable before it logs the record."""

    digest: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Pending:
    """A record that is not yet known to be everywhere."""

    position: Position
    data: bytes
    attachments: Sequence[Attachment] = ()

    @property
    def attached(self) -> int:
        """Bytes of the chunks that travel with it."""
        return sum(len(attachment.data) for attachment in self.attachments)


class Tail:
    """The records by seq. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_seq: dict[int, Pending] = {}

    def __contains__(self, seq: int) -> bool:
        return seq in self._by_seq

    def add(self, pending: Pending) -> None:
        with self._lock:
            self._by_seq[pending.position.seq] = pending

    def run(self, first: int) -> tuple[Position | None, list[Pending]]:
        """(the position before ``first``, if it is here; as many records from there on as one append carries)."""
        with self._lock:
            batch: list[Pending] = []
            size = attached = 0
            while (pending := self._by_seq.get(first + len(batch))) is not None:
                size += len(pending.data)
                attached += pending.attached
                if batch and (size > BATCH_BYTES or attached > ATTACHED_BYTES):
                    break
                batch.append(pending)
            before = self._by_seq.get(first - 1)
        return (None if before is None else before.position), batch

    def forget(self, reached: int, slowest: int) -> None:
        """Forget what is committed (up to ``reached``) and sent to everyone (up to ``slowest``), or too much to keep for a
        slow replica: it is in the log."""
        kept = 0
        with self._lock:
            for seq in sorted((s for s in self._by_seq if s <= reached), reverse=True):
                pending = self._by_seq[seq]
                kept += len(pending.data) + pending.attached
                if seq <= slowest or kept > KEPT_BYTES:
                    del self._by_seq[seq]
