"""A part of a file written by path, as PATCH and PUT with Content-Range do: in place, by one record, or not at all.

A small part waits in memory until its place is known, under the gate of the path. Of a large one the chunks that it fills
are written while it comes, its two ends wait in memory; if the file was changed meanwhile, nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace

from davfs.cluster import attempts, positions, tree, versions
from davfs.cluster.api import Caller, Condition, PartPlace, Reader
from davfs.cluster.changes import Build, change_gated, require_space
from davfs.cluster.chunk_write import Upload
from davfs.cluster.content import Content, content_of, rewritten
from davfs.cluster.files import fill
from davfs.cluster.holder import Holder
from davfs.cluster.quota import Share
from davfs.core.effects import Protocol_
from davfs.core.errors import Forbidden, IncompleteBody, InvalidInput, PreconditionFailed
from davfs.core.model import ChunkRef, Entry, Path
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView


@dataclass(slots=True)
class Part:
    """A body that was taken in: pieces in memory by their offset, and whole chunks that are stored, by their number."""

    length: int
    pieces: dict[int, memoryview] = field(default_factory=dict)
    stored: dict[int, ChunkRef] = field(default_factory=dict)
    upload: Upload | None = None  # of what is stored

    def check(self) -> None:
        """Raise if what is stored no longer has its quorum."""
        if self.upload is not None:
            self.upload.check()

    def renew(self) -> Protocol_[None]:
        """Confirm what was acknowledged long ago."""
        if self.upload is not None:
            yield from self.upload.renew()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, where: slice) -> memoryview:
        """Bytes that are in one piece."""
        start, stop, _ = where.indices(self.length)
        for offset, piece in self.pieces.items():
            if offset <= start and stop <= offset + len(piece):
                return piece[start - offset : stop - offset]
        if start == stop:
            return memoryview(b"")
        raise IndexError("these bytes of the part are stored, not in memory")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was when its part began to come."""

    entry: Entry
    content: Content


def write(
    holder: Holder,
    path: Path,
    place: PartPlace,
    read: Reader,
    length: int,
    mtime_ns: int | None,
    condition: Condition,
    caller: Caller,
    before_body: Callable[[], None] = lambda: None,
) -> Protocol_[Entry]:
    """Write ``length`` bytes into a file; its entry afterwards. Durable on a quorum when it returns."""
    holder.check_lease()

    def look(view: IndexView) -> _Seen:
        condition(tree.resolve(view, path))
        entry = tree.require(view, path)
        if entry.is_directory:
            raise Forbidden("a collection has no content")
        tree.require_unlocked(holder.locks(), caller, path, membership=False, members=False)
        return _Seen(entry, content_of(holder, view, entry.inode))

    with holder.replica.store.view() as view:
        done = view.reply(caller.request_id) if caller.request_id else None
        if done is not None:
            return Entry(*done[0])
        seen = look(view)
    require_space(holder, length)
    with holder.quota.share(holder.state().policy.quota) as share:
        share.take(max(0, place.start(seen.content.size) + length - seen.content.size))
        return (yield from _write(holder, share, path, place, read, length, mtime_ns, caller, before_body, look, seen))


def _write(
    holder: Holder,
    share: Share,
    path: Path,
    place: PartPlace,
    read: Reader,
    length: int,
    mtime_ns: int | None,
    caller: Caller,
    before_body: Callable[[], None],
    look: Callable[[IndexView], _Seen],
    seen: _Seen,
) -> Protocol_[Entry]:
    holder.require_majority()
    before_body()
    part = yield from _take_in(holder, seen, place, read, length)
    ticket = yield from attempts.enter(holder, [path], caller)
    try:
        with holder.replica.store.view() as view:
            now = look(view)
        if part.stored and not _fits(seen, now, place):
            raise PreconditionFailed("the file was changed while its part came; nothing was changed")
        yield from part.renew()
        start = place.start(now.content.size)
        positions.check_size(now.content, start, start + length)
        chunks = yield from positions.written(holder, now.entry.inode, now.content, start, part, part.stored)
        time = holder.site.clock.wall_ns() if mtime_ns is None else mtime_ns
        size = max(now.content.size, start + length)
        after = yield from rewritten(holder, now.content, size, chunks, time)
        manifest = after.manifest
        entry = replace(now.entry, mtime_ns=manifest.mtime_ns, size=manifest.size, etag=manifest.etag)

        def prepare(view: IndexView) -> Build:
            look(view)
            part.check()
            held = None if now.content.version is None else (now.content.version, now.content.manifest)
            kept = versions.to_keep(
                holder, view, share, path, now.entry, held, manifest.etag, now.content.size
            )
            copy = attempts.copy_to_remove(holder, view, caller, manifest.etag)

            def build(edits: Edits) -> list[object]:
                if kept is not None:
                    edits.keep(now.entry, kept, path)
                after.write(edits, entry.inode, now.content.version)  # the gate has kept every other writer away
                if copy is not None:
                    attempts.remove(edits, copy)
                return list(astuple(entry))

            return build

        return Entry(*(yield from change_gated(holder, caller, prepare)))
    finally:
        holder.gates.leave(ticket)


def _fits(seen: _Seen, now: _Seen, place: PartPlace) -> bool:
    """Whether whole chunks that were written for the file as it was are in their place in the file as it is."""
    same = seen.entry.inode == now.entry.inode and seen.content.chunk_size == now.content.chunk_size
    return same and place.start(seen.content.size) == place.start(now.content.size)


def _take_in(holder: Holder, seen: _Seen, place: PartPlace, read: Reader, length: int) -> Protocol_[Part]:
    part = Part(length)
    chunk_size = seen.content.chunk_size
    start = place.start(seen.content.size)
    positions.check_size(seen.content, start, start + length)

    def take(size: int) -> memoryview:
        holder.used_at = holder.site.clock.now()  # a slow upload keeps its volume
        data = fill(read, size)
        if len(data) != size:
            raise IncompleteBody(f"{length} bytes were announced and fewer came; nothing was changed")
        return memoryview(data)

    if length <= chunk_size:
        part.pieces[0] = take(length)
    else:
        upload = Upload(holder.site, holder.credentials, holder.state().policy, seen.entry.inode)
        done = -start % chunk_size  # up to the first chunk that is filled whole
        if done:
            part.pieces[0] = take(done)
        numbers: list[int] = []
        while length - done >= chunk_size:
            holder.check_lease()
            number = (start + done) // chunk_size
            old = seen.content.chunk(number)
            yield from upload.write(take(chunk_size), number, old.nodes if old is not None else ())
            numbers.append(number)
            done += chunk_size
        if done < length:
            part.pieces[done] = take(length - done)
        part.stored = dict(zip(numbers, (yield from upload.finish()), strict=True))
        part.upload = upload
    if read(1):
        raise InvalidInput(f"more than the {length} bytes that were announced came; nothing was changed")
    return part
