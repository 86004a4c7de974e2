"""automerge documents: changes replicate in order, damage is refused, and a damaged document is not used further."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from davfs.core.errors import CorruptData
from davfs.crdt.documents import SPARE_BYTES, SPARES, AutomergeDocuments

KEYS = st.sampled_from([f"n/{i:x}@0001.00000001.00000000000{j}" for i in range(4) for j in range(3)]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8
)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
CHANGES = st.lists(
    st.tuples(st.lists(st.tuples(KEYS, VALUES), max_size=4), st.lists(KEYS, max_size=3)),
    min_size=1,
    max_size=8,
)
DOCUMENTS = AutomergeDocuments()


def actor(number: int) -> bytes:
    return number.to_bytes(16, "big")


def change(document, puts, deletes) -> bytes | None:
    """The change, or None (checked) when there is nothing to do."""
    before = contents(document)
    try:
        return document.change(puts, deletes)
    except ValueError:
        assert not any(key in before for key in deletes)
        assert all(before.get(key) == value for key, value in dict(puts).items())
        return None


def contents(document):
    return {key: document.get(key) for key in document.keys()}  # noqa: SIM118 - not a dict


@settings(deadline=None)
@given(CHANGES, st.integers(0, 8))
def test_changes_replicate_in_order(changes, saved_at):
    writer = DOCUMENTS.load(None, [], actor(1))
    replica = DOCUMENTS.load(None, [], actor(2))
    expected: dict[str, str] = {}
    snapshot, tail = None, []
    for number, (puts, deletes) in enumerate(changes):
        made = change(writer, puts, deletes)
        if made is None:
            continue
        for key in deletes:
            expected.pop(key, None)
        expected.update(puts)
        replica.apply(made, writer.heads())
        assert contents(replica) == contents(writer) == expected
        assert replica.heads() == writer.heads()
        tail.append(made)
        if number == saved_at:
            snapshot, tail = replica.save(), []
    stored = DOCUMENTS.load(snapshot, tail, actor(3))
    assert contents(stored) == expected
    assert stored.heads() == writer.heads()
    replica.apply(stored.change([("after", "load")], []), stored.heads())
    assert replica.get("after") == "load"


@settings(deadline=None)
@given(CHANGES, st.data())
def test_a_flipped_bit_is_refused_and_changes_nothing_stored(changes, data):
    writer = DOCUMENTS.load(None, [], actor(1))
    stored = [made for c in changes if (made := change(writer, *c)) is not None]
    assume(stored)
    replica = DOCUMENTS.load(None, stored[:-1], actor(2))
    at = data.draw(st.integers(0, len(stored[-1]) - 1))
    damaged = bytearray(stored[-1])
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptData):
        replica.apply(bytes(damaged), writer.heads())
    for use in (replica.heads, replica.keys, replica.save, lambda: replica.change([("k", "v")], [])):
        with pytest.raises(CorruptData, match="unusable"):
            use()
    again = DOCUMENTS.load(None, stored[:-1], actor(3))
    again.apply(stored[-1], writer.heads())
    assert contents(again) == contents(writer)


@settings(deadline=None)
@given(CHANGES, st.data())
def test_damage_at_rest_is_refused(changes, data):
    writer = DOCUMENTS.load(None, [], actor(1))
    stored = [made for c in changes if (made := change(writer, *c)) is not None]
    assume(stored)
    cut = data.draw(st.integers(0, len(stored)))
    snapshot = DOCUMENTS.load(None, stored[:cut], actor(2)).save() if cut else None
    parts = [snapshot or b"", *stored[cut:]]
    which = data.draw(st.sampled_from([i for i, part in enumerate(parts) if part]))
    damaged = bytearray(parts[which])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 0x10
    parts[which] = bytes(damaged)
    with pytest.raises(CorruptData):
        DOCUMENTS.load(parts[0] or None, parts[1:], actor(3))


def test_a_missing_change_is_noticed():
    writer = DOCUMENTS.load(None, [], actor(1))
    first, second, third = (writer.change([(f"k{i}", "v")], []) for i in range(3))
    replica = DOCUMENTS.load(None, [first], actor(2))
    with pytest.raises(CorruptData):
        replica.apply(third, writer.heads())
    with pytest.raises(CorruptData, match="deps"):
        DOCUMENTS.load(None, [first, third], actor(2))
    assert DOCUMENTS.load(None, [first, second, third], actor(2)).heads() == writer.heads()


def test_a_change_twice_is_no_error():
    writer = DOCUMENTS.load(None, [], actor(1))
    change = writer.change([("k", "v")], [])
    replica = DOCUMENTS.load(None, [change], actor(2))
    replica.apply(change, writer.heads())
    assert replica.get("k") == "v"


def test_empty_changes_and_impossible_text_are_the_callers_mistake():
    document = DOCUMENTS.load(None, [], actor(1))
    with pytest.raises(ValueError, match="put or delete"):
        document.change([], [])
    with pytest.raises(ValueError, match="put or delete"):
        document.change([], ["absent"])
    with pytest.raises(ValueError, match="surrogates"):
        document.change([("k", "\ud800")], [])
    with pytest.raises(ValueError, match="16 bytes"):
        DOCUMENTS.load(None, [], b"short")
    document.change([("k", "v")], ["absent"])  # and it is still good
    assert document.keys() == ["k"]
    document.change([], ["k", "k"])
    assert document.keys() == []


class Surprising(str):
    """Text whose encoding passes the check before automerge sees it, and which automerge cannot take."""

    def __new__(cls, text):
        return super().__new__(cls, "\ud800")

    def encode(self, *_):
        return b"k"


def test_a_panic_becomes_an_error_and_ends_the_document():
    document = DOCUMENTS.load(None, [], actor(1))
    with pytest.raises(CorruptData):
        document.change([(Surprising("k"), "v")], [])


def test_documents_of_the_same_bytes_are_apart_however_often_they_are_loaded():
    """A load leaves a copy for the next one of those bytes: each must be as if it came from the bytes."""
    documents = AutomergeDocuments()
    writer = documents.load(None, [], actor(1))
    changes = [writer.change([(f"k{n}", "v")], []) for n in range(3)]
    loaded = [documents.load(None, changes, actor(number)) for number in range(2, 7)]
    made = []
    for number, document in enumerate(loaded):
        assert document.heads() == writer.heads()
        made.append(document.change([("own", str(number))], []))
        assert document.get("own") == str(number)
    assert len(set(made)) == len(made)  # of an actor each
    again = documents.load(None, changes, actor(9))
    assert (again.get("own"), again.heads()) == (None, writer.heads())
    for change, document in zip(made, loaded, strict=True):
        documents.load(None, changes, actor(10)).apply(change, document.heads())


def test_few_and_only_small_documents_are_kept_for_the_next_load():
    documents = AutomergeDocuments()
    for number in range(2 * SPARES):
        writer = documents.load(None, [], actor(number))
        documents.load(None, [writer.change([("k", str(number))], [])], actor(20))
    puts = [(f"k{n}", random.Random(n).randbytes(50).hex()) for n in range(SPARE_BYTES // 20)]
    large = documents.load(None, [], actor(21)).change(puts, [])
    assert len(large) > SPARE_BYTES
    before = list(documents._spare)
    documents.load(None, [large], actor(22))
    assert list(documents._spare) == before
    assert len(before) <= SPARES


@settings(deadline=None)
@given(CHANGES, CHANGES)
def test_a_document_without_history_holds_the_same_and_is_changed_on(changes, later):
    """Whoever has its bytes takes part in what comes later; who rebuilt it from another history too, but not needed."""
    writer = DOCUMENTS.load(None, [], actor(1))
    for puts, deletes in changes:
        change(writer, puts, deletes)
    data = DOCUMENTS.without_history(writer)
    assert bool(data) == bool(contents(writer))
    fresh, replica = (DOCUMENTS.load(data or None, [], actor(number)) for number in (2, 3))
    assert contents(fresh) == contents(writer)
    assert fresh.heads() == replica.heads()
    for puts, deletes in later:
        made = change(fresh, puts, deletes)
        if made is not None:
            replica.apply(made, fresh.heads())
    assert contents(replica) == contents(fresh)


def test_without_history_overwrites_weigh_nothing():
    writer = DOCUMENTS.load(None, [], actor(1))
    for number in range(500):
        writer.change([(f"m/1@{number:04}", f"value {number}")], [f"m/1@{number - 1:04}"] if number else [])
    data = DOCUMENTS.without_history(writer)
    assert 5 * len(data) < len(writer.save())
    writer.change([], ["m/1@0499"])
    assert DOCUMENTS.without_history(writer) == b""
