"""The nouns of the drive: epochs, positions, policies, entries, manifests, locks.

Plain values, shared by every layer. Times are nanoseconds since 1970 (``*_ns``) or seconds (``*_s``); sizes are bytes.
May import nothing of davfs but canonical.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, cast

from davfs.core.canonical import place

Path: TypeAlias = tuple[str, ...]
"""Names from a volume's root downwards; ``()`` is the root."""

ROOT = "root"
TRASH = "trash"
UPLOADS = "uploads"
"""Above the parts of uploads that are still to be put together."""

HIDDEN = "/uploads"
"""The first name of paths below the hidden collection of uploads. No client can ask for it: names have no slash."""

ROOTS = (ROOT, TRASH, UPLOADS)
"""What entries hang below at last. Only what is below the first is shown."""

DIRECTORY = "d"
FILE = "f"

MIB = 1 << 20
MAX_RECORD = MIB
MAX_NAME = 255
MAX_PATH = 4096


class Epoch(NamedTuple):
    """The fence of a grant; larger with each (cluster incarnation first, so that a restored Raft never repeats one)."""

    incarnation: int
    counter: int

    def __str__(self) -> str:
        return f"{self.incarnation:04x}.{self.counter:08x}"


class Position(NamedTuple):
    """Where a record stands in a volume's history: contiguous ``seq``, under the ``epoch`` that wrote it."""

    epoch: Epoch
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq:012x}"


NO_EPOCH = Epoch(0, 0)
ORIGIN = Position(NO_EPOCH, 0)
"""The position before the first record of every volume."""


def position(value: object) -> Position:
    """A position from its wire form ``[[incarnation, counter], seq]``."""
    (incarnation, counter), seq = cast("tuple[tuple[int, int], int]", value)
    return Position(Epoch(incarnation, counter), seq)


STRICT = "strict"
AVAILABLE = "available"
"""What a volume promises (design, section 2, Two promises)."""


@dataclass(frozen=True, slots=True)
class VolumePolicy:
    """What a volume promises (design, sections 1 and 2)."""

    chunk_size: int = 4 * MIB
    copies: int = 3  # N
    write_quorum: int = 2  # W
    read_quorum: int = 1  # R
    replicas: int = 3  # M
    consistency: str = STRICT
    mode: str = "shared"
    reads: str = "lease"
    trash_days: int = 7  # what was deleted is kept in the trash for
    quota: int = 0  # bytes that files and trash may take; 0: no limit


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """A volume as Raft knows it. ``holder`` is the advisory address of its grant, None when free."""

    id: str
    name: str
    policy: VolumePolicy
    replicas: tuple[str, ...]
    epoch: Epoch = NO_EPOCH
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """One chunk of a file: hex BLAKE3 digest, size in bytes, names of the nodes that were to store it."""

    digest: str
    size: int
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a file.

    ``segments`` > 0: the chunks stand in that many segments of their own instead of here, under the id ``content``
    (fresh for each manifest, so that segments written ahead of it are seen by nobody). ``moved``: the segments that stand
    under another id, (number, id) by number: a write at a position leaves those that it does not touch where they are.
    ``digests``: checksums of the whole content that its client announced, (algorithm, hex) by algorithm.
    """

    size: int
    mtime_ns: int
    etag: str
    chunk_size: int
    chunks: tuple[ChunkRef, ...] = ()
    segments: int = 0
    content: str = ""
    digests: tuple[tuple[str, str], ...] = ()
    moved: tuple[tuple[int, str], ...] = ()

    def content_of(self, segment: int) -> str:
        """The id that a segment stands under."""
        return dict(self.moved).get(segment, self.content)

    @property
    def contents(self) -> tuple[str, ...]:
        """All ids that segments of this manifest stand under."""
        return tuple(dict.fromkeys(self.content_of(number) for number in range(self.segments)))


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory as the index shows it.

    ``etag`` is opaque and unquoted; it changes exactly when a file's content does (of a file with segments: with each write
    at a position). For directories size is 0.
    """

    inode: str
    parent: str
    name: str
    kind: str  # DIRECTORY or FILE
    version: str  # the version of its name entry, `Position` as text
    created_ns: int
    mtime_ns: int
    size: int = 0
    etag: str = ""

    @property
    def is_directory(self) -> bool:
        return self.kind == DIRECTORY


@dataclass(frozen=True, slots=True)
class DavLock:
    """A DAV lock (RFC 4918, 6). Keyed by path, not by resource; ``timeout_s`` is what was granted."""

    token: str
    path: Path
    infinite: bool  # depth infinity
    exclusive: bool
    owner: str  # the XML of <owner> as it was sent, or ""
    principal: str
    timeout_s: int
    refreshes: int = 0

    def covers(self, path: Path) -> bool:
        """Whether a resource at ``path`` is locked by this lock (directly or as a member of a depth-infinity lock)."""
        mine, theirs = place(self.path), place(path)
        return theirs == mine or (self.infinite and theirs[: len(mine)] == mine)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as the cluster knows it. ``dav`` is the URL that people use, ``rpc`` and ``forward`` are HOST:PORT for the
    other nodes ("": as their configurations say); ``incarnation``: of its data directory."""

    name: str
    dav: str
    zone: str = ""
    weight: float = 1.0
    incarnation: str = field(default="")
    rpc: str = ""
    forward: str = ""
