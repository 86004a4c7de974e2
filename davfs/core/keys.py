"""Keys of a volume's documents, and which document an entry lives in (docs/FORMAT.md).

A key is ``<kind>/<inode>[/<part>]@<version>``; the version is the position of the record that wrote it, zero-padded
hex, so that text order is history order. An overwrite deletes the old versioned key and puts a new one
(design, section 5).
"""

from __future__ import annotations

from typing import NamedTuple

from davfs.core.model import Epoch, Position

NAME = "n"  # n/<inode>: parent, name, kind, created
MANIFEST = "m"  # m/<inode>: size, mtime, etag, chunks or number of segments
SEGMENT = "s"  # s/<inode>/<number>: a run of chunks of a large file
PROPERTY = "p"  # p/<inode>/<Clark name>: the XML of a dead property
SHADOW = "x"  # x/<inode>/n, x/<inode>/m, x/<inode>/p/<Clark name>: a concurrent value that lost a merge, as it was written
SETTLED = "l"  # l/<position>: what became of the late record of that position

KINDS = (NAME, MANIFEST, SEGMENT, PROPERTY, SHADOW, SETTLED)

BUCKET_BITS = 5
"""The first inodes of 2**BUCKET_BITS consecutive records share a document (a load of it takes less than a millisecond)."""

SHARED_INODES = 4
"""So many inodes of a record go there; a record that makes more (a copied tree) has documents of its own for the rest."""

PAGE_BITS = 5
"""Those hold up to 2**PAGE_BITS inodes each: no document grows with the size of what is copied."""

_BUCKET_BITS_1 = 8


class Key(NamedTuple):
    """A parsed key. ``part`` is the segment number or property name, else empty."""

    kind: str
    inode: str
    part: str
    version: str


def make(kind: str, inode: str, version: str, part: str = "") -> str:
    """The key of one version of an entry."""
    middle = f"{inode}/{part}" if part else inode
    return f"{kind}/{middle}@{version}"


def parse(key: str) -> Key:
    """The parts of a key; ValueError if it is none."""
    body, at, version = key.rpartition("@")
    kind, slash, rest = body.partition("/")
    inode, _, part = rest.partition("/")
    if not at or not slash or kind not in KINDS or not inode or not version:
        raise ValueError(f"not a key of a volume's document: {key!r}")
    return Key(kind, inode, part, version)


def make_inode(at: Position, number: int) -> str:
    """The id of the ``number``-th inode that the record at ``at`` makes. Never reused: positions are not."""
    return f"{at.seq:x}.{at.epoch.incarnation:x}.{at.epoch.counter:x}-{number:x}"


def document_of(inode: str, kind: str = NAME, part: str = "") -> str:
    """The id of the document that holds an entry. Segments of large files have a document each."""
    if kind == SEGMENT:
        return f"s/{inode}/{part}"
    if kind == SETTLED:
        at = parse_version(inode)
        return f"l/{at.epoch}/{at.seq >> BUCKET_BITS:x}"
    made, dash, number = inode.partition("-")
    try:
        seq = int(made.partition(".")[0], 16)
        if not dash:
            return f"b/{seq >> _BUCKET_BITS_1:x}"  # made by format 1: "." stands before its number
        page = int(number, 16)
    except ValueError:
        return "b/system"  # properties of the root, which no record made
    if page < SHARED_INODES:
        return f"d/{seq >> BUCKET_BITS:x}"
    return f"d/{seq:x}/{page >> PAGE_BITS:x}"


def version_of(at: Position) -> str:
    """The version that a record at ``at`` gives to what it writes."""
    return str(at)


def parse_version(text: str) -> Position:
    """The position of the record that wrote a version; ValueError if it is none."""
    incarnation, counter, seq = text.split(".")
    return Position(Epoch(int(incarnation, 16), int(counter, 16)), int(seq, 16))
