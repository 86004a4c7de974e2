"""Records that are framed rightly and that no replica can apply: refused before they are durable, or cut by the next holder."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from davfs.cluster.assign import _without_bad
from davfs.core import keys, values
from davfs.core.errors import CorruptData, DavfsError
from davfs.core.late import is_sound
from davfs.core.model import FILE, ROOT
from davfs.core.record import DocumentChange, Record, decode, encode
from davfs.crdt.documents import AutomergeDocuments
from tests.fuzz import nodes
from tests.golden.history import E2, VOLUME
from tests.property.test_bad_bytes import TOKEN, Node, finish, truth

TOO_LATE = (1 << 63) + 5
EMPTY = '{"N":[],"c":[]}'


def changed(first: Record, *changes: DocumentChange) -> bytes:
    return encode(replace(first, changes=changes, base=None, kind="op"))


def written(record: Record, key: str, value: str) -> DocumentChange:
    """A change that puts one value into a document of its own."""
    document = AutomergeDocuments().load(None, (), b"\x07" * 16)
    change = document.change([(key, value)], [])
    return DocumentChange("d/bad", change, document.heads(), ((key, value),))


def bad_records(first: Record) -> dict[str, bytes]:
    at = keys.version_of(first.position)
    inode = keys.make_inode(first.position, 9)
    good = written(first, keys.make(keys.NAME, inode, at), values.encode_name(ROOT, "x", FILE, 5))
    late = values.encode_name(ROOT, "x", FILE, 5).replace('"c":5', f'"c":{TOO_LATE}')
    return {
        "a change that is no change": changed(first, replace(good, change=b"nothing")),
        "other heads": changed(first, replace(good, heads=(b"\1" * 32,))),
        "a time beyond what an index keeps": changed(first, written(first, keys.make(keys.NAME, inode, at), late)),
        "no JSON": changed(first, written(first, keys.make(keys.NAME, inode, at), "nonsense")),
        "no key": changed(first, written(first, "nonsense", "{}")),
        "a segment without end": changed(first, written(first, keys.make(keys.SEGMENT, inode, at, "9" * 30), EMPTY)),
        "one document twice": changed(first, good, good),
    }


@pytest.fixture
def node():
    made = Node()
    yield made
    made.close()


LOG, BEFORE, _ = truth()
BEHIND = 4
BAD = bad_records(decode(LOG[BEHIND], VOLUME))


def begin(node: Node) -> None:
    node.append(BEFORE[0], LOG[:BEHIND], BEHIND)
    node.replica.apply_committed()


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_program_cannot_make_one_durable(node: Node, bad: bytes, monkeypatch):
    begin(node)
    there = node.state()
    monkeypatch.setattr("davfs.core.grants.is_program", lambda peer: True)
    with pytest.raises(CorruptData):
        node.append(BEFORE[BEHIND], [bad])
    with pytest.raises(CorruptData):
        node.append(BEFORE[BEHIND], [LOG[BEHIND], replaced(bad, BEHIND + 2)])
    assert node.state() == there
    finish(node)  # by the same way: what is good is taken


def test_over_http_a_damaged_record_is_the_program_s_mistake():
    with ExitStack() as stack:
        attempt = nodes._api(stack)
        for body in (b"\0\0\0\3abc", b"\0\0\0\x16DR\2" + bytes(19), b"\0\0\0\1"):
            target = f"/v1/volumes/demo/records?previous=1.1.{BEHIND}&committed=0"
            with pytest.raises(DavfsError):  # 4xx; a 5xx would be Failed
                attempt(b"\n".join([b"POST", target.encode(), b"Bearer " + TOKEN.hex().encode(), b"1.2", body]))


def replaced(bad: bytes, seq: int) -> bytes:
    record = decode(bad, VOLUME)
    return encode(replace(record, position=record.position._replace(seq=seq)))


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_the_next_holder_cuts_one(node: Node, bad: bytes):
    """As a node's own bug would make it: logged by a majority, and then in the way of everything."""
    begin(node)
    node.append(BEFORE[BEHIND], [bad])
    with pytest.raises(CorruptData):
        node.replica.advance(BEHIND + 1)
    assert node.store.committed.seq == BEHIND
    assert _without_bad(node.replica, node.store.last, BEHIND) == BEFORE[BEHIND]
    assert node.store.last == BEFORE[BEHIND]
    assert node.store.late == 1  # for people to see what became of it
    finish(node)


def test_words_that_no_record_can_say_are_known():
    unsound = {name for name, bad in BAD.items() if not is_sound(decode(bad, VOLUME))}
    assert unsound == {"a time beyond what an index keeps", "no JSON", "no key", "a segment without end"}
    assert all(is_sound(decode(data, VOLUME)) for data in LOG)


def test_what_can_be_applied_stays(node: Node):
    begin(node)
    node.append(BEFORE[BEHIND], LOG[BEHIND:])
    assert node.replica.trial() is None
    there = node.store.last
    assert _without_bad(node.replica, there, BEHIND) == there
    assert node.store.committed.seq == BEHIND
    finish(node)


def test_what_is_committed_is_never_cut(node: Node):
    begin(node)
    node.append(BEFORE[BEHIND], [BAD["no JSON"]])
    assert _without_bad(node.replica, node.store.last, BEHIND + 1) == node.store.last
    assert node.store.last.seq == BEHIND + 1 and node.store.last.epoch <= E2


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63), 1 << 200])
def test_no_value_holds_a_number_that_an_index_does_not(number):
    for time in ((number, None), (5, number)):
        with pytest.raises(ValueError, match="2262"):
            values.encode_name(ROOT, "x", FILE, *time)
    good = values.decode_manifest('{"N":[],"c":[],"e":"e","g":0,"s":0,"t":5,"z":4096}')
    for field in ("size", "mtime_ns", "chunk_size", "segments"):
        with pytest.raises(ValueError, match="64 bits"):
            values.encode_manifest(replace(good, **{field: number}))
