"""Snapshots of the state machine: made, sent in parts, and put together again by a follower that is far behind.

Stands in for PySyncObj's ``Serializer``, which keeps the snapshot in a file beside the journal (a kill between the two loses
acknowledged entries), forks, and puts parts together without looking whether one is missing. May import core.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import msgpack
from pysyncobj.config import SERIALIZER_STATE

from davfs.consensus import membership
from davfs.consensus.journal import DurableJournal
from davfs.core.raft_log import LogEntry, LogSnapshot

FORMAT = 1
PART_SIZE = 512 * 1024

log = logging.getLogger(__name__)


class Parcel(NamedTuple):
    """A snapshot on its way: the state, and the log's last two entries that it stands for."""

    snapshot: LogSnapshot
    before: LogEntry
    last: LogEntry


def pack(parcel: Parcel) -> bytes:
    """Format, entries, state and a digest of them."""
    body = msgpack.packb([list(parcel.before), list(parcel.last), parcel.snapshot.data], use_bin_type=True)
    return bytes(msgpack.packb([FORMAT, hashlib.sha256(body).digest(), body], use_bin_type=True))


def unpack(data: bytes) -> Parcel:
    """The parcel in ``data``; :class:`ValueError` unless it is whole and of a known format."""
    try:
        version, digest, body = msgpack.unpackb(data, raw=False)
        if version != FORMAT or hashlib.sha256(body).digest() != digest:
            raise ValueError(f"snapshot of format {version} is unknown here or damaged")
        before, last, state = msgpack.unpackb(body, raw=False)
        parcel = Parcel(LogSnapshot(last[1], state), LogEntry(*before), LogEntry(*last))
        follows = parcel.before.index == parcel.last.index - 1
    except (TypeError, ValueError, IndexError, KeyError, msgpack.UnpackException) as error:
        raise ValueError(f"not a snapshot: {error}") from error
    if not follows:
        raise ValueError("a snapshot's two entries do not follow one another")
    return parcel


class Snapshots:
    """The methods in camelCase are those that PySyncObj calls on its serializer, with its shapes."""

    def __init__(self, journal: DurableJournal, dump: Callable[[], bytes]) -> None:
        self._journal = journal
        self._dump = dump
        self._made: int | None = None
        self._outgoing: dict[Hashable, tuple[bytes, int]] = {}

    # --- compaction -------------------------------------------------------------------------------------------------

    def serialize(self, data: Any, entry_id: int) -> None:
        """``data``: (PySyncObj's own view, last applied entry, the one before it, members). Dumps at once, no fork."""
        try:
            known = self._journal.members(data[1][1])
            self._journal.stage(LogSnapshot(data[1][1], membership.wrap(known, self._dump())))
        except Exception:
            log.exception("the state machine could not be dumped; the log is not compacted")
        else:
            self._made = entry_id

    def checkSerializing(self) -> tuple[int, int | None]:
        made, self._made = self._made, None
        if made is None:
            return SERIALIZER_STATE.NOT_SERIALIZING, None
        return SERIALIZER_STATE.SUCCESS, made

    # --- sending ----------------------------------------------------------------------------------------------------

    def getTransmissionData(self, node: Hashable) -> tuple[bytes, bool, bool, int] | None:
        """The next part for a node: (bytes, first, last, offset). None when there is no snapshot to send."""
        if self._journal.snapshot is None:
            return None
        data, offset = self._outgoing.pop(node, (b"", 0))
        if offset == 0:
            data = pack(Parcel(self._journal.snapshot, self._journal[0], self._journal[1]))
        part = data[offset : offset + PART_SIZE]
        last = offset + len(part) == len(data)
        if not last:
            self._outgoing[node] = (data, offset + len(part))
        return part, offset == 0, last, offset

    def cancelTransmisstion(self, node: Hashable) -> None:
        """PySyncObj's spelling. The next part for that node is the first again."""
        self._outgoing.pop(node, None)


class Assembly:
    """The parts of one leader's snapshot, as they come in."""

    def __init__(self) -> None:
        self._source: Hashable = None
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, source: Hashable, part: Any) -> Parcel | None:
        """Take a part as :meth:`Snapshots.getTransmissionData` made it; the parcel once it is complete and right.

        A part that is out of place is dropped with all before it: the leader notices, for nothing is acknowledged.
        """
        try:
            data, first, last, offset = part
            if not isinstance(data, bytes) or not isinstance(offset, int):
                raise ValueError("a part of a snapshot has wrong fields")
        except (TypeError, ValueError) as error:
            log.warning("ignored a part of a snapshot: %s", error)
            return None
        if first:
            self._source, self._parts, self._size = source, [], 0
        if source != self._source or offset != self._size:
            self._source = None
            return None
        self._parts.append(data)
        self._size += len(data)
        if not last:
            return None
        whole, self._parts, self._source = b"".join(self._parts), [], None
        try:
            return unpack(whole)
        except ValueError as error:
            log.warning("ignored a snapshot: %s", error)
            return None
