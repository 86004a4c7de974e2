"""What every ReplicaStore promises: run over a database in a file and one in memory."""

from __future__ import annotations

import threading

import pytest
from blake3 import blake3

from davfs.core import keys, values
from davfs.core.errors import CorruptData, LogTrimmed, NotFound, Unavailable
from davfs.core.model import ORIGIN, ROOT, ChunkRef, Entry, Epoch, Manifest, Position
from davfs.core.ports import AppliedRecord, DocumentUpdate, IndexUpdate, StoredDocument
from davfs.core.record import OPERATION, START, Record, encode
from davfs.core.snapshot_port import Snapshot
from davfs.storage import listing
from davfs.storage.replica_db import REPLIES_KEPT, ReplicaDb

E1, E2, E3 = Epoch(1, 1), Epoch(1, 2), Epoch(2, 1)


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    store = ReplicaDb(":memory:" if request.param == "memory" else tmp_path / "v.sqlite")
    yield store
    store.close()


def at(seq, epoch=E1):
    return Position(epoch, seq)


def record(seq, epoch=E1, **more):
    return Record("v1", at(seq, epoch), OPERATION, more.pop("request_id", f"request-{seq}"), at_ns=seq * 100, **more)


def logged(store, *records, cut_from=None):
    store.append([(r.position, encode(r)) for r in records], cut_from)


class History:
    """Commits one operation after the other, as a holder would."""

    def __init__(self, store):
        self.store = store
        self.seq = store.last.seq

    def do(self, *updates, documents=(), reply=None, request_id=None):
        self.seq += 1
        made = record(self.seq, reply=reply, request_id=request_id or f"request-{self.seq}")
        logged(self.store, made)
        self.store.commit([AppliedRecord(made, documents, [IndexUpdate(k, v) for k, v in updates])])
        return keys.version_of(made.position)

    @property
    def next_version(self):
        return keys.version_of(at(self.seq + 1))


def name(inode, version, parent, text, kind="f", created_ns=5):
    return keys.make(keys.NAME, inode, version), values.encode_name(parent, text, kind, created_ns)


def manifest(size, etag="e1", mtime_ns=7):
    chunks = (ChunkRef("0" * 64, size, ("node-1", "node-2")),) if size else ()
    return Manifest(size, mtime_ns, etag, 4096, chunks)


def content(inode, version, of):
    return keys.make(keys.MANIFEST, inode, version), values.encode_manifest(of)


def gone(kind, inode, version, part=""):
    return keys.make(kind, inode, version, part), None


# --- seal and log -------------------------------------------------------------------------------------------------------


def test_an_empty_store(store):
    assert (store.sealed, store.last, store.committed) == (Epoch(0, 0), ORIGIN, ORIGIN)
    assert store.position_at(0) == ORIGIN
    assert store.position_at(1) is None
    assert store.position_at(-1) is None
    assert store.read_log(1, 1000) == []
    assert store.late_records() == []
    assert store.load_document("b/0") == StoredDocument(None, [])
    assert list(store.iter_documents()) == []
    with store.view() as view:
        assert view.committed == ORIGIN
        assert view.entry(ROOT) == Entry(ROOT, "", "", "d", "", 0, 0, 0, "root.0")
        assert view.entry("1.1.1.0") is None
        assert view.child(ROOT, "a") is None
        assert view.children(ROOT) == []
        assert view.manifest("1.1.1.0") is None
        assert view.segment("1.1.1.0", 0) is None
        assert view.properties(ROOT) == {}
        assert view.reply("request-1") is None
        assert view.usage() == (0, 0)


def test_incarnations_are_random(store):
    other = ReplicaDb(":memory:")
    assert len(store.incarnation) >= 16
    assert other.incarnation != store.incarnation
    other.close()


def test_seals_only_rise(store):
    store.seal(E2)
    store.seal(E2)
    with pytest.raises(ValueError, match="above"):
        store.seal(E1)
    assert store.sealed == E2
    store.seal(E3)
    assert store.sealed == E3


def test_the_log_is_contiguous_and_epochs_do_not_fall(store):
    logged(store, record(1), record(2))
    logged(store, record(3, E2))
    assert store.last == at(3, E2)
    assert [store.position_at(seq) for seq in (1, 2, 3, 4)] == [at(1), at(2), at(3, E2), None]
    for wrong in (record(5, E2), record(3, E2), record(4, E1)):
        with pytest.raises(ValueError, match="cannot follow"):
            logged(store, wrong)
    with pytest.raises(ValueError, match="cannot follow"):
        logged(store, record(4, E2), record(6, E2))
    assert store.last == at(3, E2)
    assert store.position_at(4) is None


def test_reading_the_log_in_pieces(store):
    records = [record(seq) for seq in range(1, 6)]
    logged(store, *records)
    encoded = [encode(r) for r in records]
    assert store.read_log(1, 10**9) == encoded
    assert store.read_log(3, 0) == encoded[2:3]
    assert store.read_log(2, len(encoded[1]) + len(encoded[2])) == encoded[1:3]
    assert store.read_log(6, 10**9) == []


def test_a_cut_tail_is_late_and_kept(store):
    logged(store, record(1), record(2), record(3))
    logged(store, record(2, E2), cut_from=2)
    assert store.last == at(2, E2)
    assert store.position_at(3) is None
    assert store.late_records() == [(at(2), encode(record(2))), (at(3), encode(record(3)))]
    logged(store, cut_from=2)
    assert store.last == at(1)
    assert [position for position, _ in store.late_records()] == [at(2), at(3), at(2, E2)]
    logged(store, cut_from=1)
    assert store.last == ORIGIN


def test_what_the_log_has_again_is_not_late(store):
    logged(store, record(1), record(2), record(3))
    logged(store, cut_from=2)
    logged(store, record(2))
    assert store.late_records() == [(at(3), encode(record(3)))]


def test_committed_records_are_never_cut(store):
    History(store).do()
    logged(store, record(2))
    with pytest.raises(ValueError, match="committed"):
        logged(store, record(1, E2), cut_from=1)
    assert store.last == at(2)
    assert store.late_records() == []


def test_a_cut_beyond_the_end_is_none(store):
    logged(store, record(1))
    logged(store, record(2, E2), cut_from=2)
    assert store.last == at(2, E2)


# --- trimming -----------------------------------------------------------------------------------------------------------


def test_trimming_forgets_the_oldest_and_still_knows_their_positions(store):
    history = History(store)
    for _ in range(4):
        history.do()
    logged(store, *(record(seq, E2) for seq in (5, 6)), record(7, E3))
    assert store.floor == ORIGIN
    assert store.trim(4, 2) == 2
    assert store.floor == at(2)
    assert store.trim(4, 2) == 1
    assert store.trim(4, 2) == 0
    assert [store.position_at(seq) for seq in range(9)] == [
        ORIGIN, at(1), at(2), at(3), at(4), at(5, E2), at(6, E2), at(7, E3), None,
    ]  # fmt: skip
    assert store.read_log(4, 0) == [encode(record(4))]
    with pytest.raises(LogTrimmed):
        store.read_log(3, 10**9)
    with pytest.raises(ValueError, match="cannot follow"):
        logged(store, record(3))
    assert store.read_log(8, 10**9) == []


def test_the_newest_committed_record_and_those_behind_it_are_never_trimmed(store):
    history = History(store)
    for _ in range(3):
        history.do()
    logged(store, record(4), record(5))
    assert store.trim(100, 100) == 2
    assert (store.floor, store.last, store.committed) == (at(2), at(5), at(3))
    logged(store, record(4, E2), cut_from=4)
    assert (store.position_at(3), store.last, store.position_at(5)) == (at(3), at(4, E2), None)
    logged(store, cut_from=4)
    assert (store.last, store.floor) == (at(3), at(2))


def test_how_much_of_the_log_a_number_of_bytes_is(store):
    records = [record(seq) for seq in range(1, 6)]
    logged(store, *records)
    sizes = [len(encode(r)) for r in records]
    assert store.log_within(sum(sizes), 1) == 1
    assert store.log_within(sum(sizes) - 1, 1) == 2
    assert store.log_within(sizes[4], 1) == 5
    assert store.log_within(10**9, 4) == 4


# --- snapshots ----------------------------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="nothing"):
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


# --- commit -------------------------------------------------------------------------------------------------------------


def test_only_the_next_record_of_the_log_is_committed(store):
    logged(store, record(1), record(2))
    for wrong in (record(2), record(3), record(1, E2)):
        with pytest.raises(ValueError, match="follows"):
            store.commit([AppliedRecord(wrong, [], [])])
    store.commit([AppliedRecord(record(1), [], []), AppliedRecord(record(2), [], [])])
    assert store.committed == at(2)
    with pytest.raises(ValueError, match="follows"):
        store.commit([AppliedRecord(record(2), [], [])])
    store.commit([])


def test_start_records_change_nothing_but_the_mark(store):
    start = Record("v1", at(1), START, "", base=ORIGIN)
    logged(store, start)
    store.commit([AppliedRecord(start, [], [])])
    second = Record("v1", at(2, E2), START, "", base=at(1))
    logged(store, second)
    store.commit([AppliedRecord(second, [], [])])
    with store.view() as view:
        assert view.committed == at(2, E2)
        assert view.reply("") is None


def test_a_malformed_entry_refuses_the_whole_commit(store):
    history = History(store)
    good = name("1.1.1.0", history.next_version, ROOT, "a")
    made = record(1)
    logged(store, made)
    for bad in (("n/x", "{}"), ("n/1.1.1.1@v", "{}"), ("m/1.1.1.1@v", "[]"), ("s/1.1.1.1/x@v", "{}")):
        with pytest.raises(CorruptData):
            store.commit([AppliedRecord(made, [DocumentUpdate("b/0", b"x")], [IndexUpdate(*good), IndexUpdate(*bad)])])
        assert store.committed == ORIGIN
        assert store.load_document("b/0").changes == []
        with store.view() as view:
            assert view.children(ROOT) == []


def test_documents_are_snapshot_and_tail(store):
    history = History(store)
    history.do(documents=[DocumentUpdate("b/0", b"one"), DocumentUpdate("b/1", b"uno")])
    history.do(documents=[DocumentUpdate("b/0", b"two")])
    assert store.load_document("b/0") == (None, [b"one", b"two"])
    history.do(documents=[DocumentUpdate("b/0", b"three", b"snapshot of three")])
    assert store.load_document("b/0") == (b"snapshot of three", [])
    history.do(documents=[DocumentUpdate("b/0", b"four")])
    assert store.load_document("b/0") == (b"snapshot of three", [b"four"])
    assert store.load_document("b/1") == (None, [b"uno"])
    assert list(store.iter_documents()) == ["b/0", "b/1"]


def test_replies_are_kept_with_the_record(store):
    history = History(store)
    history.do(reply={"status": 201, "etag": "x"}, request_id="a")
    history.do(reply=None, request_id="b")
    with store.view() as view:
        assert view.reply("a") == ({"status": 201, "etag": "x"},)
        assert view.reply("b") == (None,)
        assert view.reply("c") is None


def test_old_replies_are_pruned(store):
    count = REPLIES_KEPT + 600
    records = [record(seq, reply=seq) for seq in range(1, count + 1)]
    logged(store, *records)
    store.commit([AppliedRecord(r, [], []) for r in records])
    with store.view() as view:
        assert view.reply(f"request-{count}") == (count,)
        assert view.reply(f"request-{count - REPLIES_KEPT + 1}") is not None
        assert view.reply("request-1") is None


# --- the index ----------------------------------------------------------------------------------------------------------


def test_a_file_appears_with_size_and_etag(store):
    history = History(store)
    v1 = history.next_version
    history.do(name("1.1.1.0", v1, ROOT, "a.txt"), content("1.1.1.0", v1, manifest(10)))
    expected = Entry("1.1.1.0", ROOT, "a.txt", "f", v1, 5, 7, 10, "e1")
    with store.view() as view:
        assert view.entry("1.1.1.0") == view.child(ROOT, "a.txt") == expected
        assert view.children(ROOT) == [expected]
        assert view.manifest("1.1.1.0") == (v1, manifest(10))
        assert view.usage() == (1, 10)
        assert view.entry(ROOT).mtime_ns == 100


@pytest.mark.parametrize("manifest_first", [True, False])
def test_name_and_content_may_come_in_any_order_and_apart(store, manifest_first):
    history = History(store)
    steps = [
        lambda: history.do(name("1.1.1.0", history.next_version, ROOT, "a")),
        lambda: history.do(content("1.1.1.0", history.next_version, manifest(10))),
    ]
    for step in reversed(steps) if manifest_first else steps:
        step()
    with store.view() as view:
        entry = view.child(ROOT, "a")
        assert (entry.size, entry.etag, entry.mtime_ns) == (10, "e1", 7)


def test_overwrite_and_delete_keep_usage_right(store):
    history = History(store)
    v1 = history.do(name("1.1.1.0", "v0", ROOT, "a"), content("1.1.1.0", history.next_version, manifest(10)))
    v2 = history.next_version
    history.do(gone(keys.MANIFEST, "1.1.1.0", v1), content("1.1.1.0", v2, manifest(30, "e2", 9)))
    with store.view() as view:
        assert view.usage() == (1, 30)
        assert view.child(ROOT, "a").etag == "e2"
    history.do(gone(keys.MANIFEST, "1.1.1.0", v1))  # an old version's delete does nothing
    with store.view() as view:
        assert view.manifest("1.1.1.0") == (v2, manifest(30, "e2", 9))
    history.do(gone(keys.MANIFEST, "1.1.1.0", v2), gone(keys.NAME, "1.1.1.0", "v0"))
    with store.view() as view:
        assert view.usage() == (0, 0)
        assert view.children(ROOT) == []


def test_older_versions_do_not_win(store):
    history = History(store)
    history.do(name("1.1.1.0", "0002", ROOT, "new"), content("1.1.1.0", "0002", manifest(2, "new")))
    history.do(name("1.1.1.0", "0001", ROOT, "old"), content("1.1.1.0", "0001", manifest(1, "old")))
    key = keys.make(keys.PROPERTY, "1.1.1.0", "0002", "{DAV:}x")
    history.do((key, "<new/>"))
    history.do((keys.make(keys.PROPERTY, "1.1.1.0", "0001", "{DAV:}x"), "<old/>"))
    with store.view() as view:
        assert [(e.name, e.etag) for e in view.children(ROOT)] == [("new", "new")]
        assert view.usage() == (1, 2)
        assert view.properties("1.1.1.0") == {"{DAV:}x": ("0002", "<new/>")}


def test_a_rename_in_either_order_of_keys(store):
    for order in (1, -1):
        history = History(store)
        inode = f"{history.seq:x}.1.1.0"
        v1 = history.next_version
        history.do(name(inode, v1, ROOT, f"from{order}", "d"))
        v2 = history.next_version
        history.do(*[gone(keys.NAME, inode, v1), name(inode, v2, ROOT, f"to{order}", "d")][::order])
        with store.view() as view:
            assert view.child(ROOT, f"from{order}") is None
            assert view.child(ROOT, f"to{order}").version == v2


def test_a_directorys_mtime_is_its_last_change(store):
    history = History(store)
    history.do(name("d1", "v1", ROOT, "one", "d"), name("d2", "v1", ROOT, "two", "d"))
    with store.view() as view:
        assert view.entry("d1").mtime_ns == 5  # created, and empty since
    history.do(name("f", "v2", "d1", "file"))
    history.do(gone(keys.NAME, "f", "v2"), name("f", "v3", "d2", "file"))
    with store.view() as view:
        assert (view.entry("d1").mtime_ns, view.entry("d2").mtime_ns) == (300, 300)
    history.do(gone(keys.NAME, "d1", "v1"), name("d1", "v4", ROOT, "renamed", "d"))
    with store.view() as view:
        assert (view.entry("d1").mtime_ns, view.entry(ROOT).mtime_ns) == (300, 400)
    history.do(gone(keys.NAME, "f", "v3"))
    with store.view() as view:
        assert view.entry("d2").mtime_ns == 500


def test_children_are_sorted_and_complete(store):
    names = ["b", "a", "ä", "Z", "\U0001f600", "\uffee", "a b", "%41"]
    history = History(store)
    history.do(*[name(f"{n:x}.1.1.0", "v", ROOT, text) for n, text in enumerate(names)])
    history.do(name("99.1.1.0", "v", "0.1.1.0", "deeper"))
    with store.view() as view:
        assert [e.name for e in view.children(ROOT)] == sorted(names)
        assert [e.name for e in view.children("0.1.1.0")] == ["deeper"]


def test_segments_and_properties(store):
    history = History(store)
    segment = values.encode_segment((ChunkRef("1" * 64, 4, ("node-1",)),))
    tricky = "{http://example.org/a@b/c}prop@x/y"
    history.do(
        (keys.make(keys.SEGMENT, "c1", "v1", "0"), segment),
        (keys.make(keys.SEGMENT, "c1", "v1", "10"), segment),
        (keys.make(keys.PROPERTY, ROOT, "v1", tricky), "<p/>"),
    )
    with store.view() as view:
        assert view.segment("c1", 10) == ("v1", segment)
        assert view.segment("c1", 1) is None
        assert view.properties(ROOT) == {tricky: ("v1", "<p/>")}
    history.do(gone(keys.SEGMENT, "c1", "v1", "10"), gone(keys.PROPERTY, ROOT, "v1", tricky))
    with store.view() as view:
        assert view.segment("c1", 10) is None
        assert view.segment("c1", 0) == ("v1", segment)
        assert view.properties(ROOT) == {}


def test_every_chunk_is_listed_of_manifests_and_segments(store):
    history = History(store)
    own, other = ChunkRef("0" * 64, 4, ("node-1", "node-2")), ChunkRef("1" * 64, 4, ("node-3",))
    history.do(name("a", "v", ROOT, "a"), content("a", "v", manifest(4)), content("nameless", "v", manifest(4)))
    history.do((keys.make(keys.SEGMENT, "c1", "v1", "0"), values.encode_segment((other, other))))
    with store.view() as view:
        assert sorted(view.chunks(), key=lambda chunk: chunk.digest) == [own, own, other, other]
    history.do(gone(keys.SEGMENT, "c1", "v1", "0"))
    with store.view() as view:
        assert list(view.chunks()) == [own, own]


def test_members_of_a_directory_with_their_properties(store):
    history = History(store)
    history.do(
        name("a", "v", ROOT, "a", "d"), name("b", "v", ROOT, "b"), name("c", "v", "a", "c"), name("e", "v", ROOT, "e")
    )
    for inode in ("a", "b", "c", ROOT):
        history.do(*[(keys.make(keys.PROPERTY, inode, "v1", p), f"<{inode}-{p}/>") for p in ("{x}p", "{x}q")])

    def members(view, parent):
        return [(entry.inode, dead) for entry, dead in view.members(parent)]

    with store.view() as view:
        assert members(view, ROOT) == [
            ("a", {"{x}p": "<a-{x}p/>", "{x}q": "<a-{x}q/>"}),
            ("b", {"{x}p": "<b-{x}p/>", "{x}q": "<b-{x}q/>"}),
            ("e", {}),
        ]
        assert members(view, "a") == [("c", {"{x}p": "<c-{x}p/>", "{x}q": "<c-{x}q/>"})]
        assert members(view, "b") == []


@pytest.mark.parametrize("count", [listing.KEPT - 1, listing.KEPT, listing.KEPT + listing.BLOCK, listing.KEPT * 2 + 7])
def test_members_of_a_large_directory_are_of_one_state(store, count):
    """Whatever changes while they are read one by one, long after the view is closed."""
    history = History(store)
    history.do(name("d", "v", ROOT, "d", "d"))
    history.do(*[name(f"f{n:05d}", "v", "d", f"name {n:05d}") for n in range(count)])
    history.do((keys.make(keys.PROPERTY, "f00003", "v1", "{x}p"), "<p/>"))
    with store.view() as view:
        before = view.children("d")
        reading = view.members("d")
    found = [next(reading)]
    history.do(*[name(f"f{n:05d}", "w", "d", f"renamed {n:05d}") for n in range(0, count, 7)])
    found.extend(reading)
    assert [entry for entry, _ in found] == before
    assert {entry.inode: dead for entry, dead in found if dead} == {"f00003": {"{x}p": "<p/>"}}


# --- threads and ends ---------------------------------------------------------------------------------------------------


def test_readers_see_whole_states_while_a_writer_works(store):
    stop = threading.Event()
    errors = []

    def read():
        try:
            while not stop.is_set():
                with store.view() as view:
                    first = view.committed.seq
                    files, size = view.usage()
                    listed = view.children(ROOT)
                    assert files == len(listed) == view.committed.seq == first
                    assert size == sum(e.size for e in listed)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    history = History(store)
    for n in range(60):
        inode, version = f"{n:x}.1.1.0", history.next_version
        history.do(name(inode, version, ROOT, f"f{n}"), content(inode, version, manifest(n)))
    stop.set()
    for thread in threads:
        thread.join(10)
    assert errors == []


def test_an_error_inside_a_view_passes_and_the_store_goes_on(store):
    with pytest.raises(KeyError), store.view():
        raise KeyError("x")
    History(store).do()
    with store.view() as view:
        assert view.committed == at(1)


def test_a_closed_store_says_so(store):
    store.close()
    store.close()
    for use in (lambda: store.seal(E1), lambda: store.read_log(1, 1), lambda: store.load_document("b/0")):
        with pytest.raises(Unavailable, match="closed"):
            use()


def test_small_chunks_come_with_their_records(store):
    digest = blake3(b"small").hexdigest()
    store.append([(at(1), encode(record(1)))], None, [(digest, b"small")])
    assert store.chunk(digest) == b"small"
    assert store.has_chunk(digest)
    assert store.chunk("0" * 64) is None
    assert not store.has_chunk("0" * 64)


def test_a_small_chunk_with_other_bytes_than_its_name_says_is_refused(store):
    digest = blake3(b"small").hexdigest()
    store.append([(at(1), encode(record(1)))], None, [(digest, b"other")])
    with pytest.raises(CorruptData):
        store.chunk(digest)


def test_a_refused_append_keeps_no_chunk(store):
    digest = blake3(b"small").hexdigest()
    with pytest.raises(ValueError, match="cannot follow"):
        store.append([(at(7), encode(record(7)))], None, [(digest, b"small")])
    assert not store.has_chunk(digest)


def test_manifests_are_paged_by_inode(store):
    history = History(store)
    for inode in ("3", "1", "2"):
        manifest = Manifest(0, 5, "e" + inode, 4096)
        history.do((keys.make(keys.MANIFEST, inode, history.next_version), values.encode_manifest(manifest)))
    with store.view() as view:
        assert [(inode, m.etag) for inode, m in view.manifests("", 2)] == [("1", "e1"), ("2", "e2")]
        assert [inode for inode, _ in view.manifests("2", 2)] == ["3"]
        assert view.manifests("3", 2) == []
