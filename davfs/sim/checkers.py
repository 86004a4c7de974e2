"""What must hold after a simulation: invariants 1, 3 and 5 (design, section 9). Invariant 2 is watched in ``watch.py``.

May import core, crdt and the simulator's own parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from davfs.core import keys, late, values
from davfs.core.chunking import digest_of, etag_of
from davfs.core.model import DIRECTORY, ROOT, TRASH, ChunkRef, Position
from davfs.core.ports import ReplicaStore
from davfs.crdt.documents import AutomergeDocuments
from davfs.sim.clients import TOPS, History
from davfs.sim.cluster import CHUNK_SIZE
from davfs.sim.history import judge
from davfs.sim.model import Path, tree_of

Names: TypeAlias = dict[str, list[tuple[str, values.NameEntry]]]


def check_history(history: History) -> Iterator[str]:
    """Invariants 1 and 3: some order of all operations, the reads after all faults ended included, explains them."""
    yield from judge(history.operations, tree_of({(top,): None for top in TOPS}))


def dump(store: ReplicaStore, kept_from: int = 1) -> dict[str, object]:
    """All that a replica holds and that must be the same everywhere. ``kept_from``: where all logs begin at the latest."""
    documents = AutomergeDocuments()
    found: dict[str, object] = {
        "committed": store.committed,
        "last": store.last,
        "log": [store.position_at(seq) for seq in range(1, store.committed.seq + 1)],
        "records": store.read_log(kept_from, 1 << 40),
    }
    for name in store.iter_documents():
        stored = store.load_document(name)
        document = documents.load(stored.snapshot, stored.changes, bytes(16))
        found[f"heads of {name}"] = document.heads()
        found[f"keys of {name}"] = {key: document.get(key) for key in document.keys()}  # noqa: SIM118  no mapping
    inodes = _names(found)
    with store.view() as view:
        for inode in sorted(inodes):
            found[f"entry {inode}"] = view.entry(inode)
            found[f"manifest {inode}"] = view.manifest(inode)
            found[f"properties {inode}"] = view.properties(inode)
        for inode in [ROOT, TRASH, *sorted(inodes)]:
            found[f"children {inode}"] = view.children(inode)
        found["usage"] = view.usage()
    return found


def check_replicas(stores: Mapping[str, ReplicaStore]) -> Iterator[str]:
    """Invariant 5: all replicas are the same, and what they hold is a tree."""
    kept_from = 1 + max(store.floor.seq for store in stores.values())
    dumps = {node: dump(store, kept_from) for node, store in stores.items()}
    (first, reference), *others = dumps.items()
    for node, found in others:
        for key in dict.fromkeys([*reference, *found]):
            if reference.get(key) != found.get(key):
                yield f"invariant 5: {first} and {node} differ in {key}"
                break
    yield from _check_tree(reference)


def check_copies(history: History, stores: Mapping[str, ReplicaStore]) -> Iterator[str]:
    """A conflict copy of a strict volume is of a PUT that was not answered: what was acknowledged is not late (invariant 3).

    The content says which PUT it is of; but a COPY that was not answered may have brought an answered one's content there.
    """
    copied = {op[2][-1] for op in (o.op for o in history.operations if o.outcome is None) if op[0] == "copy"}
    answered = {_etag(o.op[2]) for o in history.operations if o.op[0] == "put" and o.outcome is not None}
    with next(iter(stores.values())).view() as view:
        outcomes = [late.decode(text) for _, _, text in view.settled()]
        copies = [view.entry(outcome.inode) for outcome in outcomes if outcome.outcome == late.COPY]
    for entry in copies:
        if entry is not None and entry.etag in answered and entry.name.partition(" (conflict ")[0] not in copied:
            yield f"invariant 3: {entry.name} is a conflict copy of a PUT that was acknowledged"


def outcomes_of(store: ReplicaStore) -> list[str]:
    """What became of each late record."""
    with store.view() as view:
        return [late.decode(text).outcome for _, _, text in view.settled()]


def check_kept(history: History, stores: Mapping[str, ReplicaStore]) -> Iterator[str]:
    """Invariant 5 for available volumes: an acknowledged PUT is there, under whatever name, unless something else was done
    to its place or one above it at the same time or later."""
    shown = set()
    with next(iter(stores.values())).view() as view:
        todo = [ROOT]
        while todo:
            for entry in view.children(todo.pop()):
                shown.add(entry.etag)
                todo += [entry.inode] if entry.is_directory else []
    changes = [o for o in history.operations if o.op[0] in ("put", "write", "delete", "move", "copy")]
    for put in changes:
        if put.op[0] != "put" or put.outcome is None or put.outcome[0] != "ok":
            continue
        places = [
            path
            for other in changes
            if other is not put and (other.ended is None or other.ended > put.invoked)
            for path in _changed(other.op)
        ]
        if not any(put.op[1][: len(path)] == path for path in places) and _etag(put.op[2]) not in shown:
            yield f"invariant 5: {put} was acknowledged and is nowhere"


def _changed(op: tuple[Any, ...]) -> tuple[Path, ...]:
    """The places where an operation replaces or removes what was there."""
    if op[0] in ("move", "copy"):
        return (op[1], op[2]) if op[0] == "move" else (op[2],)
    return (op[1],)


def _etag(content: bytes) -> str:
    pieces = [content[at : at + CHUNK_SIZE] for at in range(0, len(content), CHUNK_SIZE)]
    return etag_of(CHUNK_SIZE, tuple(ChunkRef(digest_of(piece), len(piece), ()) for piece in pieces))


def _names(found: dict[str, object]) -> Names:
    """inode -> (version, name entry) of all name entries of all documents."""
    names: Names = {}
    for title, content in found.items():
        if title.startswith("keys of ") and isinstance(content, dict):
            for key, value in content.items():
                parsed = keys.parse(key)
                if parsed.kind == keys.NAME:
                    names.setdefault(parsed.inode, []).append((parsed.version, values.decode_name(value)))
    return names


def _check_tree(found: dict[str, object]) -> Iterator[str]:
    names = _names(found)
    yield from check_names(names)
    for inode, versions in names.items():
        entry, indexed = versions[-1][1], found[f"entry {inode}"]
        if (getattr(indexed, "parent", None), getattr(indexed, "name", None)) != (entry.parent, entry.name):
            yield f"invariant 5: the index shows {inode} elsewhere than its document"


def check_names(names: Names) -> Iterator[str]:
    """Invariant 5: name entries, inode -> (version, entry) of each, make a tree in which no two are named alike."""
    places: dict[tuple[str, str], str] = {}
    for inode, versions in names.items():
        if len(versions) != 1:
            yield f"invariant 5: {inode} has {len(versions)} names"
        version, entry = versions[-1]
        keys.parse_version(version)
        if (entry.parent, entry.name) in places:
            yield f"invariant 5: two entries are named {entry.name!r} in {entry.parent}"
        places[entry.parent, entry.name] = inode
        yield from _check_ancestors(inode, names)


def _check_ancestors(inode: str, names: Names) -> Iterator[str]:
    at, steps = inode, 0
    while at not in (ROOT, TRASH):
        if at not in names:
            yield f"invariant 5: {inode} is an orphan: there is no {at}"
            return
        parent = names[at][-1][1].parent
        if parent in names and names[parent][-1][1].kind != DIRECTORY:
            yield f"invariant 5: {at} stands in a file"
        at, steps = parent, steps + 1
        if steps > len(names):
            yield f"invariant 5: {inode} stands in a cycle"
            return


def caught_up(stores: Mapping[str, ReplicaStore]) -> bool:
    """Whether all replicas have the same log and have applied it all."""
    marks: list[tuple[Position, Position]] = [(store.last, store.committed) for store in stores.values()]
    return all(last == committed == marks[0][0] for last, committed in marks)
