"""Uploads in parts: files that wait below a hidden collection until one record puts them together at their place.

Parts are files like any others, so they are as safe, survive a takeover and are listed by a client that goes on. Where
they were all cut at the same chunk size, putting them together names their chunks again and copies no byte.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from davfs.cluster import attempts, files, tree
from davfs.cluster.api import Caller, Condition, Reader
from davfs.cluster.changes import require_space
from davfs.cluster.chunk_read import read_chunk
from davfs.cluster.chunk_write import Upload
from davfs.cluster.holder import Holder
from davfs.cluster.positions import MOST_CHUNKS
from davfs.core.chunking import even_chunk_size
from davfs.core.digests import Digests, Hashing
from davfs.core.effects import Protocol_, Sleep
from davfs.core.errors import DavfsError, InvalidInput, NotFound, PreconditionFailed
from davfs.core.keys import MANIFEST, NAME
from davfs.core.model import HIDDEN, MIB, UPLOADS, ChunkRef, Entry, Manifest, Path
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView

log = logging.getLogger(__name__)

MOST_PARTS = 10_000
EXPIRES_S = 24 * 3600
"""An upload that got no part for so long is removed."""

LOOK_EVERY_S = 600.0
_PAUSE_S = 2.0
REMOVED_AT_ONCE = 256
SMALLEST_JOINED = MIB
"""Chunks smaller than this are put together into the volume's usual ones, unless the volume's are as small."""

_NUMBER = re.compile(r"\d{1,18}")


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it is stored."""

    entry: Entry
    version: str
    manifest: Manifest


def put_part(
    holder: Holder,
    path: Path,
    read: Reader,
    length: int | None,
    digests: Digests,
    condition: Condition,
    caller: Caller,
    expected: int | None = None,
) -> Protocol_[tuple[Entry, bool]]:
    """Store one part. All parts of an upload are cut alike, so that they fit each other, as far as their sizes allow.

    ``expected``: bytes that may come, where ``length`` is None because fewer will do.
    """
    largest = holder.state().policy.chunk_size
    with holder.replica.store.view() as view:
        parts = _parts(view, path[:-1])
    cut = {part.manifest.chunk_size for part in parts}
    chunk_size = cut.pop() if len(cut) == 1 else even_chunk_size(length or expected or 0, largest, SMALLEST_JOINED)
    return (
        yield from files.put(
            holder, path, read, length, None, condition, caller, lambda: None, digests, min(chunk_size, largest)
        )
    )


def assemble(
    holder: Holder,
    source: Path,
    target: Path,
    overwrite: bool,
    total: int | None,
    digests: Digests,
    mtime_ns: int | None,
    condition: Condition,
    caller: Caller,
) -> Protocol_[tuple[Entry, bool]]:
    """Put the parts below ``source`` together at ``target``, in the order of their numbers; (entry, whether it is new).

    ``total``: bytes that there must be; ``digests``: checksums that the whole must have. The parts go afterwards.
    """
    holder.check_lease()

    def check(view: IndexView) -> tuple[Entry | None, Entry]:
        existing, parent = files.look(holder, view, target, condition, caller)
        if existing is not None and not overwrite:
            raise PreconditionFailed(f"/{'/'.join(target)} exists and Overwrite is F")
        return existing, parent

    with holder.replica.store.view() as view:
        done = view.reply(caller.request_id) if caller.request_id else None
        if done is not None:
            return files.answer(done[0])
        tree.require_directory(view, source)
        parts = _parts(view, source)
        check(view)
    size = sum(part.manifest.size for part in parts)
    if total is not None and total != size:
        raise InvalidInput(f"the parts have {size} bytes together, and {total} were announced; nothing was changed")
    holder.require_majority()
    hashing = Hashing(name for name, _ in digests) if digests else None
    written, chunk_size = yield from _joined(holder, parts, hashing)
    if hashing is not None:
        hashing.require(digests)
        digests = hashing.digests()

    ticket = yield from attempts.enter(holder, [source, target], caller)
    try:
        with holder.replica.store.view() as view:
            if [(p.entry.inode, p.version) for p in _parts(view, source)] != [(p.entry.inode, p.version) for p in parts]:
                raise PreconditionFailed("a part changed while the parts were put together; nothing was changed")
        with holder.quota.share(holder.state().policy.quota) as share:
            with holder.replica.store.view() as view:
                existing, _ = check(view)
            replaced = existing.size if existing is not None else 0
            share.credit = size + replaced  # the parts go as soon as they are put together
            share.take(size)
            share.credit = replaced
            result = yield from files.publish(
                holder, share, target, written, chunk_size, mtime_ns, digests, caller, check
            )
        yield from _remove(holder, source)
    finally:
        holder.gates.leave(ticket)
        written.end()
    return result


def remove(holder: Holder, path: Path, condition: Condition) -> Protocol_[None]:
    """Give an upload, or one part of it, up for good; :class:`NotFound` if there is none."""
    holder.check_lease()
    ticket = yield from holder.gates.enter([path], holder.site.timing.gate)
    try:
        with holder.replica.store.view() as view:
            condition(tree.resolve(view, path))
            tree.require(view, path)
        yield from _remove(holder, path)
    finally:
        holder.gates.leave(ticket)


def expired(view: IndexView, now_ns: int) -> list[tuple[str, str]]:
    """(account, name) of the uploads that nobody goes on with, by the wall clock of the holders that took their parts."""
    before = now_ns - EXPIRES_S * 1_000_000_000
    return [
        (account.name, upload.name)
        for account in view.children(UPLOADS)
        for upload in view.children(account.inode)
        if upload.mtime_ns < before
    ]


def expire(holder: Holder, over: Callable[[], bool] = lambda: False) -> Protocol_[int]:
    """Remove the uploads that nobody goes on with; how many."""
    with holder.replica.store.view() as view:
        old = expired(view, holder.site.clock.wall_ns())
    count = 0
    for account, name in old:
        if over():
            break
        try:
            yield from remove(holder, (HIDDEN, account, name), lambda entry: None)
            count += 1
        except NotFound:
            continue
    return count


def keep_expiring(held: Callable[[], Sequence[Holder]], stopped: Callable[[], bool]) -> Protocol_[None]:
    """The background task of a node: expire the uploads of the volumes that it holds. In one that nobody holds
    the collector does it (``collector_runs.py``)."""
    slept = 0.0
    while not stopped():
        yield Sleep(_PAUSE_S)
        slept += _PAUSE_S
        if slept < LOOK_EVERY_S:
            continue
        slept = 0.0
        for holder in held():
            try:
                count = yield from expire(holder, stopped)
                if count:
                    log.info("volume %s: %d uploads that nobody went on with were removed", holder.credentials.volume, count)
            except DavfsError as error:
                log.info("volume %s: uploads expire later: %s", holder.credentials.volume, error)


# --- inside -----------------------------------------------------------------------------------------------------------


def _parts(view: IndexView, path: Path) -> list[Part]:
    """The parts of an upload in their order: by the number that a name begins with, then by name. A dot in front: no part."""
    top = tree.resolve(view, path)
    if top is None:
        return []
    found = []
    for entry in view.children(top.inode):
        held = view.manifest(entry.inode)
        if held is not None and not entry.name.startswith("."):
            found.append(Part(entry, *held))
    if len(found) > MOST_PARTS:
        raise InvalidInput(f"an upload has {MOST_PARTS} parts at most")
    return sorted(found, key=lambda part: _order(part.entry.name))


def _order(name: str) -> tuple[int, str]:
    number = _NUMBER.match(name)
    return (int(number[0]) if number else -1, name)


def _joined(holder: Holder, parts: Sequence[Part], hashing: Hashing | None) -> Protocol_[tuple[files.Written, int]]:
    """The chunks of the whole and their size: those of the parts if they fit, else new ones."""
    full = [part for part in parts if part.manifest.size]
    fits = _common_size(full, holder.state().policy.chunk_size)
    if fits:
        chunks = tuple(chunk for part in full for chunk in _chunks(holder, part))
        if hashing is not None:
            for chunk in chunks:
                holder.check_lease()
                hashing.update((yield from read_chunk(holder.site, holder.credentials.volume, chunk)))
        _check_count(len(chunks))
        return files.Written(chunks), fits
    chunk_size = holder.state().policy.chunk_size
    _check_count(sum(part.manifest.size for part in full) // chunk_size)
    require_space(holder, sum(part.manifest.size for part in full))
    upload = Upload(holder.site, holder.credentials, holder.state().policy, holder.site.random.token(8).hex())
    rest = bytearray()
    for part in full:
        for chunk in _chunks(holder, part):
            holder.check_lease()
            data = yield from read_chunk(holder.site, holder.credentials.volume, chunk)
            if hashing is not None:
                hashing.update(data)
            rest += data
            while len(rest) >= chunk_size:
                yield from upload.write(bytes(rest[:chunk_size]))
                del rest[:chunk_size]
    if rest:
        yield from upload.write(bytes(rest))
    return files.Written((yield from upload.finish()), upload=upload), chunk_size


def _check_count(chunks: int) -> None:
    if chunks > MOST_CHUNKS:
        raise InvalidInput(f"a file has {MOST_CHUNKS} chunks at most; send larger parts")


def _common_size(parts: Sequence[Part], usual: int) -> int:
    """The chunk size at which the parts' chunks are those of the whole, 0 if they are not."""
    if not parts:
        return usual
    size = parts[0].manifest.chunk_size
    if len(parts) > 1 and size < min(usual, SMALLEST_JOINED):
        return 0
    for part in parts[:-1]:
        if part.manifest.chunk_size != size or part.manifest.size % size:
            return 0
    last = parts[-1].manifest
    return size if last.chunk_size == size or last.size <= min(size, last.chunk_size) else 0


def _chunks(holder: Holder, part: Part) -> list[ChunkRef]:
    manifest = part.manifest
    file = files.OpenFile(holder, part.entry, manifest)
    return [file.chunk(number) for number in range(-(-manifest.size // manifest.chunk_size))]


def _remove(holder: Holder, path: Path) -> Protocol_[None]:
    """Remove what is at a path and its members, some at a time; what is left after a failure expires."""
    while True:
        with holder.replica.store.view() as view:
            top = tree.resolve(view, path)
            if top is None:
                return
            members = view.children(top.inode)
            batch = [(entry, view.manifest(entry.inode)) for entry in members[:REMOVED_AT_ONCE]]
            if len(members) <= REMOVED_AT_ONCE:
                batch.append((top, view.manifest(top.inode)))

        def build(edits: Edits, batch: list[tuple[Entry, tuple[str, Manifest] | None]] = batch) -> None:
            for entry, held in batch:
                if held is not None:
                    edits.delete(MANIFEST, entry.inode, held[0])
                edits.delete(NAME, entry.inode, entry.version)

        yield from holder.commit(build, "")
