"""What a file holds before a change, and its manifest after it: of a large file only the segments that change are touched.

A manifest may name segments under several content ids, so those of before stay where they are (docs/FORMAT.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from davfs.cluster.files import SEGMENTS_IN_RECORD, OpenFile, write_ahead
from davfs.cluster.holder import Holder
from davfs.core.chunking import CHUNKS_PER_SEGMENT, etag_after, etag_of
from davfs.core.effects import Protocol_
from davfs.core.errors import Forbidden, NotFound
from davfs.core.model import ChunkRef, Manifest
from davfs.core.namespace import Edits, Segment, make_manifest
from davfs.core.ports import IndexView

_NEW = "new"  # stands for the content id of segments that are still to be written


@dataclass(frozen=True, slots=True)
class Content:
    """A file's manifest with its version (None: it has none yet), and its chunks, looked up one by one."""

    version: str | None
    manifest: Manifest
    file: OpenFile

    @property
    def chunk_size(self) -> int:
        return self.manifest.chunk_size

    @property
    def size(self) -> int:
        return self.manifest.size

    @property
    def count(self) -> int:
        """Its chunks."""
        return -(-self.size // self.chunk_size)

    def chunk(self, number: int) -> ChunkRef | None:
        """The chunk of that number; None beyond the last."""
        return self.file.chunk(number) if number < self.count else None


def content_of(holder: Holder, view: IndexView, inode: str) -> Content:
    """What a file holds; :class:`NotFound`, :class:`Forbidden` for a collection."""
    entry = view.entry(inode)
    if entry is None:
        raise NotFound("the file was deleted")
    if entry.is_directory:
        raise Forbidden("a collection has no content")
    version, manifest = view.manifest(inode) or (None, Manifest(0, 0, "-", holder.state().policy.chunk_size))
    return Content(version, manifest, OpenFile(holder, entry, manifest))


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A manifest after a change, with the segments that are to be written by the record that writes it."""

    manifest: Manifest
    segments: Sequence[Segment] = ()

    def write(self, edits: Edits, inode: str, version: str | None) -> None:
        """The edits; ``version``: of the manifest that it replaces."""
        manifest = self.manifest
        if self.segments:
            written = edits.new_inode()
            edits.write_segments(written, self.segments)
            manifest = _named(manifest, written)
        edits.write(inode, manifest, version)


def rewritten(
    holder: Holder, content: Content, size: int, chunks: Mapping[int, ChunkRef], mtime_ns: int
) -> Protocol_[Rewritten]:
    """The manifest of a file of ``size`` bytes in which ``chunks``, by number, take the place of those of before.

    Many segments are written ahead by records of their own, a few go with the manifest.
    """
    manifest, segments = _manifest_after(content, size, chunks, mtime_ns)
    if len(segments) <= SEGMENTS_IN_RECORD:
        return Rewritten(manifest, segments)
    return Rewritten(_named(manifest, (yield from write_ahead(holder, segments))))


def _manifest_after(
    content: Content, size: int, new: Mapping[int, ChunkRef], mtime_ns: int
) -> tuple[Manifest, list[Segment]]:
    """The manifest, and the segments to write, which stand under ``_NEW`` in it. The others are not even read."""
    old, chunk_size = content.manifest, content.chunk_size
    count = -(-size // chunk_size)

    def chunks(first: int, last: int) -> tuple[ChunkRef, ...]:
        return tuple(new.get(number) or content.file.chunk(number) for number in range(first, min(last, count)))

    if not old.segments or count <= CHUNKS_PER_SEGMENT:
        whole = chunks(0, count)
        return make_manifest(whole, chunk_size, mtime_ns, etag_of(chunk_size, whole), _NEW)
    touched = {number // CHUNKS_PER_SEGMENT for number in new}
    if count < content.count and count % CHUNKS_PER_SEGMENT:
        touched.add(count // CHUNKS_PER_SEGMENT)  # its last one is cut
    segments = [(n, chunks(n * CHUNKS_PER_SEGMENT, (n + 1) * CHUNKS_PER_SEGMENT)) for n in sorted(touched)]
    total = -(-count // CHUNKS_PER_SEGMENT)
    moved = {n: content_id for n, content_id in old.moved if n < total} | dict.fromkeys(touched, _NEW)
    same = not segments and size == old.size
    etag = old.etag if same else etag_after(old.etag, size, segments)
    manifest = Manifest(size, mtime_ns, etag, chunk_size, (), total, old.content, moved=tuple(sorted(moved.items())))
    return manifest, segments


def _named(manifest: Manifest, content_id: str) -> Manifest:
    """The same with the id of the segments that were to be written."""
    moved = tuple((number, content_id if at == _NEW else at) for number, at in manifest.moved)
    return replace(manifest, content=content_id if manifest.content == _NEW else manifest.content, moved=moved)
