"""The chunks that a volume's manifests name, page by page, for whoever looks at all of them."""

from __future__ import annotations

from collections.abc import Iterator

from davfs.core import values
from davfs.core.model import ChunkRef
from davfs.core.ports import IndexView

PAGE = 200
"""Manifests that are read at once."""


def chunk_page(view: IndexView, after: str) -> tuple[str | None, list[ChunkRef]]:
    """(where the next page begins, or None at the end; the chunks that a page of manifests names)."""
    manifests = view.manifests(after, PAGE)
    chunks = [chunk for _, manifest in manifests for chunk in manifest.chunks]
    for _, manifest in manifests:
        for number in range(manifest.segments):
            chunks.extend(_segment(view, manifest.content_of(number), number))
    return (manifests[-1][0] if manifests else None), chunks


def _segment(view: IndexView, content: str, number: int) -> Iterator[ChunkRef]:
    stored = view.segment(content, number)
    if stored is not None:
        yield from values.decode_segment(stored[1])
