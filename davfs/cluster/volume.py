"""A volume that this node holds, as the DAV side uses it: blocking calls around the flows (``api.Volume``)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from davfs.cluster import (
    changelog,
    changes,
    copying,
    dav_locks,
    entering,
    files,
    partial,
    rehash,
    space,
    trash_view,
    tree,
    uploads,
)
from davfs.cluster.api import Caller, ChangePage, Condition, LockRequest, PartPlace, Reader
from davfs.cluster.holder import Holder
from davfs.cluster.reading import HeldContent
from davfs.cluster.sessions import Visit
from davfs.cluster.threads import ThreadRuntime
from davfs.core import locks
from davfs.core.digests import Digests
from davfs.core.errors import Forbidden, NotACollection, NotFound
from davfs.core.model import DavLock, Entry, Manifest, Path, VolumeInfo
from davfs.core.names import TRASH_NAME
from davfs.core.ports import IndexView
from davfs.core.sessions import SessionKey

SHORT = 4
"""Chunks of a file whose manifest may be kept in memory for who opens it next."""


def _is_short(file: tuple[Entry, Manifest | None]) -> bool:
    return file[1] is None or len(file[1].chunks) <= SHORT


class HeldVolume:
    """The volume of one :class:`Holder` (``api.Volume``)."""

    def __init__(self, runtime: ThreadRuntime, holder: Holder) -> None:
        self._runtime = runtime
        self._holder = holder
        self._store = holder.replica.store

    @property
    def info(self) -> VolumeInfo:
        return self._holder.state().info()

    @property
    def alone(self) -> bool:
        return self._holder.alone

    def enter(self, session: SessionKey, through: str) -> Visit:
        return self._runtime.run(entering.enter(self._holder, session, through))

    # --- reads ------------------------------------------------------------------------------------------------------

    def lookup(self, path: Path) -> Entry | None:
        self._holder.check_lease()
        return self._store.remembered(("entry", path), lambda view: trash_view.find(view, path))

    def children(self, path: Path) -> list[Entry]:
        self._holder.check_lease()
        if path == (TRASH_NAME,):
            return [entry for entry, _ in trash_view.members(self._store.view)]
        with self._store.view() as view:
            return view.children(self._directory(view, path).inode)

    def properties(self, entry: Entry) -> Mapping[str, str]:
        self._holder.check_lease()

        def read(view: IndexView) -> Mapping[str, str]:
            return {name: xml for name, (_, xml) in view.properties(entry.inode).items()}

        return self._store.remembered(("properties", entry.inode), read, lambda found: not found)

    def members(self, path: Path) -> Iterator[tuple[Entry, Mapping[str, str]]]:
        self._holder.check_lease()
        if path == (TRASH_NAME,):
            return trash_view.members(self._store.view)
        with self._store.view() as view:
            return view.members(self._directory(view, path).inode)

    def digests(self, entry: Entry) -> Digests:
        self._holder.check_lease()
        return self._store.remembered(("digests", entry.inode), lambda view: view.digests(entry.inode))

    def members_digests(self, path: Path) -> Mapping[str, Digests]:
        self._holder.check_lease()
        with self._store.view() as view:
            return view.members_digests(self._directory(view, path).inode)

    def open(self, path: Path) -> HeldContent:
        self._holder.check_lease()

        def read(view: IndexView) -> tuple[Entry, Manifest | None]:
            entry = self._require(view, path)
            if entry.is_directory:
                raise Forbidden("a collection has no content")
            held = view.manifest(entry.inode)
            return entry, held[1] if held is not None else None

        entry, manifest = self._store.remembered(("file", path), read, _is_short)
        return HeldContent(self._runtime, files.OpenFile(self._holder, entry, manifest))

    @staticmethod
    def _require(view: IndexView, path: Path) -> Entry:
        """The entry at a path, of the trash too."""
        if not trash_view.in_trash(path):
            return tree.require(view, path)
        entry = trash_view.resolve(view, path)
        if entry is None:
            raise NotFound(f"there is nothing at /{'/'.join(path)}")
        return entry

    def _directory(self, view: IndexView, path: Path) -> Entry:
        entry = self._require(view, path)
        if not entry.is_directory:
            raise NotACollection(f"/{'/'.join(path)} is a file")
        return entry

    def sync_token(self) -> str:
        self._holder.check_lease()
        with self._store.view() as view:
            return changelog.token_now(view, self._holder.credentials.volume)

    def changes(self, path: Path, token: str, *, deep: bool, limit: int) -> ChangePage:
        self._holder.check_lease()
        with self._store.view() as view:
            top = tree.require_directory(view, path).inode
            return changelog.page(view, self._holder.credentials.volume, top, token, deep, limit)

    def quota(self) -> tuple[int, int]:
        self._holder.check_lease()
        return self._runtime.run(space.available(self._holder))

    # --- changes ----------------------------------------------------------------------------------------------------

    def put(
        self,
        path: Path,
        read: Reader,
        length: int | None,
        *,
        mtime_ns: int | None,
        condition: Condition,
        caller: Caller,
        before_body: Callable[[], None] = lambda: None,
        digests: Digests = (),
    ) -> tuple[Entry, bool]:
        return self._runtime.run(
            files.put(self._holder, path, read, length, mtime_ns, condition, caller, before_body, digests)
        )

    def put_upload(
        self,
        path: Path,
        read: Reader,
        length: int | None,
        *,
        digests: Digests,
        condition: Condition,
        caller: Caller,
        expected: int | None = None,
    ) -> tuple[Entry, bool]:
        return self._runtime.run(uploads.put_part(self._holder, path, read, length, digests, condition, caller, expected))

    def assemble(
        self,
        source: Path,
        target: Path,
        *,
        overwrite: bool,
        total: int | None,
        digests: Digests,
        mtime_ns: int | None,
        condition: Condition,
        caller: Caller,
    ) -> tuple[Entry, bool]:
        return self._runtime.run(
            uploads.assemble(
                self._holder, source, target, overwrite, total, digests, mtime_ns, condition, caller
            )
        )

    def give_up(self, path: Path, *, condition: Condition, caller: Caller) -> None:
        self._runtime.run(uploads.remove(self._holder, path, condition))

    def keep_digests(
        self, path: Path, algorithms: Sequence[str], *, condition: Condition, caller: Caller
    ) -> Digests:
        return self._runtime.run(rehash.keep_digests(self._holder, path, algorithms, condition, caller))

    def write_part(
        self,
        path: Path,
        place: PartPlace,
        read: Reader,
        length: int,
        *,
        mtime_ns: int | None,
        condition: Condition,
        caller: Caller,
        before_body: Callable[[], None] = lambda: None,
    ) -> Entry:
        return self._runtime.run(
            partial.write(self._holder, path, place, read, length, mtime_ns, condition, caller, before_body)
        )

    def mkcol(self, path: Path, *, condition: Condition, caller: Caller, mtime_ns: int | None = None) -> Entry:
        return self._runtime.run(changes.mkcol(self._holder, path, condition, caller, mtime_ns))

    def delete(self, path: Path, *, condition: Condition, caller: Caller) -> None:
        self._runtime.run(changes.delete(self._holder, path, condition, caller))

    def move(
        self,
        source: Path,
        target: Path,
        *,
        overwrite: bool,
        condition: Condition,
        caller: Caller,
        mtime_ns: int | None = None,
    ) -> bool:
        return self._runtime.run(changes.move(self._holder, source, target, overwrite, condition, caller, mtime_ns))

    def copy(
        self,
        source: Path,
        target: Path,
        *,
        overwrite: bool,
        shallow: bool,
        condition: Condition,
        caller: Caller,
        mtime_ns: int | None = None,
    ) -> bool:
        return self._runtime.run(
            copying.copy(self._holder, source, target, overwrite, shallow, condition, caller, mtime_ns)
        )

    def proppatch(
        self,
        path: Path,
        sets: Mapping[str, str],
        removes: Collection[str],
        *,
        condition: Condition,
        caller: Caller,
        mtime_ns: int | None = None,
    ) -> None:
        self._runtime.run(changes.proppatch(self._holder, path, sets, removes, condition, caller, mtime_ns))

    # --- locks ------------------------------------------------------------------------------------------------------

    def locks(self, path: Path) -> Sequence[DavLock]:
        return locks.covering(self._holder.locks(), path)

    def locks_below(self, path: Path) -> Sequence[DavLock]:
        return locks.below(self._holder.locks(), path)

    def lock(
        self, path: Path, request: LockRequest, *, condition: Condition, caller: Caller
    ) -> tuple[DavLock, bool]:
        return self._runtime.run(dav_locks.lock(self._holder, path, request, condition, caller))

    def refresh_lock(self, path: Path, token: str, timeout_s: int, *, caller: Caller) -> DavLock:
        return self._runtime.run(dav_locks.refresh(self._holder, path, token, timeout_s, caller))

    def unlock(self, path: Path, token: str, *, caller: Caller) -> None:
        self._runtime.run(dav_locks.unlock(self._holder, path, token, caller))
