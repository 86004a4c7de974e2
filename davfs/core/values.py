"""Values of a volume's documents: compact JSON text, one scalar for each key (docs/FORMAT.md).

Short field names keep documents small: an entry costs one scalar in automerge. Lists of nodes are interned per value.
Every encoder and decoder raises ValueError for what is malformed, so a value is never half believed. Keys are the
business of ``keys.py``. Pure: may import only core.
"""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any, NamedTuple

from davfs.core.digests import HEX_LENGTH, Digests
from davfs.core.model import DIRECTORY, FILE, MAX_NAME, ChunkRef, Manifest

_HEX = frozenset("0123456789abcdef")
_LARGEST = (1 << 63) - 1  # what an index keeps as a whole number; a value beyond it could be entered by no replica
_DIGEST_LENGTH = 64  # hex digits of a 32-byte BLAKE3 digest
_OPTIONAL = {  # of a name entry
    "t": "mtime_ns", "r": "raw", "q": "claim", "d": "deleted", "w": "was", "o": "origin", "f": "trashed",
}  # fmt: skip


class NameEntry(NamedTuple):
    """Where an inode stands: parent's inode, name, kind (``DIRECTORY`` or ``FILE``), creation time.

    ``mtime_ns``: the modification time that a directory was given with this very change.

    For merges (core/merge.py): ``raw``, the place that was written, if a merge shows the inode elsewhere, and ``claim``, the
    place that it would have but for others of its name; ``deleted``, of what is in the trash: parent, name and the version of
    the content ("" for none) as they were; ``was``, the place that a directory was moved from; ``origin``, of a conflict
    copy: the file that its content was written to, and of a directory that was merged into another: that one.

    ``trashed``, of what people find in the trash: its path from the root (names joined by /), the account that deleted or
    overwrote it, and, of a file's earlier content, the inode of that file ("": it was deleted).
    """

    parent: str
    name: str
    kind: str
    created_ns: int
    mtime_ns: int | None = None
    raw: tuple[str, str] | None = None
    claim: tuple[str, str] | None = None
    deleted: tuple[str, str, str] | None = None
    was: tuple[str, str] | None = None
    origin: str = ""
    trashed: tuple[str, str, str] | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing but the ordinary is known of it."""
        return self[5:] == (None, None, None, None, "", None)


def encode_name(parent: str, name: str, kind: str, created_ns: int, mtime_ns: int | None = None) -> str:
    """The value of a name entry (kind ``n``). Names: 1 to 255 bytes of UTF-8, no ``/`` or NUL, not ``.`` or ``..``."""
    return encode_entry(NameEntry(parent, name, kind, created_ns, mtime_ns))


def encode_entry(entry: NameEntry) -> str:
    """The value of a name entry with all that is known of it."""
    _check_name(*entry[:5])
    value: dict[str, Any] = {"p": entry.parent, "n": entry.name, "k": entry.kind, "c": entry.created_ns}
    for field, part in _OPTIONAL.items():
        if (known := getattr(entry, part)) is not None and known != "":
            value[field] = list(known) if type(known) is tuple else known
    return _dump(value)


def decode_name(text: str) -> NameEntry:
    """The name entry in a value."""
    value = _load(text, {"p", "n", "k", "c"}, _OPTIONAL.keys())
    _check_name(value["p"], value["n"], value["k"], value["c"], value.get("t"))
    lengths = (("r", 2), ("q", 2), ("d", 3), ("w", 2), ("f", 3))
    raw, claim, deleted, was, trashed = (_place(value.get(field), length) for field, length in lengths)
    origin = value.get("o", "")
    if type(origin) is not str:
        raise ValueError(f"an origin must be an inode: {origin!r}")
    return NameEntry(
        value["p"], value["n"], value["k"], value["c"], value.get("t"), raw, claim, deleted, was, origin, trashed
    )


def _place(value: object, length: int) -> Any:
    if value is None:
        return None
    if type(value) is not list or len(value) != length or any(type(part) is not str for part in value):
        raise ValueError(f"not a place: {value!r}")
    return tuple(value)


def encode_manifest(manifest: Manifest) -> str:
    """The value of a manifest (kind ``m``); with segments it has no chunks of its own."""
    _check_manifest(manifest)
    value = _pack_chunks(manifest.chunks)
    if manifest.content:
        value["i"] = manifest.content
    if manifest.moved:
        value["o"] = manifest.moved
    if manifest.digests:
        value["d"] = dict(manifest.digests)
    value.update(s=manifest.size, t=manifest.mtime_ns, e=manifest.etag, z=manifest.chunk_size, g=manifest.segments)
    return _dump(value)


def decode_manifest(text: str) -> Manifest:
    """The manifest in a value."""
    value = _load(text, {"s", "t", "e", "z", "g", "N", "c"}, {"i", "o", "d"})
    chunks = _unpack_chunks(value)
    digests = decode_digests(value.get("d", {}))
    manifest = Manifest(
        value["s"], value["t"], value["e"], value["z"], chunks, value["g"], value.get("i", ""), digests,
        _decode_moved(value.get("o", [])),
    )  # fmt: skip
    _check_manifest(manifest)
    return manifest


def _decode_moved(value: object) -> tuple[tuple[int, str], ...]:
    if type(value) is not list or any(type(pair) is not list or [type(v) for v in pair] != [int, str] for pair in value):
        raise ValueError(f"moved segments must be pairs of number and id: {value!r}")
    return tuple((number, content) for number, content in value)


def decode_digests(value: object) -> Digests:
    """The checksums in a manifest's field ``d``; those of algorithms that are not known here are left out."""
    if type(value) is not dict:
        raise ValueError(f"checksums must be a map: {value!r}")
    for name, digest in value.items():
        known = HEX_LENGTH.get(name)
        if type(digest) is not str or not _HEX.issuperset(digest) or known not in (None, len(digest)):
            raise ValueError(f"not a checksum: {name}:{digest!r}")
    return tuple(sorted((name, digest) for name, digest in value.items() if name in HEX_LENGTH))


def encode_segment(chunks: tuple[ChunkRef, ...]) -> str:
    """The value of one segment (kind ``s``): a run of chunks of a large file, in order."""
    _check_chunks(chunks)
    return _dump(_pack_chunks(chunks))


def decode_segment(text: str) -> tuple[ChunkRef, ...]:
    """The chunks in a segment's value."""
    chunks = _unpack_chunks(_load(text, {"N", "c"}))
    _check_chunks(chunks)
    return chunks


def _dump(value: dict[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    text.encode()  # a lone surrogate is a ValueError here, not a panic inside the CRDT
    return text


def _load(text: str, fields: set[str], optional: Set[str] = frozenset()) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("a value is nested too deeply") from error
    if type(value) is not dict or set(value) - optional != fields:
        raise ValueError(f"a value must have exactly the fields {sorted(fields)}: {text[:80]!r}")
    return value


def _pack_chunks(chunks: tuple[ChunkRef, ...]) -> dict[str, Any]:
    places: dict[tuple[str, ...], int] = {}
    packed = [[c.digest, c.size, places.setdefault(c.nodes, len(places))] for c in chunks]
    return {"N": [list(nodes) for nodes in places], "c": packed}


def _unpack_chunks(value: dict[str, Any]) -> tuple[ChunkRef, ...]:
    try:
        places = [tuple(nodes) if type(nodes) is list else None for nodes in value["N"]]
        chunks = []
        for digest, size, place in value["c"]:
            nodes = places[place] if type(place) is int and place >= 0 else None
            if nodes is None:
                raise ValueError("a chunk names no list of nodes")
            chunks.append(ChunkRef(digest, size, nodes))
    except (TypeError, IndexError) as error:
        raise ValueError(f"a list of chunks is malformed: {error}") from error
    return tuple(chunks)


def _check_name(parent: object, name: object, kind: object, created_ns: object, mtime_ns: object) -> None:
    if type(parent) is not str or not parent:
        raise ValueError(f"a parent must be an inode: {parent!r}")
    if type(name) is not str or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"not a name: {name!r}")
    if len(name.encode()) > MAX_NAME:
        raise ValueError(f"a name is longer than {MAX_NAME} bytes: {name[:80]!r}...")
    if kind not in (DIRECTORY, FILE):
        raise ValueError(f"a kind must be {DIRECTORY!r} or {FILE!r}: {kind!r}")
    if type(created_ns) is not int or not (mtime_ns is None or type(mtime_ns) is int):
        raise ValueError(f"a time must be a whole number of nanoseconds: {created_ns!r}, {mtime_ns!r}")
    if any(abs(time) > _LARGEST for time in (created_ns, mtime_ns or 0)):
        raise ValueError(f"a time must be of the years 1678 to 2262: {created_ns!r}, {mtime_ns!r} ns since 1970")


def _check_manifest(m: Manifest) -> None:
    if any(type(number) is not int for number in (m.size, m.mtime_ns, m.chunk_size, m.segments)):
        raise ValueError("sizes, times and counts of a manifest must be whole numbers")
    if type(m.etag) is not str or not m.etag:
        raise ValueError("a manifest must have an etag")
    if any(abs(number) > _LARGEST for number in (m.size, m.mtime_ns, m.chunk_size, m.segments)):
        raise ValueError("sizes, times and counts of a manifest must fit 64 bits")
    if m.size < 0 or m.chunk_size <= 0 or m.segments < 0:
        raise ValueError(
            f"impossible numbers in a manifest: size {m.size}, chunks of {m.chunk_size}, {m.segments} segments"
        )
    _check_chunks(m.chunks)
    if bool(m.segments) != bool(m.content) or type(m.content) is not str:
        raise ValueError("a manifest has segments under a content id, or neither")
    numbers = [number for number, _ in m.moved]
    if numbers != sorted(set(numbers)) or any(not 0 <= n < m.segments for n in numbers) or not all(c for _, c in m.moved):
        raise ValueError("a manifest's moved segments are its own, each once, in order")
    if m.segments:
        if m.chunks:
            raise ValueError("a manifest has either segments or chunks")
    elif sum(c.size for c in m.chunks) != m.size:
        raise ValueError(f"a manifest's chunks do not add up to its {m.size} bytes")


def _check_chunks(chunks: tuple[ChunkRef, ...]) -> None:
    for c in chunks:
        if type(c.digest) is not str or len(c.digest) != _DIGEST_LENGTH or not _HEX.issuperset(c.digest):
            raise ValueError(f"not a digest: {c.digest!r}")
        if type(c.size) is not int or c.size <= 0:
            raise ValueError(f"impossible size of a chunk: {c.size!r}")
        if any(type(node) is not str or not node for node in c.nodes):
            raise ValueError(f"a chunk's nodes must be names: {c.nodes!r}")
