"""What is recorded: sessions of a real node, and the programs that install a snapshot, migrate an older store, make a cluster.

A step of the scenario "" is on the way to another one, and its points are not looked at.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from davfs.consensus.raft import RaftNode
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.model import DIRECTORY, VolumePolicy
from davfs.core.model import ROOT as ROOT_INODE
from davfs.core.record import COMPACT, decode
from davfs.node.config import load_config
from davfs.node.renewal import load_own
from davfs.storage.chunk_store import DiskChunkStore
from davfs.storage.migrations import FORMAT
from davfs.storage.raft_journal import RaftJournal
from davfs.storage.replica_db import ReplicaDb
from tests.crash.record import CHUNK, ROOT, VOLUME, Recording, Session, State, digest, make_cluster, program, recorded
from tests.crash.restart import NODE, restarters
from tests.golden import history

LOCK = (
    b'<?xml version="1.0"?><lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype>'
    b"<owner>me</owner></lockinfo>"
)
COLOUR = b'<?xml version="1.0"?><propertyupdate xmlns="DAV:"><set><prop><c xmlns="urn:x">%s</c></prop></set></propertyupdate>'
ENTER_S = 0.5


def content(number: int, size: int) -> bytes:
    """Bytes that differ from chunk to chunk and from file to file."""
    return b"".join((b"%d.%d|" % (number, place)).ljust(64, b".") for place in range(0, size + 63, 64))[:size]


def short(folder: Path, scratch: Path, broken: str = "") -> Recording:
    """A new node's first minute: what `make test` has time for."""
    make_cluster(folder)
    with recorded(folder, scratch, broken=broken) as node:
        _new_volume(node)
        node.put("PUT, small", "a.txt", b"hello")
        node.put("PUT, several chunks", "big.bin", content(1, 2 * CHUNK + 100))
        node.ask("MOVE", "MOVE", "big.bin", None, node.moved("big.bin", "b"), Destination=f"/{VOLUME}/b")
        _lock(node, "LOCK", "a.txt")
        node.ask("DELETE", "DELETE", "b", None, node.with_tree({}, "b"))
    return node.recording()


def drive(folder: Path, scratch: Path) -> Recording:
    """Every method."""
    make_cluster(folder)
    with recorded(folder, scratch) as node:
        _new_volume(node)
        node.put("PUT, small", "a.txt", b"hello")
        node.put("PUT, several chunks", "big.bin", content(1, 3 * CHUNK + 100))
        node.put("PUT over a small file", "a.txt", b"hello again")
        node.put("PUT over several chunks", "big.bin", content(2, 2 * CHUNK + 5))
        node.put("PUT over several chunks", "a.txt", content(3, CHUNK + 1))
        node.put("PUT over several chunks", "a.txt", b"small again")
        part = content(9, 1000)
        old = content(2, 2 * CHUNK + 5)
        whole = old[:CHUNK] + part + old[CHUNK + len(part) :]
        node.ask(
            "PATCH", "PATCH", "big.bin", part, node.with_tree({"big.bin": digest(whole)}),
            Content_Type="application/x-sabredav-partialupdate", X_Update_Range=f"bytes={CHUNK}-{CHUNK + len(part) - 1}",
        )  # fmt: skip
        node.ask("MKCOL", "MKCOL", "d", None, node.with_tree({"d": "folder"}))
        node.put("", "d/in.txt", b"inside")
        coloured = f'{node.state.tree["a.txt"] if node.state.tree else ""} {{urn:x}}c=<c xmlns="urn:x">red</c>'
        node.ask("PROPPATCH", "PROPPATCH", "a.txt", COLOUR % b"red", node.with_tree({"a.txt": coloured}))
        node.ask("COPY", "COPY", "d", None, node.moved("d", "e", copied=True), Destination=f"/{VOLUME}/e")
        node.ask(
            "COPY", "COPY", "big.bin", None, node.moved("big.bin", "e/c", copied=True), Destination=f"/{VOLUME}/e/c"
        )
        node.ask("MOVE", "MOVE", "a.txt", None, node.moved("a.txt", "e/a"), Destination=f"/{VOLUME}/e/a")
        node.ask(
            "MOVE over a file", "MOVE", "big.bin", None, node.moved("big.bin", "e/a"), Destination=f"/{VOLUME}/e/a"
        )
        node.ask("MOVE of a tree", "MOVE", "e", None, node.moved("e", "d/e"), Destination=f"/{VOLUME}/d/e")
        token = _lock(node, "LOCK", "d/in.txt")
        node.ask("LOCK", "LOCK", "d/in.txt", None, node.state, If=f"({token})", Timeout="Second-900")
        node.put("PUT under a lock", "d/in.txt", b"locked content", If=f"({token})")
        node.ask("UNLOCK", "UNLOCK", "d/in.txt", None, State(node.state.tree), Lock_Token=token)
        new = node.with_tree({"new.txt": digest(b"")})
        only = State(node.state.tree, frozenset({"new.txt"}))
        made = State(new.tree, frozenset({"new.txt"}))
        node.ask("LOCK of an unmapped name", "LOCK", "new.txt", LOCK, only, made)
        node.ask("DELETE", "DELETE", "d/in.txt", None, node.with_tree({}, "d/in.txt"))
        node.ask("DELETE of a tree", "DELETE", "d", None, node.with_tree({}, "d"))
        node.command("volume quota", "volume", "set-quota", VOLUME, "1G")
    return node.recording()


def background(folder: Path, scratch: Path) -> Recording:
    """What a node does by itself: both compactions, the collector; and its second start, on what a kill -9 left."""
    make_cluster(folder)
    with recorded(folder, scratch, start="") as node:
        _new_volume(node, "")
        node.put("", "kept.bin", content(4, 2 * CHUNK))
        node.put("", "gone.bin", content(5, 2 * CHUNK))
        token = _lock(node, "", "kept.bin")
        node.ask("", "UNLOCK", "kept.bin", None, State(node.state.tree), Lock_Token=token)
        for number in range(36):
            node.put("", "often.txt", b"version %d" % number)
        time.sleep(2.0)
        node.here("compaction of documents", "wait")
        node.put("compaction of documents", "often.txt", b"after it")
        for _ in range(9):
            token = _lock(node, "", "kept.bin")
            node.ask("", "UNLOCK", "kept.bin", None, State(node.state.tree), Lock_Token=token)
        for _ in range(9):
            token = _lock(node, "compaction of Raft's log", "kept.bin")
            node.ask("compaction of Raft's log", "UNLOCK", "kept.bin", None, State(node.state.tree), Lock_Token=token)
        node.ask("", "DELETE", "gone.bin", None, node.with_tree({}, "gone.bin"))
        time.sleep(1.2)
        node.command("collector", "gc", "run", VOLUME)
        node.put("collector", "gone.bin", content(5, 2 * CHUNK))  # the same chunks come back
    recording = node.recording()
    assert any(call.kind == "rename" and "/removed/" in call.target for call in recording.calls), (
        "nothing was collected"
    )
    data = folder / NODE / "data"
    copy = scratch / "look"
    shutil.copytree(data, copy)
    (database,) = copy.glob("volumes/*.sqlite")
    with sqlite3.connect(database) as db:
        records = [decode(bytes(row), database.stem) for (row,) in db.execute("SELECT record FROM log")]
    assert any(record.kind == COMPACT for record in records), "no document was compacted"
    with sqlite3.connect(copy / "raft/journal.db") as db:
        assert db.execute("SELECT count(*) FROM snapshot").fetchone() == (1,), "Raft's log was not compacted"
    shutil.rmtree(copy)
    return recording


def again(folder: Path, scratch: Path) -> Recording:
    """A node that was killed starts again, and frees its volume when it is told to stop."""
    make_cluster(folder)
    with recorded(folder, scratch, start="") as node:
        _new_volume(node, "")
        node.put("", "a.txt", b"hello")
        node.put("", "big.bin", content(1, CHUNK + 1))
    shutil.rmtree(scratch / f"{folder.name}.before")
    with recorded(folder, scratch, node.state, start="second start") as node:
        node.answered("PROPFIND", f"/{VOLUME}/", None, Depth="1")
        node.note("second start", "PROPFIND")
        node.put("second start", "b.txt", b"after it")
        node.stop("stop")
    return node.recording()


def snapshot(folder: Path, scratch: Path) -> Recording:
    """A replica that was away is given a snapshot of one that is further."""
    make_cluster(folder)
    with recorded(folder, scratch) as node:
        _new_volume(node, "")
        node.put("", "a.txt", b"old")
        node.put("", "big.bin", content(1, CHUNK + 1))
        old = node.state
        node.stop("")
    data = folder / NODE / "data"
    (database,) = data.glob("volumes/*.sqlite")
    shutil.copy(database, scratch / "old")
    shutil.rmtree(scratch / f"{folder.name}.before")
    with recorded(folder, scratch, old) as node:
        node.answered("PROPFIND", f"/{VOLUME}/", None, Depth="1")
        node.note("", "PROPFIND")
        node.put("", "a.txt", b"new")
        node.put("", "c.txt", b"more " * 4000)
        node.ask("", "DELETE", "big.bin", None, node.with_tree({}, "big.bin"))
        new = node.state
        node.stop("")
    shutil.rmtree(scratch / f"{folder.name}.before")
    store = ReplicaDb(database)
    frozen = store.freeze(1 << 30)
    (folder / "snapshot").write_bytes(store.read_frozen(frozen.id, 0, frozen.size))
    (folder / "snapshot.json").write_text(
        json.dumps({"id": frozen.id, "position": frozen.position, "size": frozen.size})
    )
    store.close()
    shutil.copy(scratch / "old", database)
    for extra in data.glob("volumes/*.sqlite-*"):
        extra.unlink()
    return program("install", folder, scratch, "installation of a snapshot, node", old, (new,), "node")


def install(folder: Path, scratch: Path) -> Recording:
    """The same of one replica's database alone; the restart goes on with what has arrived."""
    folder.mkdir()
    volumes = folder / NODE / "data" / "volumes"
    volumes.mkdir(parents=True)
    database = volumes / f"{history.VOLUME}.sqlite"
    states = []
    for names in (("old",), ("new", "newer")):
        store = ReplicaDb(database)
        writer = history.Writer(store)
        for name in names:
            edits = writer.edits(history.E1)
            edits.create(ROOT_INODE, name, DIRECTORY, history.MTIME_NS)
            writer.do(edits)
        with store.view() as view:
            states.append(State({entry.name: entry.kind for entry in view.children(ROOT_INODE)}))
        if len(states) == 2:
            frozen = store.freeze(1 << 30)
            (folder / "snapshot").write_bytes(store.read_frozen(frozen.id, 0, frozen.size))
            about = {"id": frozen.id, "position": frozen.position, "size": frozen.size}
            (folder / "snapshot.json").write_text(json.dumps(about))
        store.close()
        if len(states) == 1:
            shutil.copy(database, scratch / "old")
    shutil.copy(scratch / "old", database)
    return program("install", folder, scratch, "installation of a snapshot", states[0], (states[1],))


def init(folder: Path, scratch: Path) -> Recording:
    """``davfs init``: a cluster is there, or is made when one asks again."""
    folder.mkdir()
    anew, there = State({"cluster": "made again"}), State({"cluster": "there"})
    return program("init", folder, scratch, "init", anew, (anew, there))


def renewal(folder: Path, scratch: Path) -> Recording:
    """A certificate is renewed."""
    make_cluster(folder)
    config = load_config(folder / NODE / "davfs.toml")
    old = State({"certificate": load_own(config).own.serial})
    recording = program("renew", folder, scratch, "certificate renewal", old, (old,))
    new = State({"certificate": load_own(config).own.serial})
    recording.steps = [replace(recording.steps[0], states=(new,))]
    return recording


def migration(folder: Path, scratch: Path) -> Recording:
    """A node of this version starts on a replica's database of format 1."""
    make_cluster(folder)
    with recorded(folder, scratch) as node:
        time.sleep(ENTER_S)
        node.stop("")
    shutil.rmtree(scratch / f"{folder.name}.before")
    data = folder / NODE / "data"
    database = data / "volumes" / f"{history.VOLUME}.sqlite"
    database.write_bytes(gzip.decompress((ROOT / "tests/golden/vectors/replica-1.sqlite.gz").read_bytes()))
    with sqlite3.connect(database) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        (incarnation,) = db.execute("SELECT incarnation FROM state").fetchone()
    _give_volume(data, incarnation)
    chunks = DiskChunkStore(data / "chunks")
    for number in range(4):
        for size in (1, 100):
            (chunk,) = history.chunks_of(number, 1, size)
            chunks.put(history.VOLUME, chunk.digest, history.content(number, size))
    migrated = scratch / "migrated"
    shutil.copytree(folder, migrated)
    with restarters(1) as (restarter,):
        restarter.ask(migrated)
        found = restarter.answer()["volumes"][VOLUME]
    assert "Papers/larger.bin" in found["tree"] and not found["problems"], found
    with recorded(folder, scratch, State(found["tree"]), start="migration of an older store") as node:
        until = time.monotonic() + 30.0
        while node.status("PROPFIND", f"/{VOLUME}/") == 503 and time.monotonic() < until:
            node.note("migration of an older store", "PROPFIND")
            time.sleep(0.1)
        node.note("migration of an older store", "PROPFIND")
        node.put("migration of an older store", "new.txt", b"after it")
    recording = node.recording()
    with sqlite3.connect(database) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (FORMAT,)
    return recording


def _give_volume(data: Path, incarnation: str) -> None:
    """Let Raft know the volume of the golden vectors, with epochs beyond those of its records."""
    state = ClusterState()
    policy = asdict(VolumePolicy(copies=1, write_quorum=1, replicas=1, chunk_size=CHUNK, trash_days=0))
    raft = RaftNode(NODE, [NODE], RaftJournal(data / "raft" / "journal.db"), state, NoNetwork())
    try:
        for number, command in enumerate([
            ("volume_create", history.VOLUME, VOLUME, policy, [NODE]),
            ("replica_admit", history.VOLUME, NODE, incarnation, None),
            *(
                command
                for counter in range(1, 4)
                for command in (
                    ("assign", history.VOLUME, "0" * 64, NODE, 5.0),
                    ("expire", history.VOLUME, [1, counter], 0),
                )
            ),
        ]):  # fmt: skip
            value_of(raft.submit((f"set up {number}", *command), 5.0))
    finally:
        raft.close()


class NoNetwork:
    """There are no other nodes."""

    def start(self, receive: Callable[[str, bytes], None]) -> None:
        pass

    def send(self, peer: str, frame: bytes) -> bool:
        return False

    def set_peers(self, peers: Iterable[str]) -> None:
        pass

    def close(self) -> None:
        pass


def _new_volume(node: Session, scenario: str = "volume create") -> None:
    time.sleep(ENTER_S)
    node.command(scenario, "volume", "create", VOLUME, states=(State({}),))
    node.answered("PROPFIND", f"/{VOLUME}/", None, Depth="1")
    node.note(scenario, "PROPFIND")


def _lock(node: Session, scenario: str, path: str) -> str:
    return node.ask(scenario, "LOCK", path, LOCK, State(node.state.tree, node.state.locks | {path}))


RECORDINGS: Mapping[str, Callable[[Path, Path], Recording]] = {
    "init": init, "renewal": renewal, "drive": drive, "background": background, "again": again, "migration": migration,
    "snapshot": snapshot, "install": install,
}  # fmt: skip
