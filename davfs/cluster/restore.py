"""Entries out of an archive: many files and directories with all that they had, in one record.

What is in the way decides ``Mode``: an archive never replaces anything unless it is told to. Directories that an entry needs
and nobody names are made. A file appears complete, with its times and properties, or not at all.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from davfs.cluster import tree, versions
from davfs.cluster.api import Caller
from davfs.cluster.changes import Build, change_gated, require_space
from davfs.cluster.chunk_write import Upload
from davfs.cluster.files import Written, manifest_of, store
from davfs.cluster.holder import Holder
from davfs.cluster.quota import Share
from davfs.core.canonical import place
from davfs.core.digests import Digests, Hashing
from davfs.core.effects import Protocol_
from davfs.core.errors import AlreadyExists, Forbidden, InvalidInput
from davfs.core.model import DIRECTORY, FILE, ROOT, ChunkRef, Entry, Manifest, Path
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView


class Mode(Enum):
    """What becomes of an entry whose name is taken. A directory that is there is no obstacle: it gets the new
    members, and the properties that it does not have."""

    REFUSE = "refuse"
    KEEP = "keep"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Item:
    """One entry. A file has its bytes in ``data``, or is stored already in ``chunks``.

    Without ``properties`` (None) it is only the time of a directory that is there.
    """

    path: Path
    kind: str
    mtime_ns: int
    created_ns: int | None = None
    properties: Mapping[str, str] | None = field(default_factory=dict)
    data: bytes = b""
    chunks: tuple[ChunkRef, ...] = ()
    digests: Digests = ()


def store_chunk(holder: Holder, data: bytes, seed: str, number: int) -> Protocol_[ChunkRef]:
    """One chunk of a large file, durable on W nodes; ``seed`` spreads the chunks of a file over the nodes."""
    holder.check_lease()
    require_space(holder, len(data))
    with holder.quota.share(holder.state().policy.quota) as share:
        share.require(len(data))  # its file's record reserves it
    upload = Upload(holder.site, holder.credentials, holder.state().policy, seed)
    yield from upload.write(data, number)
    (made,) = yield from upload.finish()
    return made


def restore(holder: Holder, items: Sequence[Item], mode: Mode, caller: Caller) -> Protocol_[list[str]]:
    """Make the entries, all or none; of each whether it was ``created``, ``replaced`` or ``kept``.

    :class:`AlreadyExists` names what is in the way. A file never takes the place of a directory, nor the other way round.
    """
    holder.check_lease()
    require_space(holder, sum(len(item.data) for item in items))
    with holder.quota.share(holder.state().policy.quota) as share:
        contents = []
        for item in items:
            contents.append((yield from _content(holder, share, item)))
        return (yield from _restore(holder, share, items, contents, mode, caller))


def _restore(
    holder: Holder,
    share: Share,
    items: Sequence[Item],
    contents: Sequence[tuple[Written, Manifest | None]],
    mode: Mode,
    caller: Caller,
) -> Protocol_[list[str]]:
    ticket = yield from holder.gates.enter([item.path for item in items], holder.site.timing.gate)
    try:
        attachments = [piece for written, _ in contents for piece in written.attachments]
        plan = _Plan(holder, share, items, [manifest for _, manifest in contents], mode, caller)

        def prepare(view: IndexView) -> Build:
            for written, _ in contents:
                written.check()
            return plan.prepare(view)

        done: list[str] = yield from change_gated(holder, caller, prepare, attachments)
        return done
    finally:
        holder.gates.leave(ticket)


def _content(holder: Holder, share: Share, item: Item) -> Protocol_[tuple[Written, Manifest | None]]:
    if item.kind == DIRECTORY:
        return Written(()), None
    written = Written(item.chunks)
    share.take(sum(chunk.size for chunk in item.chunks))
    if not item.chunks:
        hashing = Hashing(name for name, _ in item.digests) if item.digests else None
        chunk_size = holder.state().policy.chunk_size
        written = yield from store(holder, share, io.BytesIO(item.data).read, len(item.data), hashing, chunk_size)
        if hashing is not None:
            hashing.require(item.digests)
    manifest = yield from manifest_of(holder, written.chunks, holder.state().policy.chunk_size, item.mtime_ns)
    return written, replace(manifest, digests=item.digests)


class _Plan:
    """What one record is to do, made from one committed state."""

    def __init__(
        self,
        holder: Holder,
        share: Share,
        items: Sequence[Item],
        manifests: Sequence[Manifest | None],
        mode: Mode,
        caller: Caller,
    ) -> None:
        self._holder = holder
        self._share = share
        self._items = items
        self._manifests = manifests
        self._mode = mode
        self._caller = caller
        self._steps: list[Callable[[Edits], None]] = []
        self._done: list[str] = []
        self._made: dict[Path, list[str]] = {}  # directories of this record, with their inodes once it is built
        self._files: set[Path] = set()

    def prepare(self, view: IndexView) -> Build:
        for item, manifest in zip(self._items, self._manifests, strict=True):
            self._done.append(self._plan(view, item, manifest))

        def build(edits: Edits) -> Any:
            for step in self._steps:
                step(edits)
            return self._done

        return build

    def _plan(self, view: IndexView, item: Item, manifest: Manifest | None) -> str:
        tree.refuse_trash(item.path)
        at = place(item.path)
        again = at in self._made
        existing = None if again else tree.resolve(view, item.path)
        if at in self._files:
            raise InvalidInput(f"/{'/'.join(item.path)} comes twice in one request")
        tree.require_unlocked(
            self._holder.locks(), self._caller, item.path, membership=existing is None and not again, members=False
        )
        if again:
            return "kept" if item.kind == DIRECTORY else self._in_the_way(item, DIRECTORY)
        if existing is not None:
            if existing.kind != item.kind:
                return self._in_the_way(item, existing.kind)
            return self._replace(view, item, existing, manifest)
        if item.properties is None:
            return "kept"
        properties = item.properties
        parent = self._directory(view, item.path[:-1])
        now = self._holder.site.clock.wall_ns()
        created = now if item.created_ns is None else item.created_ns
        box: list[str] = []
        if item.kind == DIRECTORY:
            self._made[at] = box
        else:
            self._files.add(at)

        def make(edits: Edits) -> None:
            box.append(edits.create(parent[0], item.path[-1], item.kind, created, _given(item)))
            if manifest is not None:
                edits.write(box[0], manifest, None)
            edits.set_properties(box[0], properties, (), {})

        self._steps.append(make)
        return "created"

    def _replace(self, view: IndexView, item: Item, existing: Entry, manifest: Manifest | None) -> str:
        old = view.properties(existing.inode)
        if self._mode is not Mode.REPLACE and item.kind == DIRECTORY:
            fresh = {name: xml for name, xml in (item.properties or {}).items() if name not in old}
            self._steps.append(lambda edits: edits.set_properties(existing.inode, fresh, (), old))
            return "kept"
        if self._mode is Mode.KEEP:
            return "kept"
        if self._mode is Mode.REFUSE:
            raise AlreadyExists(f"/{'/'.join(item.path)} is there already; nothing was replaced", path=list(item.path))
        held = view.manifest(existing.inode)
        etag = manifest.etag if manifest is not None else ""
        kept = versions.to_keep(self._holder, view, self._share, item.path, existing, held, etag)
        wanted = item.properties if item.properties is not None else {name: xml for name, (_, xml) in old.items()}
        gone = [name for name in old if name not in wanted]
        changed = {name: xml for name, xml in wanted.items() if name not in old or old[name][1] != xml}

        def write(edits: Edits) -> None:
            if kept is not None:
                edits.keep(existing, kept, item.path)
            if manifest is not None:
                edits.write(existing.inode, manifest, held[0] if held is not None else None)
            if existing.inode != ROOT:
                made = existing if item.created_ns is None else replace(existing, created_ns=item.created_ns)
                edits.rename(made, existing.parent, existing.name, _given(item))
            edits.set_properties(existing.inode, changed, gone, old)

        self._steps.append(write)
        return "replaced"

    def _in_the_way(self, item: Item, kind: str) -> str:
        if self._mode is Mode.KEEP:
            return "kept"
        what = "a directory" if kind == DIRECTORY else "a file"
        raise AlreadyExists(f"/{'/'.join(item.path)} is {what} and not what the archive has there", path=list(item.path))

    def _directory(self, view: IndexView, path: Path) -> list[str]:
        """Where the inode of a directory stands; the directory is made, with those above it, if it is not there."""
        at = place(path)
        if at in self._made:
            return self._made[at]
        existing = tree.resolve(view, path)
        if existing is not None or at in self._files:
            if existing is None or existing.kind == FILE:
                raise Forbidden(f"/{'/'.join(path)} is a file, and the archive has something inside it", path=list(path))
            return [existing.inode]
        parent = self._directory(view, path[:-1])
        box = self._made[at] = []
        now = self._holder.site.clock.wall_ns()
        self._steps.append(lambda edits: box.append(edits.create(parent[0], path[-1], DIRECTORY, now)))
        return box


def _given(item: Item) -> int | None:
    """The time that a name entry is to carry: a directory's own; a file's is in its manifest."""
    return item.mtime_ns if item.kind == DIRECTORY else None
