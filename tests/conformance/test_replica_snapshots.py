"""What every ReplicaStore promises of snapshots: all or nothing, received in pieces, nothing of its own lost."""

from __future__ import annotations

import threading

import pytest
from blake3 import blake3

from davfs.core.errors import CorruptData, NotFound, Unavailable
from davfs.core.model import ORIGIN, ROOT, Epoch
from davfs.core.ports import AppliedRecord, DocumentUpdate
from davfs.core.snapshot_port import Snapshot
from davfs.storage.replica_db import ReplicaDb
from tests.conformance.replica_history import E1, E2, E3, History, at, logged, name, record


@pytest.fixture
def other(store, tmp_path):
    """Another store of the same kind."""
    other = ReplicaDb(":memory:" if store._memory else tmp_path / "other.sqlite")
    yield other
    other.close()


def filled(store, count=5, trimmed=3):
    history = History(store)
    for number in range(count):
        inode = f"{number + 1:x}.1.1-0"
        documents = [DocumentUpdate("d/0", b"change", b"snapshot" if number == 2 else None)]
        history.do(name(inode, history.next_version, ROOT, f"f{number}"), documents=documents, reply=[number])
    store.append([], None, [(blake3(b"small").hexdigest(), b"small")])
    store.trim(trimmed, 100)
    return history


def transfer(source, target, piece=1000):
    snapshot = source.frozen
    for offset in range(0, snapshot.size, piece):
        target.receive(snapshot, offset, source.read_frozen(snapshot.id, offset, piece))
    assert target.arrived() == (snapshot, snapshot.size)


def tree(store):
    with store.view() as view:
        return view.children(ROOT), view.usage(), view.reply("request-2"), view.committed


def test_a_snapshot_brings_everything_that_was_committed(store, other):
    history = filled(store)
    logged(store, record(6))
    assert store.frozen is None
    snapshot = store.freeze(10**9)
    assert snapshot == store.frozen
    assert snapshot.position == at(5)
    before = tree(store)
    history.seq = 6
    store.commit([AppliedRecord(record(6), [], [])])
    history.do()  # what comes later is not in it
    other.seal(E2)
    incarnation = other.incarnation
    assert other.arrived() is None
    transfer(store, other)
    other.install()
    assert tree(other) == before
    assert (other.incarnation, other.sealed, other.last, other.committed, other.floor) == (
        incarnation, E2, at(5), at(5), at(2),
    )  # fmt: skip
    assert other.position_at(1) == at(1)
    assert other.load_document("d/0") == store.load_document("d/0")
    assert other.chunk(blake3(b"small").hexdigest()) == b"small"
    assert other.arrived() is None
    logged(other, record(6), record(7))
    other.commit([AppliedRecord(record(6), [], []), AppliedRecord(record(7), [], [])])
    store.thaw()
    assert store.frozen is None
    with pytest.raises(NotFound):
        store.read_frozen(snapshot.id, 0, 10)


def test_wrong_bytes_change_nothing(store, other):
    filled(store)
    logged(other, record(1))
    snapshot = store.freeze(10**9)
    data = store.read_frozen(snapshot.id, 0, snapshot.size)
    for wrong in (data[:-1], data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], b""):
        other.receive(snapshot, 0, wrong)
        with pytest.raises(CorruptData):
            other.install()
        assert other.arrived() is None
        assert other.last == at(1)
    with pytest.raises(ValueError, match="arrived"):
        other.install()
    transfer(store, other)
    other.install()
    assert other.committed == at(5)


def test_a_snapshot_of_something_else_is_refused(store, other):
    for junk in (b"junk" * 4000, b""):
        snapshot = Snapshot(blake3(junk).hexdigest(), at(9), len(junk))
        other.receive(snapshot, 0, junk)
        with pytest.raises(CorruptData):
            other.install()
        assert other.committed == ORIGIN


def test_receiving_goes_on_where_it_stopped_and_begins_anew_with_another(store, other):
    filled(store)
    first = store.freeze(10**9)
    other.receive(first, 0, store.read_frozen(first.id, 0, 3000))
    assert other.arrived() == (first, 3000)
    other.receive(first, 3000, store.read_frozen(first.id, 3000, 500))
    assert other.arrived() == (first, 3500)
    History(store).do()
    second = store.freeze(10**9)
    assert second.id != first.id
    transfer(store, other)
    other.install()
    assert other.committed == at(6)


def test_what_only_the_old_store_has_is_kept(store, other):
    """Late records, records that the snapshot's history went on without, small chunks."""
    logged(other, record(1), record(2), record(3), record(9 - 5, E2))
    logged(other, record(4, E3), cut_from=4)
    other.append([], None, [(blake3(b"mine").hexdigest(), b"mine")])
    for seq in (1, 2):
        logged(store, record(seq))
    logged(store, *(record(seq, Epoch(3, 1)) for seq in range(3, 8)))
    store.commit([AppliedRecord(record(seq, E1 if seq < 3 else Epoch(3, 1)), [], []) for seq in range(1, 8)])
    store.trim(6, 100)
    store.freeze(10**9)
    transfer(store, other)
    other.install()
    assert other.last == other.committed == at(7, Epoch(3, 1))
    assert [position for position, _ in other.late_records()] == [at(3), at(4, E2), at(4, E3)]
    assert other.chunk(blake3(b"mine").hexdigest()) == b"mine"


def test_a_damaged_small_chunk_does_not_spread_with_a_snapshot(store, other):
    good, lost = blake3(b"good").hexdigest(), blake3(b"lost").hexdigest()
    filled(store)
    store.append([], None, [(good, b"rotten"), (lost, b"rotten")])
    other.append([], None, [(good, b"good")])
    store.freeze(10**9)
    transfer(store, other)
    other.install()
    assert other.chunk(good) == b"good", "its own copy stays in the place of the damaged one"
    assert not other.has_chunk(lost), "so that it is known to be missing, and fetched from elsewhere"
    assert other.chunk(blake3(b"small").hexdigest()) == b"small"


def test_an_older_snapshot_is_refused(store, other):
    filled(store)
    logged(other, *(record(seq) for seq in range(1, 7)))
    store.freeze(10**9)
    transfer(store, other)
    with pytest.raises(Unavailable, match="nothing"):
        other.install()
    assert (other.last, other.arrived()) == (at(6), None)


def test_views_end_before_everything_is_replaced(store, other):
    if store._memory:
        pytest.skip("in memory a view excludes everyone else")
    filled(store)
    store.freeze(10**9)
    transfer(store, other)
    seen = []
    with other.view() as view:
        thread = threading.Thread(target=lambda: seen.append(other.install()))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert view.children(ROOT) == []
    thread.join(5)
    assert seen == [None]
    assert len(tree(other)[0]) == 5


def test_what_is_remembered_is_the_index_as_it_is(store, other):
    asked = []

    def names(view):
        asked.append(1)
        return [entry.name for entry in view.children(ROOT)]

    def remembered():
        return store.remembered("names", names)

    assert remembered() == remembered() == []
    assert len(asked) == 1
    filled(store, count=3, trimmed=0)
    assert len(remembered()) == len(remembered()) == 3
    assert len(asked) == 2
    for _ in range(2):
        store.remembered("large", names, lambda found: len(found) < 3)
    assert len(asked) == 4, "what is not small is not kept"
    filled(other, count=5, trimmed=0)
    other.freeze(10**9)
    transfer(other, store)
    store.install()
    assert len(remembered()) == 5
