"""Writes at a position of a file: the chunks that they touch are written anew, then one record (design, section 2).

Copy on write: a chunk that exists gets a new immutable version on the same nodes, as far as they are up; bytes beyond
the end of the file are zeros until they are written. The other chunks of the file are named again as they are,
those of a large one without a look at them (``content.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from davfs.cluster import tree
from davfs.cluster.api import Caller
from davfs.cluster.changes import change_gated, require_space
from davfs.cluster.chunk_read import read_chunk
from davfs.cluster.chunk_write import Upload
from davfs.cluster.content import Content, content_of, rewritten
from davfs.cluster.gates import Ticket
from davfs.cluster.holder import Holder
from davfs.core.chunking import Span, spans
from davfs.core.effects import Protocol_
from davfs.core.errors import InvalidInput, Unavailable
from davfs.core.model import ChunkRef, Path
from davfs.core.namespace import Edits

MOST_CHUNKS = 1 << 18
"""Chunks of a file; what would need more is a mistake. The chunks of a large hole are all named at once."""

_RENAMES = 10
"""How often a file may be renamed while a write waits for its gate."""


class Bytes(Protocol):
    """What is written: a memoryview, or whatever gives pieces of one chunk at most."""

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice, /) -> memoryview: ...


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change answers, the file's size after it, and the chunks that it made anew, by number."""

    answer: int
    size: int
    chunks: Mapping[int, ChunkRef]


def write_at(holder: Holder, inode: str, position: int | None, data: memoryview, caller: Caller) -> Protocol_[int]:
    """Write bytes at a position (None: at the end); the position. Durable on a quorum when it returns."""

    def change(content: Content) -> Protocol_[Changed]:
        start = content.size if position is None else position
        check_size(content, start, start + len(data))
        share.take(max(0, start + len(data) - content.size))
        chunks = yield from written(holder, inode, content, start, data)
        return Changed(start, max(content.size, start + len(data)), chunks)

    with holder.quota.share(holder.state().policy.quota) as share:
        return (yield from _changed(holder, inode, caller, change))


def resize(holder: Holder, inode: str, size: int, caller: Caller) -> Protocol_[int]:
    """Cut a file off, or lengthen it with zeros; its new size."""

    def change(content: Content) -> Protocol_[Changed]:
        check_size(content, size, size)
        share.take(max(0, size - content.size))
        if size >= content.size:
            return Changed(size, size, (yield from written(holder, inode, content, size, memoryview(b""))))
        kept, rest = divmod(size, content.chunk_size)
        last = content.chunk(kept)
        if not rest or last is None:
            return Changed(size, size, {})
        data = yield from read_chunk(holder.site, holder.credentials.volume, last)
        upload = _upload(holder, inode)
        yield from upload.write(memoryview(data)[:rest], kept, last.nodes)
        return Changed(size, size, {kept: (yield from upload.finish())[0]})

    with holder.quota.share(holder.state().policy.quota) as share:
        return (yield from _changed(holder, inode, caller, change))


def check_size(content: Content, start: int, end: int) -> None:
    """:class:`InvalidInput` for positions that no file has."""
    largest = MOST_CHUNKS * content.chunk_size
    if start < 0 or end > largest:
        raise InvalidInput(f"a file of {content.chunk_size}-byte chunks has positions from 0 to {largest}")


def _changed(
    holder: Holder, inode: str, caller: Caller, change: Callable[[Content], Protocol_[Changed]]
) -> Protocol_[int]:
    """Make a file's new chunks and then its record, under the gate of the path where the file stands."""
    holder.check_lease()
    require_space(holder)
    path, ticket = yield from _enter(holder, inode)
    try:
        with holder.replica.store.view() as view:
            done = view.reply(caller.request_id) if caller.request_id else None
            if done is not None:
                return int(done[0])
            tree.require_unlocked(holder.locks(), caller, path, membership=False, members=False)
            content = content_of(holder, view, inode)
        holder.require_majority()
        changed = yield from change(content)
        after = yield from rewritten(holder, content, changed.size, changed.chunks, holder.site.clock.wall_ns())

        def build(edits: Edits) -> int:
            after.write(edits, inode, content.version)  # the gate has kept every other writer away
            return changed.answer

        return int((yield from change_gated(holder, caller, lambda view: build)))
    finally:
        holder.gates.leave(ticket)


def _enter(holder: Holder, inode: str) -> Protocol_[tuple[Path, Ticket]]:
    """The gate of the path where the file stands, which may change while one waits for it."""
    for _ in range(_RENAMES):
        with holder.replica.store.view() as view:
            path = tree.path_of(view, inode)
        ticket = yield from holder.gates.enter([path], holder.site.timing.gate)
        try:
            with holder.replica.store.view() as view:
                stays = tree.path_of(view, inode) == path
        except BaseException:
            holder.gates.leave(ticket)
            raise
        if stays:
            return path, ticket
        holder.gates.leave(ticket)
    raise Unavailable("the file is renamed again and again; try later")


def _upload(holder: Holder, inode: str) -> Upload:
    return Upload(holder.site, holder.credentials, holder.state().policy, inode)


def written(
    holder: Holder,
    inode: str,
    content: Content,
    start: int,
    data: Bytes,
    stored: Mapping[int, ChunkRef] = MappingProxyType({}),
) -> Protocol_[dict[int, ChunkRef]]:
    """The chunks, by number, that writing ``data`` at ``start`` gives; what lies between the old end and it is zeros.

    ``stored``: those that ``data`` fills and that are stored already.
    """
    size, end, chunk_size = content.size, start + len(data), content.chunk_size
    upload = _upload(holder, inode)
    touched: list[int] = []
    holes: list[int] = []
    for span in spans(min(start, size), end, chunk_size):
        if span.number in stored:
            continue
        first = span.number * chunk_size
        if first >= size and first + chunk_size <= start:
            holes.append(span.number)  # wholly between the old end and the write: all such chunks are one
            continue
        holder.check_lease()
        old = content.chunk(span.number)
        body = yield from _chunk_body(holder, content, span, start, data, old)
        touched.append(span.number)
        yield from upload.write(body, span.number, old.nodes if old is not None else ())
    if holes:
        touched.append(holes[0])
        yield from upload.write(bytes(chunk_size), holes[0])
    new = dict(zip(touched, (yield from upload.finish()), strict=True)) | dict(stored)
    return new | dict.fromkeys(holes, new[holes[0]]) if holes else new


def _chunk_body(
    holder: Holder, content: Content, span: Span, start: int, data: Bytes, old: ChunkRef | None
) -> Protocol_[bytes | memoryview]:
    """One chunk as it is after the write: the old bytes around the new ones, zeros where there were none."""
    first = span.number * content.chunk_size
    begin, stop = max(start, first), min(start + len(data), first + content.chunk_size)  # what the write covers of it
    old_size = old.size if old is not None else 0
    fresh = data[begin - start : max(stop, begin) - start]
    if begin == first and stop - first >= old_size:
        return fresh  # nothing of the old is left
    length = max(old_size, min(start + len(data), first + content.chunk_size) - first)
    body = bytearray(length)
    if old is not None:
        body[:old_size] = yield from read_chunk(holder.site, holder.credentials.volume, old)
    if stop > begin:
        body[begin - first : stop - first] = fresh
    return memoryview(body)
