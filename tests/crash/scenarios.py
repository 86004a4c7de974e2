"""What is recorded: sessions of a real node, and the programs that install a snapshot, migrate an older store, make a cluster.

A step of the scenario "" is on the way to another one, and its points are not looked at.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from davfs.core.record import COMPACT, decode
from tests.crash.record import CHUNK, VOLUME, Recording, Session, State, digest, make_cluster, recorded
from tests.crash.restart import NODE

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


def _new_volume(node: Session, scenario: str = "volume create") -> None:
    time.sleep(ENTER_S)
    node.command(scenario, "volume", "create", VOLUME, states=(State({}),))
    node.answered("PROPFIND", f"/{VOLUME}/", None, Depth="1")
    node.note(scenario, "PROPFIND")


def _lock(node: Session, scenario: str, path: str) -> str:
    return node.ask(scenario, "LOCK", path, LOCK, State(node.state.tree, node.state.locks | {path}))


RECORDINGS: Mapping[str, Callable[[Path, Path], Recording]] = {"drive": drive, "background": background, "again": again}
