"""Snapshots from a node that lies, or over a line that damages: refused, fetched anew, and the replica is what it was."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3

from davfs.cluster.lagging import Credentials
from davfs.cluster.snapshots import pull
from davfs.core.effects import Call, Reply, Wait
from davfs.core.errors import CorruptData, DavfsError
from davfs.core.model import Position
from davfs.core.snapshot_port import Snapshot
from davfs.storage.replica_db import ReplicaDb
from tests.golden import history
from tests.golden.history import E2, VOLUME
from tests.property.test_bad_bytes import TOKEN, Node, truth

ROUNDS = int(os.environ.get("DAVFS_FUZZ", "8"))
PIECE = 512 * 1024


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[bytes, Position]:
    """The bytes of a snapshot of the golden history, and where it stands."""
    folder = tmp_path_factory.mktemp("source")
    history.build(folder / "v.sqlite")
    store = ReplicaDb(folder / "v.sqlite")
    frozen = store.freeze(1 << 30)
    data = b"".join(store.read_frozen(frozen.id, at, PIECE) for at in range(0, frozen.size, PIECE))
    assert blake3(data).hexdigest() == frozen.id
    store.close()
    return data, frozen.position


class Behind:
    """A replica that has the first records only, on disk; ``same()``: nothing has happened to it."""

    def __init__(self, folder: Path) -> None:
        self.node = Node()
        self.node.store.close()
        self.folder = folder
        self.store = self.node.store = self.node.replica.store = ReplicaDb(folder / "v.sqlite")
        self.store.seal(E2)
        log, before, _ = truth()
        self.node.replica.append(E2, self.node.replica._digest, before[0], log[:3], 3)
        self.node.replica.apply_committed()
        self.there = self.node.state()

    def fetch(self, source: Callable[[Call], Reply]) -> None:
        """What a holder has it do, with what the other node answers."""
        protocol = pull(self.node.site, self.node.replica, Credentials(VOLUME, E2, TOKEN), "node-2", 5)
        value: object = None
        try:
            while True:
                effect = protocol.send(value)
                value = source(effect) if isinstance(effect, Call) else effect.ready() if isinstance(effect, Wait) else None
        except StopIteration:
            pass

    def same(self) -> bool:
        return self.node.state() == self.there and self.node.replica.catching is None


@pytest.fixture
def behind(tmp_path):
    made = Behind(tmp_path)
    yield made
    made.store.close()


def source(data: bytes, at: Position, pieces: Callable[[int, bytes], bytes] = lambda offset, piece: piece,
    **said) -> Callable:
    """A node that has these bytes and calls them what they are; ``pieces`` changes what it sends, ``said`` what it says."""

    def answer(call: Call) -> Reply:
        if call.method == "replica.snapshot":
            about = {"ready": True, "id": blake3(data).hexdigest(), "position": [list(at.epoch), at.seq], "size": len(data)}
            return Reply({**about, **said})
        offset = call.args["offset"]
        piece = pieces(offset, data[offset : offset + PIECE])
        return Reply({"digest": blake3(piece).hexdigest()}, piece)

    return answer


def expect_refusal(behind: Behind, answer: Callable) -> None:
    with pytest.raises((DavfsError, ValueError)) as caught:
        behind.fetch(answer)
    assert str(caught.value)
    assert behind.same()


def test_a_good_one_is_installed_also_after_bad_ones(behind: Behind, good):
    data, at = good
    random = Random(1)
    for _ in range(3):
        expect_refusal(behind, source(data, at, lambda offset, piece: flipped(piece, random)))
    behind.fetch(source(data, at))
    assert behind.store.last == behind.store.committed == at
    assert behind.node.examine() == []


def flipped(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.getrandbits(3)]) + data[place + 1 :]


def test_pieces_that_are_damaged_cut_replayed_reordered_or_another_s(behind: Behind, good):
    data, at = good
    random = Random(2)
    wrong: list[Callable[[int, bytes], bytes]] = [
        lambda offset, piece: flipped(piece, random),
        lambda offset, piece: piece[: len(piece) // 2] if offset else piece[1:],
        lambda offset, piece: data[:PIECE],
        lambda offset, piece: data[max(0, len(data) - PIECE - offset) :][:PIECE],
        lambda offset, piece: piece + b"more",
        lambda offset, piece: random.randbytes(PIECE),
    ]
    for pieces in wrong:
        expect_refusal(behind, source(data, at, pieces))
    expect_refusal(behind, source(data, at, lambda offset, piece: b""))
    assert behind.same()


@pytest.mark.parametrize(
    "said",
    [
        {"id": "0" * 64}, {"size": 5}, {"size": 1 << 40}, {"position": [[1, 1], 1]}, {"position": [[9, 9], 999]},
        {"id": "../../x"}, {"size": -1},
    ],
)  # fmt: skip
def test_what_is_announced_must_be_true(behind: Behind, good, said):
    data, at = good

    expect_refusal(behind, source(data, at, **said))


def test_bytes_that_are_no_replica_though_their_digest_is_right(behind: Behind, good):
    """A node that is broken, not a line: the digest is that of what it has."""
    data, at = good
    random = Random(3)
    for _ in range(ROUNDS):
        bad = data
        for _ in range(random.choice((1, 3, 50))):
            bad = flipped(bad, random)
        if random.random() < 0.3:
            bad = bad[: random.randrange(1, len(bad))]
        try:
            behind.fetch(source(bad, at))
        except (DavfsError, ValueError):
            assert behind.same()
            continue
        # It was in a place that means nothing, or in what only a look at all of it finds: then fsck says so.
        behind.store.close()
        for path in behind.folder.iterdir():
            path.unlink()
        behind.__init__(behind.folder)  # type: ignore[misc]


def altered(data: bytes, folder: Path, *statements: str) -> bytes:
    path = folder / "altered.sqlite"
    path.write_bytes(data)
    with sqlite3.connect(path, isolation_level=None) as db:
        for statement in statements:
            db.execute(statement)
    db.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE state"], ["DROP TABLE log"], ["DELETE FROM state"], ["DELETE FROM log"], ["DROP TABLE late"],
            ["DROP TABLE chunk"],
        ["CREATE TRIGGER t AFTER UPDATE ON state BEGIN DELETE FROM entry; END"], ["CREATE VIEW v AS SELECT 1"],
        ["ALTER TABLE entry DROP COLUMN moved"], ["UPDATE state SET committed_seq = 10"], ["PRAGMA user_version = 999"],
        ["PRAGMA user_version = 1"], ["PRAGMA application_id = 5"],
            ["UPDATE log SET record = x'00' WHERE seq = (SELECT committed_seq FROM state)"],
    ],
    ids=lambda statements: statements[0],
)  # fmt: skip
def test_a_database_of_another_shape(behind: Behind, good, tmp_path_factory, statements):
    data, at = good
    expect_refusal(behind, source(altered(data, tmp_path_factory.mktemp("altered"), *statements), at))
    behind.fetch(source(data, at))
    assert behind.node.examine() == []


def test_the_snapshot_of_another_volume(tmp_path, good):
    """As sound as any, and of no business here."""
    data, at = good
    store = ReplicaDb(tmp_path / "v.sqlite")
    store.seal(E2)
    snapshot = Snapshot(blake3(data).hexdigest(), at, len(data))
    store.receive(snapshot, 0, data)
    with pytest.raises(CorruptData, match="of volume"):
        store.install("0b" * 16)
    assert store.last.seq == 0
    assert store.arrived() is None
    store.receive(snapshot, 0, data)
    store.install(VOLUME)
    assert store.last == at
    store.close()
    shutil.rmtree(tmp_path)
