"""Contents of files that say who wrote them and whether they are whole: a tag, repeated up to a size."""

from __future__ import annotations


def content_of(tag: str, size: int) -> bytes:
    """``size`` bytes (never fewer than the tag and the line behind it)."""
    line = f"{tag} {size}\n".encode()
    return (line * (size // len(line) + 1))[: max(size, len(line))]


def tag_of(body: bytes) -> str:
    """The tag and size of a content, or what says that it is none: a mixture, a part, something else."""
    first, _, _ = body.partition(b"\n")
    if not body:
        return ""
    tag, _, size = first.decode(errors="replace").rpartition(" ")
    if not size.isdigit() or content_of(tag, int(size)) != body:
        return f"NOT WHOLE: {len(body)} bytes that begin {body[:60]!r}"
    return f"{tag} {size}"
