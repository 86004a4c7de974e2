"""The chunks that a volume's manifests name, page by page, for whoever looks at all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from davfs.core import keys, values
from davfs.core.model import ChunkRef, Manifest
from davfs.core.ports import IndexView

PAGE = 200
"""Manifests that are read at once."""


def chunk_page(view: IndexView, after: str) -> tuple[str | None, list[ChunkRef]]:
    """(where the next page begins, or None at the end; the chunks that a page of manifests names)."""
    manifests = view.manifests(after, PAGE)
    chunks = [chunk for _, manifest in manifests for chunk in _all(view, manifest)]
    return (manifests[-1][0] if manifests else None), chunks


def named_up_to(view: IndexView, after: str, last: str) -> set[str]:
    """The digests that manifests name whose inode follows ``after``, up to ``last``: those of one page, by now."""
    named: set[str] = set()
    while manifests := view.manifests(after, PAGE):
        for inode, manifest in manifests:
            if inode > last:
                return named
            named.update(chunk.digest for chunk in _all(view, manifest))
        after = manifests[-1][0]
    return named


def named_by(view: IndexView, key: keys.Key) -> Sequence[ChunkRef]:
    """The chunks that this version of a manifest or a segment names, if it is still the one that is shown."""
    if key.kind == keys.MANIFEST:
        manifest = view.manifest(key.inode)
        return manifest[1].chunks if manifest is not None and manifest[0] == key.version else ()
    if key.kind == keys.SEGMENT:
        segment = view.segment(key.inode, int(key.part))
        return values.decode_segment(segment[1]) if segment is not None and segment[0] == key.version else ()
    return ()


def _all(view: IndexView, manifest: Manifest) -> Iterator[ChunkRef]:
    yield from manifest.chunks
    for number in range(manifest.segments):
        yield from _segment(view, manifest.content_of(number), number)


def _segment(view: IndexView, content: str, number: int) -> Iterator[ChunkRef]:
    stored = view.segment(content, number)
    if stored is not None:
        yield from values.decode_segment(stored[1])
