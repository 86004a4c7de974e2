"""PUT and GET: a whole file written as many chunk writes and one record, and read back chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from davfs.cluster import attempts, tree, versions
from davfs.cluster.api import Caller, Condition, Reader
from davfs.cluster.changes import Build, change_gated, require_space
from davfs.cluster.chunk_read import read_chunk
from davfs.cluster.chunk_write import Upload, targets
from davfs.cluster.holder import Holder
from davfs.cluster.quota import Share
from davfs.cluster.tail import Attachment
from davfs.core import values
from davfs.core.chunking import CHUNKS_PER_SEGMENT, Span, digest_of, etag_of
from davfs.core.digests import Digests, Hashing
from davfs.core.effects import Protocol_
from davfs.core.errors import AlreadyExists, CorruptData, IncompleteBody, LeaseLost
from davfs.core.model import FILE, ChunkRef, Entry, Manifest, Path
from davfs.core.namespace import Edits, Segment, make_manifest
from davfs.core.ports import IndexView
from davfs.core.references import of_manifest

SMALL_BYTES = 64 * 1024
"""A file of at most this travels with its record, if its chunk's nodes are the volume's replicas."""

READ_BYTES = 1 << 20
SEGMENTS_IN_RECORD = 16


@dataclass(frozen=True, slots=True)
class Written:
    """Chunks that are stored, or (small ones) still to travel with the record, which then needs no ``upload``."""

    chunks: tuple[ChunkRef, ...]
    attachments: tuple[Attachment, ...] = ()
    upload: Upload | None = None

    def check(self) -> None:
        """Raise if they no longer have their quorum."""
        if self.upload is not None:
            self.upload.check()

    def renew(self) -> Protocol_[None]:
        """Confirm what was acknowledged long ago."""
        if self.upload is not None:
            yield from self.upload.renew()

    def end(self) -> None:
        """Their record is committed, or never will be."""
        if self.upload is not None:
            self.upload.end()


def put(
    holder: Holder,
    path: Path,
    read: Reader,
    length: int | None,
    mtime_ns: int | None,
    condition: Condition,
    caller: Caller,
    before_body: Callable[[], None],
    digests: Digests = (),
    chunk_size: int | None = None,
) -> Protocol_[tuple[Entry, bool]]:
    """Replace or create a file; (its entry, whether it is new). Nobody sees it before it is whole and safe.

    ``digests``: checksums that the body must have; they are kept with the file. ``chunk_size``: if not the policy's.
    """
    holder.check_lease()
    chunk_size = chunk_size or holder.state().policy.chunk_size

    def check(view: IndexView) -> tuple[Entry | None, Entry]:
        return look(holder, view, path, condition, caller)

    with holder.quota.share(holder.state().policy.quota) as share:
        with holder.replica.store.view() as view:
            done = view.reply(caller.request_id) if caller.request_id else None
            if done is not None:
                return answer(done[0])
            existing, _ = check(view)
        require_space(holder, length or 0)
        share.credit = existing.size if existing is not None else 0
        share.require(length or 0)
        holder.require_majority()
        before_body()
        hashing = Hashing(name for name, _ in digests) if digests else None
        written = yield from store(holder, share, read, length, hashing, chunk_size)
        try:
            if hashing is not None:
                hashing.require(digests)
                digests = hashing.digests()
            ticket = yield from attempts.enter(holder, [path], caller)
            try:
                return (yield from publish(holder, share, path, written, chunk_size, mtime_ns, digests, caller, check))
            finally:
                holder.gates.leave(ticket)
        finally:
            written.end()


def look(
    holder: Holder, view: IndexView, path: Path, condition: Condition, caller: Caller
) -> tuple[Entry | None, Entry]:
    """(the file that is at a path, its collection), if one may be written there."""
    existing = tree.resolve(view, path)
    condition(existing)
    if existing is not None and existing.is_directory:
        raise AlreadyExists(f"/{'/'.join(path)} is a collection; PUT makes files")
    parent = tree.require_parent(view, path)
    tree.require_unlocked(holder.locks(), caller, path, membership=existing is None, members=False)
    return existing, parent


def answer(reply: list[Any]) -> tuple[Entry, bool]:
    """What a PUT is answered, out of its record: when it is sent again, the path may hold something else or nothing."""
    created, entry = reply
    return Entry(*entry), bool(created)


def publish(
    holder: Holder,
    share: Share,
    path: Path,
    written: Written,
    chunk_size: int,
    mtime_ns: int | None,
    digests: Digests,
    caller: Caller,
    check: Callable[[IndexView], tuple[Entry | None, Entry]],
) -> Protocol_[tuple[Entry, bool]]:
    """Show chunks that are stored as a file at ``path``, by one record; for whoever came in by ``attempts.enter``."""
    yield from written.renew()
    now = holder.site.clock.wall_ns()
    manifest = yield from manifest_of(holder, written.chunks, chunk_size, now if mtime_ns is None else mtime_ns)
    manifest = replace(manifest, digests=digests)

    def prepare(view: IndexView) -> Build:
        written.check()
        existing, parent = check(view)
        replaced = existing.size if existing is not None else 0
        if replaced < share.credit:
            share.credit = replaced
            share.take(0, view)  # less is replaced than there was when it began
        held = view.manifest(existing.inode) if existing is not None else None
        kept = versions.to_keep(holder, view, share, path, existing, held, manifest.etag)
        copy = attempts.copy_to_remove(holder, view, caller, manifest.etag)

        def build(edits: Edits) -> list[Any]:
            if existing is None:
                inode = edits.create(parent.inode, path[-1], FILE, now)
                entry = Entry(inode, parent.inode, path[-1], FILE, edits.version, now, manifest.mtime_ns)
            else:
                entry = existing
                if kept is not None:
                    edits.keep(existing, kept, path)
            edits.write(entry.inode, manifest, held[0] if held is not None else None)
            if copy is not None:
                attempts.remove(edits, copy)
            entry = replace(entry, mtime_ns=manifest.mtime_ns, size=manifest.size, etag=manifest.etag)
            return [existing is None, list(astuple(entry))]

        return build

    return answer((yield from change_gated(holder, caller, prepare, written.attachments)))


def manifest_of(holder: Holder, chunks: tuple[ChunkRef, ...], chunk_size: int, mtime_ns: int) -> Protocol_[Manifest]:
    """The manifest for chunks that are stored; a large file's segments are written ahead of it."""
    manifest, segments = make_manifest(chunks, chunk_size, mtime_ns, etag_of(chunk_size, chunks), "ahead")
    if segments:
        manifest = replace(manifest, content=(yield from write_ahead(holder, segments)))
    return manifest


def store(
    holder: Holder, share: Share, read: Reader, length: int | None, hashing: Hashing | None, chunk_size: int
) -> Protocol_[Written]:
    """Take the body in, chunk by chunk, in a bounded window; run it through ``hashing`` on the way. Each chunk is
    reserved in ``share`` before it is written."""
    policy = holder.state().policy
    seed = holder.site.random.token(8).hex()

    def reading(size: int) -> bytes:
        holder.used_at = holder.site.clock.now()  # a slow upload keeps its volume
        block = read(size)
        if hashing is not None:
            hashing.update(block)
        return block

    data = fill(reading, chunk_size)
    if not data:
        _check_length(0, length)
        return Written(())
    if len(data) <= SMALL_BYTES and len(data) < chunk_size:  # a full chunk may have others behind it
        nodes, _ = targets(holder.site, policy, holder.credentials.volume, seed, 0)
        if may_travel(policy.write_quorum, nodes, holder.state().replicas):
            _check_length(len(data), length)
            share.take(len(data))
            digest = digest_of(data)
            return Written((ChunkRef(digest, len(data), tuple(nodes)),), (Attachment(digest, data),))
    upload = Upload(holder.site, holder.credentials, policy, seed)
    total = 0
    try:
        while data:
            holder.check_lease()
            total += len(data)
            share.take(len(data))
            yield from upload.write(data)
            data = fill(reading, chunk_size) if len(data) == chunk_size else b""
        _check_length(total, length)
        return Written((yield from upload.finish()), upload=upload)
    except BaseException:
        upload.end()  # an error's traceback may keep it for long
        raise


def may_travel(write_quorum: int, nodes: Sequence[str], replicas: Sequence[str]) -> bool:
    """Whether a small chunk for these nodes may travel with its record: the majority that logs the record before it is
    acknowledged has to be a write quorum of the chunk."""
    return set(nodes) == set(replicas) and write_quorum <= len(replicas) // 2 + 1


def fill(read: Reader, size: int) -> bytes:
    """Read until ``size`` bytes are there or the body ends."""
    blocks: list[bytes] = []
    missing = size
    while missing:
        block = read(min(missing, READ_BYTES))
        if not block:
            break
        blocks.append(block)
        missing -= len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _check_length(got: int, announced: int | None) -> None:
    if announced is not None and got != announced:
        raise IncompleteBody(f"{announced} bytes were announced and {got} came; nothing was changed")


def write_ahead(holder: Holder, segments: Sequence[Segment]) -> Protocol_[str]:
    """Write a large file's segments under a fresh content id, which no manifest names yet; that id."""
    content: list[str] = []
    for first in range(0, len(segments), SEGMENTS_IN_RECORD):
        run = segments[first : first + SEGMENTS_IN_RECORD]

        def build(edits: Edits, run: Sequence[Segment] = run) -> None:
            if not content:
                content.append(edits.new_inode())
            edits.write_segments(content[0], run)

        yield from holder.commit(build, "")
    return content[0]


# --- reading --------------------------------------------------------------------------------------------------------


class OpenFile:
    """One version of a file: its chunk list was read once, and chunks are immutable."""

    def __init__(self, holder: Holder, entry: Entry, manifest: Manifest | None) -> None:
        self.entry = entry
        self._holder = holder
        self._manifest = manifest
        self._segments: dict[int, tuple[ChunkRef, ...]] = {}
        self._orphaned_at = 0.0  # when it was first read after its holder had ended
        self._use = holder.site.in_use.begin(holder.credentials.volume)
        if manifest is not None:
            self._use.add(of_manifest(manifest))

    @property
    def chunk_size(self) -> int:
        return self._manifest.chunk_size if self._manifest is not None else 1

    @property
    def digests(self) -> Digests:
        return self._manifest.digests if self._manifest is not None else ()

    def chunk(self, number: int) -> ChunkRef:
        """The reference of one chunk; segments of large files are read when they are needed."""
        manifest = self._manifest
        if manifest is None:
            raise CorruptData(f"the file {self.entry.name!r} has no manifest")
        if not manifest.segments:
            return manifest.chunks[number]
        segment, place = divmod(number, CHUNKS_PER_SEGMENT)
        if segment not in self._segments:
            with self._holder.replica.store.view() as view:
                stored = view.segment(manifest.content_of(segment), segment)
            if stored is None:
                raise CorruptData(f"segment {segment} of the file {self.entry.name!r} is missing")
            self._segments = {segment: values.decode_segment(stored[1])}  # one at a time: memory stays bounded
        return self._segments[segment][place]

    def read_span(self, span: Span) -> Protocol_[memoryview]:
        """The bytes of one span, verified."""
        holder = self._holder
        holder.used_at = now = holder.site.clock.now()
        if holder.log.stopped:
            # The next holder's collector knows nothing of this reader: it must end before what it reads is deleted.
            self._orphaned_at = self._orphaned_at or now
            if now - self._orphaned_at > holder.site.timing.quarantine / 2:
                raise LeaseLost("the volume was taken over long ago; open the file anew", holder=None)
        quorum = holder.state().policy.read_quorum
        data = yield from read_chunk(holder.site, holder.credentials.volume, self.chunk(span.number), quorum)
        return memoryview(data)[span.start : span.stop]
