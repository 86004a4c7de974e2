"""What entries of a volume's documents refer to: chunks by digest, and the segments of a large file by content id and number.

Both are *names* in one set: a digest as it is, a segment as ``s/<content id>/<number>``. The collector
deletes nothing that is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from davfs.core import keys, values
from davfs.core.model import ChunkRef, Manifest
from davfs.core.record import Record


def segment_name(content: str, number: int) -> str:
    """The name of a segment of a large file."""
    return f"s/{content}/{number}"


def of_manifest(manifest: Manifest) -> Iterator[str]:
    """What a manifest names; the chunks of its segments are named by those."""
    for chunk in manifest.chunks:
        yield chunk.digest
    moved = dict(manifest.moved)
    for number in range(manifest.segments):
        yield segment_name(moved.get(number, manifest.content), number)


def chunks_of(key: str, value: str | None) -> Sequence[ChunkRef]:
    """The chunks that an entry names itself; ValueError for a malformed one."""
    if value is None:
        return ()
    kind = _kind(key)
    if kind == keys.MANIFEST:
        return values.decode_manifest(value).chunks
    return values.decode_segment(value) if kind == keys.SEGMENT else ()


def of_entry(key: str, value: str | None) -> Iterator[str]:
    """All that an entry names; ValueError for a malformed one."""
    if value is None:
        return
    kind = _kind(key)
    if kind == keys.MANIFEST:
        yield from of_manifest(values.decode_manifest(value))
    elif kind == keys.SEGMENT:
        for chunk in values.decode_segment(value):
            yield chunk.digest


def _kind(key: str) -> str:
    """The kind of an entry; of a value that a merge keeps without showing it, the kind of that."""
    parsed = keys.parse(key)
    return parsed.part.partition("/")[0] if parsed.kind == keys.SHADOW else parsed.kind


def of_records(records: Iterable[Record]) -> Iterator[str]:
    """What records would name if they took effect. Those of format 1 do not say."""
    for record in records:
        for change in record.changes:
            for key, value in change.puts:
                yield from of_entry(key, value)
