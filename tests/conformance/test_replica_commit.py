"""What every ReplicaStore promises of commits: whole, in order, and whole for those who read meanwhile."""

from __future__ import annotations

import threading

import pytest

from davfs.core.errors import CorruptData, Unavailable
from davfs.core.model import ORIGIN, ROOT
from davfs.core.ports import AppliedRecord, DocumentUpdate, IndexUpdate
from davfs.core.record import START, Record
from davfs.storage.replica_db import REPLIES_KEPT
from tests.conformance.replica_history import E1, E2, History, at, content, logged, manifest, name, record


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
