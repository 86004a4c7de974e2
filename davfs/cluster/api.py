"""What the DAV side (and later the client library) sees of the drive: blocking calls, one per operation.

``Drive`` finds out who serves a volume; ``Volume`` is a volume that this node holds right now. All raise the errors of
``core.errors``; a definite error has changed nothing, :class:`~davfs.core.errors.OutcomeUnknown` may have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from davfs.core.digests import Digests
from davfs.core.errors import InvalidInput
from davfs.core.model import DavLock, Entry, Path, VolumeInfo, VolumePolicy
from davfs.core.sessions import SessionKey

Condition = Callable[[Entry | None], None]
"""Raises an error (412, ...) when the request's conditions do not hold for the entry that is at the path. Called under
the gate of the path, with the state that the change will be applied to; for PUT also once before the body is read."""

Reader = Callable[[int], bytes]
"""``read(n)``: up to n bytes of a request's body, b"" at its end; raises IncompleteBody if it ends early."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the account, the lock tokens that the request submitted, and an id that makes a re-send harmless.

    ``admin``: the account is administrator of the volume, and may end the locks of others.
    """

    principal: str = ""
    lock_tokens: frozenset[str] = frozenset()
    request_id: str = ""
    admin: bool = False


@dataclass(frozen=True, slots=True)
class PartPlace:
    """Where a part of a file is written: at a position, or (``from_end``) so many bytes before the end."""

    position: int
    from_end: bool = False

    def start(self, size: int) -> int:
        """The position in a file of ``size`` bytes; :class:`InvalidInput` if it lies before the beginning."""
        start = size - self.position if self.from_end else self.position
        if start < 0:
            raise InvalidInput(f"the file has only {size} bytes")
        return start


@dataclass(frozen=True, slots=True)
class Forward:
    """Another node serves the volume: forward the request to ``node``. ``over()``: it does so no longer, as far as this
    node knows; whoever waits for its answer then looks anew."""

    node: str
    epoch: str
    over: Callable[[], bool] = field(default=lambda: False, compare=False)


@dataclass(frozen=True, slots=True)
class LockRequest:
    """A LOCK to be granted (RFC 4918, 9.10). ``token`` is made by the caller (opaquelocktoken:uuid)."""

    token: str
    infinite: bool
    exclusive: bool
    owner: str
    principal: str
    timeout_s: int


@dataclass(frozen=True, slots=True)
class ChangePage:
    """What changed below a collection since a token: path from the collection -> the entry as it is now, None for what went.

    ``token``: to ask from next time; at once if ``truncated``.
    """

    members: Mapping[Path, Entry | None]
    token: str
    truncated: bool


class Content(Protocol):
    """An open file: one version, whatever happens to the path meanwhile."""

    @property
    def entry(self) -> Entry: ...

    @property
    def digests(self) -> Digests:
        """The checksums that were announced for it when it was written."""
        ...

    def read(self, start: int, stop: int) -> Iterator[memoryview | bytes]:
        """The bytes [start, stop), in blocks of at most one chunk, verified; ChunkLost when no good copy answers."""
        ...


class Visit(Protocol):
    """A request of a session that is under way."""

    def end(self) -> None:
        """The request is answered, to the last byte. May be called twice."""
        ...


class Volume(Protocol):
    """A volume held by this node. Paths are tuples of validated names (``core.names``)."""

    @property
    def info(self) -> VolumeInfo: ...

    @property
    def alone(self) -> bool:
        """Whether this node goes on although it is cut off from the others (policy ``available``)."""
        ...

    def enter(self, session: SessionKey, through: str) -> Visit:
        """Begin a request of a session, which asks the node ``through``: before anything else of that request.

        VolumeHeld while another session has the volume to itself (mode ``exclusive``).
        """
        ...

    # reads: checked against the lease after the request arrived
    def lookup(self, path: Path) -> Entry | None: ...

    def children(self, path: Path) -> list[Entry]:
        """Members sorted by name; NotFound, NotACollection."""
        ...

    def properties(self, entry: Entry) -> Mapping[str, str]:
        """Dead properties: Clark name ``{ns}name`` -> the XML of the whole property element."""
        ...

    def members(self, path: Path) -> Iterator[tuple[Entry, Mapping[str, str]]]:
        """Members with their dead properties, sorted by name: one state, however slowly it is read, in bounded memory."""
        ...

    def digests(self, entry: Entry) -> Digests:
        """The checksums that were announced for a file when it was written."""
        ...

    def members_digests(self, path: Path) -> Mapping[str, Digests]:
        """inode -> checksums, of the members of a collection that have any."""
        ...

    def open(self, path: Path) -> Content:
        """NotFound, or Forbidden for a collection."""
        ...

    def sync_token(self) -> str:
        """The token from which :meth:`changes` tells what happens from now on."""
        ...

    def changes(self, path: Path, token: str, *, deep: bool, limit: int) -> ChangePage:
        """What changed in a collection since a token; everything that is there for the token "".

        ``deep``: at any depth, else members alone (those of them included in which something changed). At most ``limit``
        members. SyncTokenInvalid; LimitTooSmall.
        """
        ...

    def quota(self) -> tuple[int, int]:
        """(used bytes, available bytes)."""
        ...

    # changes: durable on a quorum when they return
    def put(
        self, path: Path, read: Reader, length: int | None, *,
        mtime_ns: int | None, condition: Condition, caller: Caller, before_body: Callable[[], None] = lambda: None,
        digests: Digests = (),
    ) -> tuple[Entry, bool]:
        """Replace or create a file; (entry, created). ``before_body`` is called after the first check of conditions,
        locks and quorum, before the first read (it may send 100 Continue). The file appears complete or not at all.
        ``digests``: checksums that the body must have (ChecksumMismatch), kept with the file."""
        ...

    def put_upload(
        self, path: Path, read: Reader, length: int | None, *, digests: Digests, condition: Condition, caller: Caller,
        expected: int | None = None,
    ) -> tuple[Entry, bool]:
        """Store a part of an upload; ``path`` begins with ``model.HIDDEN``, as do all paths of uploads and their parts.
        ``expected``: bytes that may come, where ``length`` is None because fewer will do. A name with a dot in front is no
        part."""
        ...

    def assemble(
        self, source: Path, target: Path, *, overwrite: bool, total: int | None, digests: Digests, mtime_ns: int | None,
        condition: Condition, caller: Caller,
    ) -> tuple[Entry, bool]:
        """Put the parts of an upload together at ``target``, by one record, in the order of the numbers that their names
        begin with; (entry, created). ``total``: bytes that there must be. The upload is gone afterwards."""
        ...

    def give_up(self, path: Path, *, condition: Condition, caller: Caller) -> None:
        """Remove an upload, or a part of it, for good; NotFound."""
        ...

    def keep_digests(
        self, path: Path, algorithms: Sequence[str], *, condition: Condition, caller: Caller
    ) -> Digests:
        """Work the checksums of a file out, unless they are known, and keep them with it; all that it then has."""
        ...

    def write_part(
        self, path: Path, place: PartPlace, read: Reader, length: int, *,
        mtime_ns: int | None, condition: Condition, caller: Caller, before_body: Callable[[], None] = lambda: None,
    ) -> Entry:
        """Write ``length`` bytes into a file, in place: its entry afterwards. A reader sees all of them or none; bytes between
        the old end and the part are zeros. NotFound; PreconditionFailed if the file changed under a large part."""
        ...

    def mkcol(self, path: Path, *, condition: Condition, caller: Caller, mtime_ns: int | None = None) -> Entry: ...

    def delete(self, path: Path, *, condition: Condition, caller: Caller) -> None:
        """Whole trees at once; locks below it must be submitted, and end with it."""
        ...

    def move(
        self, source: Path, target: Path, *,
        overwrite: bool, condition: Condition, caller: Caller, mtime_ns: int | None = None,
    ) -> bool:
        """True when nothing was at the target. PreconditionFailed when something is and not ``overwrite``."""
        ...

    def copy(
        self, source: Path, target: Path, *, overwrite: bool, shallow: bool, condition: Condition, caller: Caller,
        mtime_ns: int | None = None,
    ) -> bool:
        """Copies no bytes: chunks are shared. ``shallow``: Depth 0, the collection alone."""
        ...

    def proppatch(
        self, path: Path, sets: Mapping[str, str], removes: Collection[str], *, condition: Condition, caller: Caller,
        mtime_ns: int | None = None,
    ) -> None: ...

    # locks
    def locks(self, path: Path) -> Sequence[DavLock]:
        """Locks that cover the path: its own and those inherited from depth-infinity locks above."""
        ...

    def locks_below(self, path: Path) -> Sequence[DavLock]:
        """Locks on the path's members, at any depth."""
        ...

    def lock(self, path: Path, request: LockRequest, *, condition: Condition, caller: Caller) -> tuple[DavLock, bool]:
        """Grant a lock; (lock, created an empty file because nothing was there). Locked on a conflict."""
        ...

    def refresh_lock(self, path: Path, token: str, timeout_s: int, *, caller: Caller) -> DavLock:
        """PreconditionFailed if no such lock covers the path."""
        ...

    def unlock(self, path: Path, token: str, *, caller: Caller) -> None:
        """LockTokenMismatch if the lock does not cover the path; Forbidden if another principal holds it,
        unless the caller is administrator."""
        ...


class Drive(Protocol):
    """The whole drive as one node sees it."""

    @property
    def node(self) -> str: ...

    def volumes(self) -> list[VolumeInfo]: ...

    def create_volume(self, name: str, policy: VolumePolicy) -> VolumeInfo: ...

    def route(self, volume: str, *, forwarded: bool, avoid: Forward | None = None) -> Volume | Forward:
        """Who serves: the volume itself if this node holds it (taking it if it is free), else where to forward.

        Waits, bounded, while a takeover is going on. ``forwarded``: the request came from another node, so it is
        never forwarded on: NotHolder. ``avoid``: that forward just failed; wait for its token to change or expire.
        VolumeNotFound; Unavailable with the reason when nobody can serve now.
        """
        ...
