"""A client that syncs (RFC 6578) has what the volume has, whatever happened since it last asked, page by page too.

And the marks that this is made of do not depend on how records are cut into transactions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from davfs.cluster import changelog
from davfs.core import keys
from davfs.core.errors import LimitTooSmall, SyncTokenInvalid
from davfs.core.model import DIRECTORY, FILE, ROOT, TRASH, Entry, Epoch, Manifest, Path, Position
from davfs.core.namespace import Edits
from davfs.core.ports import AppliedRecord, IndexUpdate
from davfs.core.record import OPERATION, Record, encode
from davfs.storage.replica_db import ReplicaDb

EPOCH = Epoch(1, 1)
VOLUME = "v1"
PICKS = st.integers(0, 40)
NAMES = st.sampled_from(["a", "b", "c"])
OPERATIONS = st.one_of(
    st.tuples(st.just("create"), PICKS, NAMES, st.sampled_from([DIRECTORY, FILE])),
    st.tuples(st.just("write"), PICKS, st.integers(0, 3)),
    st.tuples(st.just("property"), PICKS, NAMES),
    st.tuples(st.just("move"), PICKS, PICKS, NAMES),
    st.tuples(st.just("delete"), PICKS),
    st.tuples(st.just("restore"), PICKS, PICKS, NAMES),
    st.tuples(st.just("purge"), PICKS),
    st.tuples(st.just("sync"), st.integers(6, 12), st.integers(1, 3)),  # limit, pages at most
)


@dataclass
class Mirror:
    """What a client has of a collection, by path: inode and etag."""

    deep: bool
    token: str = ""
    known: dict[Path, tuple[str, str]] = field(default_factory=dict)

    def pull(self, store: ReplicaDb, top: str, limit: int, pages: int) -> bool:
        """Ask for some pages; whether that was all."""
        for _ in range(pages):
            with store.view() as view:
                try:
                    page = changelog.page(view, VOLUME, top, self.token, self.deep, limit)
                except SyncTokenInvalid:
                    self.token = ""
                    self.known = {}
                    continue
                except LimitTooSmall:
                    limit = 1000
                    continue
            assert len(page.members) <= limit
            assert page.token != self.token or not page.truncated
            self.token = page.token
            for path, entry in sorted(page.members.items()):
                if entry is None or not entry.is_directory:
                    self.known = {p: e for p, e in self.known.items() if p[: len(path)] != path}
                if entry is not None:
                    self.known[path] = (entry.inode, entry.etag)
            if not page.truncated:
                return True
        return False


class Volume:
    """Records entered into stores that cut them into transactions differently."""

    def __init__(self) -> None:
        self.stores = [ReplicaDb(":memory:"), ReplicaDb(":memory:")]
        self._waiting: list[AppliedRecord] = []
        self._seq = 0

    @property
    def store(self) -> ReplicaDb:
        return self.stores[0]

    def do(self, edits: Edits) -> None:
        self._seq += 1
        updates = []
        for document in edits.documents.values():
            updates += [IndexUpdate(key, value) for key, value in document.puts]
            updates += [IndexUpdate(key, None) for key in document.deletes]
        record = Record(VOLUME, edits.at, OPERATION, "", at_ns=self._seq)
        for store in self.stores:
            store.append([(record.position, encode(record))], None)
        self.store.commit([AppliedRecord(record, [], updates)])
        self._waiting.append(AppliedRecord(record, [], updates))

    def edits(self) -> Edits:
        return Edits(Position(EPOCH, self._seq + 1))

    def settle(self) -> None:
        self.stores[1].commit(self._waiting)
        self._waiting = []

    def tree(self, top: str = ROOT, *, deep: bool = True, store: int = 0) -> dict[Path, Entry]:
        with self.stores[store].view() as view:
            found: dict[Path, Entry] = {}
            work: list[tuple[str, Path]] = [(top, ())]
            while work:
                inode, path = work.pop()
                for entry in view.children(inode):
                    found[*path, entry.name] = entry
                    if entry.is_directory and deep:
                        work.append((entry.inode, (*path, entry.name)))
        return found

    def shows(self, inode: str) -> bool:
        return any(entry.inode == inode for entry in self.tree().values())

    def apply(self, operation: tuple) -> None:
        kind, *arguments = operation
        tree = sorted(self.tree().items())
        edits = self.edits()
        if kind == "create":
            where, name, what = arguments
            parent, path = self._directory(tree, where)
            if (*path, name) not in dict(tree) and len(path) < 4:
                inode = edits.create(parent, name, what, self._seq)
                if what == FILE:
                    edits.write(inode, Manifest(0, self._seq, "new", 4096), None)
                self.do(edits)
        elif kind in ("restore", "purge"):
            trash = sorted(self.tree(TRASH, deep=False).items())
            if not trash:
                return
            entry = trash[arguments[0] % len(trash)][1]
            if kind == "purge":
                self._purge(edits, entry)
            else:
                parent, path = self._directory(tree, arguments[1])
                if (*path, arguments[2]) in dict(tree) or len(path) > 2:
                    return
                edits.rename(entry, parent, arguments[2])
            self.do(edits)
        elif tree:
            path, entry = tree[arguments[0] % len(tree)]
            if kind == "write" and not entry.is_directory:
                with self.store.view() as view:
                    held = view.manifest(entry.inode)
                edits.write(entry.inode, Manifest(0, 1, f"etag-{arguments[1]}", 4096), held[0] if held else None)
            elif kind == "property":
                with self.store.view() as view:
                    edits.set_properties(entry.inode, {"{x:}y": f"<{arguments[1]}/>"}, (), view.properties(entry.inode))
            elif kind == "delete":
                edits.trash(entry, "")
            elif kind == "move":
                parent, target = self._directory(tree, arguments[1])
                new = (*target, arguments[2])
                if new[: len(path)] == path or path[: len(new)] == new:
                    return
                if new in dict(tree):
                    edits.trash(dict(tree)[new], "")
                edits.rename(entry, parent, arguments[2])
            else:
                return
            self.do(edits)

    def _purge(self, edits: Edits, entry: Entry) -> None:
        for below in self.tree(entry.inode).values():
            edits.delete(keys.NAME, below.inode, below.version)
        edits.delete(keys.NAME, entry.inode, entry.version)

    @staticmethod
    def _directory(tree: list[tuple[Path, Entry]], pick: int) -> tuple[str, Path]:
        directories = [(ROOT, ()), *((entry.inode, path) for path, entry in tree if entry.is_directory)]
        return directories[pick % len(directories)]


@settings(max_examples=80, deadline=None)
@given(st.lists(OPERATIONS, min_size=5, max_size=60), st.booleans(), st.integers(1, 7))
def test_a_client_that_syncs_has_what_is_there(operations, deep, every):
    volume = Volume()
    mirror = Mirror(deep)
    part = Mirror(deep=True)  # of one collection below the root
    edits = volume.edits()
    folder = edits.create(ROOT, "folder", DIRECTORY, 1)
    volume.do(edits)
    for number, operation in enumerate(operations):
        if operation[0] != "sync":
            volume.apply(operation)
        else:
            limit, pages = operation[1:]
            if volume.shows(folder):
                part.pull(volume.store, folder, limit, pages)
            mirror.pull(volume.store, ROOT, limit, pages)
        if number % every == 0:
            volume.settle()
    while not mirror.pull(volume.store, ROOT, 12, 5):
        pass
    assert mirror.known == {path: (e.inode, e.etag) for path, e in volume.tree(deep=deep).items()}
    if volume.shows(folder):
        while not part.pull(volume.store, folder, 12, 5):
            pass
        assert part.known == {path: (e.inode, e.etag) for path, e in volume.tree(folder).items()}
    volume.settle()
    assert volume.tree(store=1) == volume.tree()
    with volume.stores[0].view() as one, volume.stores[1].view() as two:
        assert one.entry(ROOT) == two.entry(ROOT)
        assert one.gone(0, 10_000) == two.gone(0, 10_000)
        assert one.changes(0, "", 10_000) == two.changes(0, "", 10_000)


@settings(max_examples=50, deadline=None)
@given(st.lists(OPERATIONS.filter(lambda o: o[0] != "sync"), min_size=2, max_size=25))
def test_a_collections_etag_changes_exactly_when_something_in_it_does(operations):
    volume = Volume()
    for operation in operations:
        before, seq = volume.tree(), volume.store.committed.seq
        volume.apply(operation)
        after = volume.tree()
        if volume.store.committed.seq == seq:
            assert before == after
            continue
        for path, entry in after.items():
            old = before.get(path)
            if entry.is_directory and old is not None and old.inode == entry.inode:
                inside = {p: e for p, e in after.items() if p[: len(path)] == path and p != path}
                had = {p: e for p, e in before.items() if p[: len(path)] == path and p != path}
                if operation[0] == "property":  # not seen in entries
                    assert (old.etag != entry.etag) or inside == had
                else:
                    assert (old.etag != entry.etag) == (inside != had)
