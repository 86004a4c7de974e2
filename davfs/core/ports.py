"""Ports: what the protocols need from disk, documents, Raft and the network, as small structural types.

Implementations live one layer up, each behind one thin module; the simulator brings its own. ``tests/conformance``
has one suite for each port that has more than one implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from davfs.core.chunk_port import ChunkPage
from davfs.core.digests import Digests
from davfs.core.keys import Key
from davfs.core.late_port import LateStore, MergedView
from davfs.core.model import ChunkRef, Entry, Epoch, Manifest, Position
from davfs.core.raft_log import LogChange, LogImage
from davfs.core.record import Record
from davfs.core.snapshot_port import SnapshotStore

Found = TypeVar("Found")


class Clock(Protocol):
    """Seconds that never stop or step: CLOCK_BOOTTIME in production. ``wall_ns`` is for people only (mtimes)."""

    def now(self) -> float: ...

    def wall_ns(self) -> int: ...


class Random(Protocol):
    """Unpredictable bytes: tokens, ids."""

    def token(self, size: int) -> bytes: ...


# --- Raft -----------------------------------------------------------------------------------------------------------


class StateMachine(Protocol):
    """What Raft drives. ``apply`` is deterministic, never raises, and answers plain values, errors included."""

    def apply(self, command: tuple[Any, ...]) -> Any: ...

    def dump(self) -> bytes: ...

    def load(self, data: bytes) -> None: ...


class FrameNetwork(Protocol):
    """Opaque frames between named, authenticated nodes; best effort, no order or single delivery promised."""

    def start(self, receive: Callable[[str, bytes], None]) -> None: ...

    def send(self, peer: str, frame: bytes) -> bool:
        """Queue a frame without ever blocking. False: it was dropped."""
        ...

    def set_peers(self, peers: Iterable[str]) -> None: ...

    def close(self) -> None: ...


class JournalStore(Protocol):
    """Raft's durable memory: log, term and vote, snapshot. Used by one thread at a time."""

    def load(self) -> LogImage:
        """What is there, verified, and durably one boot more. :class:`CorruptData` if it is not what was written."""
        ...

    def save(self, change: LogChange) -> None:
        """One durable transaction. :class:`NoSpace` has changed nothing; :class:`StorePoisoned` is for ever."""
        ...

    def close(self) -> None: ...


# --- documents (CRDT) -----------------------------------------------------------------------------------------------


class Document(Protocol):
    """One automerge document: a flat map of text to text. Not thread-safe; its owner holds a lock."""

    def heads(self) -> tuple[bytes, ...]:
        """The heads of its history, sorted."""
        ...

    def change(self, puts: Sequence[tuple[str, str]], deletes: Sequence[str]) -> bytes:
        """Make one change and give its bytes. Deleting a key that is absent is no error."""
        ...

    def apply(self, change: bytes, heads: Sequence[bytes]) -> None:
        """Apply a change made elsewhere; :class:`CorruptData` unless the heads are then exactly ``heads``.

        (A change that is corrupt or misses its dependencies would otherwise be dropped without a word.)
        """
        ...

    def get(self, key: str) -> str | None: ...

    def keys(self) -> list[str]: ...

    def save(self) -> bytes: ...


class Documents(Protocol):
    """Makes documents. ``actor``: 16 bytes, fresh for every grant and every load that will change the document."""

    def load(self, snapshot: bytes | None, changes: Sequence[bytes], actor: bytes) -> Document: ...

    def without_history(self, document: Document) -> bytes:
        """A snapshot of what a document holds now and nothing else; b"" for an empty one."""
        ...


# --- disk (chunks: chunk_port.py) ------------------------------------------------------------------------------------


class StoredDocument(NamedTuple):
    """A document at rest: a snapshot and the changes since."""

    snapshot: bytes | None
    changes: list[bytes]


class DocumentUpdate(NamedTuple):
    """What a committed record did to a document: its change, and a fresh snapshot when the tail grew long.

    An empty snapshot: the document is gone.
    """

    document: str
    change: bytes
    snapshot: bytes | None = None


class IndexUpdate(NamedTuple):
    """A key of a document as it is after a record: its value, or None when it is gone."""

    key: str
    value: str | None


class AppliedRecord(NamedTuple):
    """A record on its way from the log into documents and index."""

    record: Record
    documents: Sequence[DocumentUpdate]
    updates: Sequence[IndexUpdate]


class Change(NamedTuple):
    """An entry with the seqs of the last record that touched it and, for directories, of its last rename."""

    entry: Entry
    seq: int
    moved: int


class Gone(NamedTuple):
    """A name that the record ``seq`` took from a directory; ``directory``: the inode that had it, "" for a file's."""

    seq: int
    parent: str
    name: str
    directory: str


class Trashed(NamedTuple):
    """A top of the trash: since when (wall clock of its record), where it was (names joined by /), which account put it
    there, and of which file (inode) it is an earlier content ("": it was deleted)."""

    entry: Entry
    since_ns: int
    path: str
    who: str
    earlier_of: str


class IndexView(MergedView, Protocol):
    """Reads of one committed state of a volume; all reads through one view see the same state."""

    @property
    def committed(self) -> Position: ...

    def entry(self, inode: str) -> Entry | None:
        """The entry of an inode (the root's is made up); size, mtime and etag come from its manifest."""
        ...

    def child(self, parent: str, name: str) -> Entry | None: ...

    def children(self, parent: str) -> list[Entry]:
        """Sorted by name."""
        ...

    def members(self, parent: str) -> Iterator[tuple[Entry, Mapping[str, str]]]:
        """The entries of a directory with their dead properties (Clark name -> XML), sorted by name.

        Of this view's state though it may be read after it; in memory that does not grow with the directory.
        """
        ...

    def page(self, parent: str, after: tuple[str, str], limit: int) -> list[Entry]:
        """Up to ``limit`` of its entries that follow ``after``, the (name, version) of the one before."""
        ...

    def trashed(self, before_ns: int, limit: int) -> list[Entry]:
        """Up to ``limit`` tops of the trash that came there before ``before_ns`` (wall clock of their records), the oldest
        first."""
        ...

    def trash(self, after: tuple[int, str], limit: int) -> list[Trashed]:
        """Up to ``limit`` tops of the trash whose path is known, that follow (time, inode), the oldest first."""
        ...

    def trashed_entry(self, inode: str) -> Trashed | None:
        """One of them by its inode."""
        ...

    def earlier(self, inode: str) -> list[tuple[str, int]]:
        """(inode, time) of a file's earlier contents in the trash, the oldest first."""
        ...

    def earlier_most(self, more_than: int, limit: int) -> list[str]:
        """Inodes of up to ``limit`` files that have more earlier contents than that."""
        ...

    def manifest(self, inode: str) -> tuple[str, Manifest] | None:
        """(version, manifest) of a file, without the chunks of its segments."""
        ...

    def digests(self, inode: str) -> Digests:
        """The checksums that a file's manifest names."""
        ...

    def members_digests(self, parent: str) -> dict[str, Digests]:
        """inode -> checksums, of the members of a directory whose manifests name any."""
        ...

    def manifests(self, after: str, limit: int) -> list[tuple[str, Manifest]]:
        """(inode, manifest) of up to ``limit`` files whose inode follows ``after``, by inode."""
        ...

    def segment(self, inode: str, number: int) -> tuple[str, str] | None:
        """(version, JSON text) of one segment."""
        ...

    def segments(self, after: tuple[str, int], limit: int) -> list[tuple[str, int, str, str]]:
        """(content id, number, version, JSON text) of up to ``limit`` segments that follow ``after``, in order."""
        ...

    def chunks(self) -> Iterator[ChunkRef]:
        """Every chunk of every file, in the trash too, in no order; one of several files comes several times."""
        ...

    def properties(self, inode: str) -> dict[str, tuple[str, str]]:
        """Clark name -> (version, XML) of the dead properties."""
        ...

    def changes(self, seq: int, inode: str, limit: int) -> list[Change]:
        """Up to ``limit`` entries whose (last change, inode) follows (``seq``, ``inode``), in that order."""
        ...

    def gone(self, after: int, limit: int, parent: str = "") -> list[Gone]:
        """Up to ``limit`` names that were taken away (from one directory) after the record ``after``, the oldest first."""
        ...

    def gone_floor(self) -> int:
        """Names that went at this seq or before are forgotten."""
        ...

    def reply(self, request_id: str) -> tuple[Any] | None:
        """What a committed record with that request id answered, in a 1-tuple; None if there is none."""
        ...

    def usage(self) -> tuple[int, int]:
        """(number of files, sum of their sizes in bytes)."""
        ...


class Problem(NamedTuple):
    """Something that does not hold together: what kind of thing, and a line for people."""

    kind: str
    text: str


class Audit(Protocol):
    """A close look at one committed state (``storage/audit.py``), for one thread at a time."""

    @property
    def index(self) -> IndexView: ...

    def translated(self) -> AbstractContextManager[None]:
        """Within it the errors of the database are davfs's own; what is read later than the look was opened is read so."""
        ...

    def database(self) -> list[Problem]: ...

    def tree(self) -> Iterator[list[Problem]]: ...

    def usage(self) -> list[Problem]: ...

    def manifests(self) -> Iterator[tuple[int, list[Problem]]]: ...

    def log(self, volume: str) -> Iterator[tuple[int, list[Problem]]]: ...

    def documents(self, after: str, limit: int) -> list[tuple[str, StoredDocument]]: ...

    def value(self, key: Key) -> tuple[str, str] | None: ...

    def counts(self) -> dict[str, int]: ...

    def rows(self) -> Iterator[bytes]: ...


class ReplicaStore(SnapshotStore, LateStore, Protocol):
    """One volume's records, documents and index on one node, each method one atomic transaction. Thread-safe.

    The log is contiguous: the seqs behind ``floor`` up to ``last``. Records up to ``committed`` are in documents and index.
    """

    @property
    def incarnation(self) -> str:
        """Random per empty store (design, section 3)."""
        ...

    @property
    def broken(self) -> str:
        """Why the store is of no use until somebody has looked after it: it is damaged, or a sync failed. "" as far as is
        known."""
        ...

    @property
    def sealed(self) -> Epoch: ...

    @property
    def last(self) -> Position: ...

    @property
    def committed(self) -> Position: ...

    @property
    def floor(self) -> Position:
        """The position before the oldest record that the log still has."""
        ...

    def seal(self, epoch: Epoch) -> None:
        """Durably remember the highest epoch; lower ones are a ValueError."""
        ...

    def position_at(self, seq: int) -> Position | None:
        """The position of that seq in the history (ORIGIN for 0), trimmed or not; None behind its end."""
        ...

    def read_log(self, first_seq: int, limit_bytes: int) -> list[bytes]:
        """Encoded records from ``first_seq`` on, at least one if there is one, about ``limit_bytes`` at most.

        :class:`LogTrimmed` if the first of them is kept no longer.
        """
        ...

    def log_within(self, size: int, first: int) -> int:
        """The lowest seq, but none before ``first``, from which on the log has at most ``size`` bytes."""
        ...

    def trim(self, below: int, limit: int) -> int:
        """Forget up to ``limit`` of the oldest records, none from ``below`` on and never the newest committed one.

        How many went.
        """
        ...

    def give_back(self, pages: int) -> bool:
        """Give up to ``pages`` pages of freed space back to the file system; whether more could be."""
        ...

    def append(
        self,
        records: Sequence[tuple[Position, bytes]],
        cut_from: int | None,
        chunks: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Durably append to the log, after moving all records with seq >= ``cut_from`` to the late ones, at once.

        ``chunks``: (digest, data) of small chunks that came with the records; they are durable with them. What was
        committed and is not firm is taken back with the cut.
        """
        ...

    def chunk(self, digest: str) -> bytes | None:
        """A small chunk that came with a record, verified; :class:`CorruptData`, or None if there is none."""
        ...

    def has_chunk(self, digest: str) -> bool:
        """Whether a small chunk of that name is there (not verified)."""
        ...

    def keep_chunk(self, digest: str) -> int | None:
        """As ``ChunkStore.keep``, of a small chunk; None if there is none."""
        ...

    def chunk_page(self, after: str, limit: int, before: int) -> ChunkPage:
        """As ``ChunkStore.page``, of the small chunks."""
        ...

    def remove_chunks(self, digests: Sequence[str], before: int) -> tuple[int, int]:
        """As ``ChunkStore.remove``, of the small chunks."""
        ...

    def sweep_chunks(self, before: int) -> tuple[int, int]:
        """As ``ChunkStore.sweep``, of the small chunks."""
        ...

    def late_records(self) -> list[tuple[Position, bytes]]:
        """Records that were cut from the log: they never enter the documents as they are."""
        ...

    def load_document(self, document: str) -> StoredDocument: ...

    def commit(self, applied: Sequence[AppliedRecord], firm: int | None = None) -> None:
        """Enter records into documents and index and move the commit mark behind them, at once.

        Those behind ``firm`` (None: there are none) can be taken back by ``append``.
        """
        ...

    def rehearse(self, applied: Sequence[AppliedRecord]) -> None:
        """Whether ``commit`` could enter these records: CorruptData if not. Nothing changes."""
        ...

    def view(self) -> AbstractContextManager[IndexView]: ...

    def remembered(self, key: Hashable, read: Callable[[IndexView], Found], small: Callable[[Found], bool] = ...) -> Found:
        """What ``read`` gives in one state, or gave under that key since the index changed, if that was ``small``."""
        ...

    def audit(self) -> AbstractContextManager[Audit]:
        """The same, for a close look (``cluster/fsck.py``)."""
        ...

    def iter_documents(self) -> Iterator[str]: ...

    def document_sizes(self, after: str, limit: int) -> list[tuple[str, int]]:
        """(id, bytes at rest) of up to ``limit`` documents whose id follows ``after``, by id."""
        ...

    def close(self) -> None: ...
