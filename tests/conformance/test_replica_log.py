"""What every ReplicaStore promises of seals and of its log: order, late records, trimming, small chunks."""

from __future__ import annotations

import pytest
from blake3 import blake3

from davfs.core.errors import CorruptData, LogTrimmed
from davfs.core.model import ORIGIN, ROOT, Entry, Epoch
from davfs.core.ports import StoredDocument
from davfs.core.record import encode
from davfs.storage.replica_db import ReplicaDb
from tests.conformance.replica_history import E1, E2, E3, History, at, logged, record


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


def test_late_records_of_another_replica_are_kept_but_for_what_is_here(store):
    logged(store, record(1), record(2), record(3))
    logged(store, record(2, E2), cut_from=2)
    theirs = [(one.position, encode(one)) for one in (record(1), record(2), record(2, E2), record(4))]
    store.add_late(theirs)
    store.add_late(theirs)
    assert [place for place, _ in store.late_records()] == [at(2), at(3), at(4)]
    assert store.late == 3


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
