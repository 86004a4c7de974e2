"""Values of documents survive a round trip; anything malformed is a ValueError."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davfs.core import values
from davfs.core.model import ChunkRef, Manifest

DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
NODES = st.lists(st.sampled_from(["node-1", "node-2", "node-3", "node-4"]), max_size=4).map(tuple)
CHUNKS = st.lists(st.builds(ChunkRef, DIGESTS, st.integers(1, 1 << 26), NODES), max_size=12).map(tuple)
TIMES = st.integers(-(1 << 62), 1 << 62)


def is_name(text: str) -> bool:
    return text not in ("", ".", "..") and "/" not in text and "\0" not in text and len(text.encode()) <= 255


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(is_name)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), NAMES, st.sampled_from("df"), TIMES, st.none() | TIMES)
def test_names_survive(parent, name, kind, created_ns, mtime_ns):
    text = values.encode_name(parent, name, kind, created_ns, mtime_ns)
    assert values.decode_name(text) == values.NameEntry(parent, name, kind, created_ns, mtime_ns)
    assert ("t" in json.loads(text)) is (mtime_ns is not None)


CHECKSUMS = {"MD5": "0123456789abcdef" * 2, "SHA1": "a" * 40, "ADLER32": "00000001"}


@given(st.sets(st.sampled_from(sorted(CHECKSUMS))))
def test_checksums_survive(names):
    digests = tuple(sorted((name, CHECKSUMS[name]) for name in names))
    manifest = Manifest(0, 1, "e", 4096, digests=digests)
    assert values.decode_manifest(values.encode_manifest(manifest)).digests == digests


@pytest.mark.parametrize("digests", [[], {"MD5": "0"}, {"MD5": None}, {"SHA1": "x" * 40}, {"UNKNOWN": "not hex"}])
def test_malformed_checksums_are_refused(digests):
    text = values.encode_manifest(Manifest(0, 1, "e", 4096))
    with pytest.raises(ValueError, match="checksum"):
        values.decode_manifest(json.dumps({**json.loads(text), "d": digests}))
    assert values.decode_digests({"BLAKE9": "00"}) == ()  # one of a newer davfs


@given(CHUNKS, TIMES, st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(1, 1 << 26))
def test_manifests_survive(chunks, mtime_ns, etag, chunk_size):
    manifest = Manifest(sum(c.size for c in chunks), mtime_ns, etag, chunk_size, chunks)
    text = values.encode_manifest(manifest)
    assert values.decode_manifest(text) == manifest
    assert len(json.loads(text)["N"]) == len({c.nodes for c in chunks})


@given(st.integers(0, 1 << 60), st.integers(1, 1000))
def test_segmented_manifests_survive(size, segments):
    manifest = Manifest(size, 1, "e", 4096, (), segments, "c1")
    assert values.decode_manifest(values.encode_manifest(manifest)) == manifest


@given(CHUNKS)
def test_segments_survive(chunks):
    assert values.decode_segment(values.encode_segment(chunks)) == chunks


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 256, "ä" * 128, "\ud800"])
def test_impossible_names_are_refused(name):
    with pytest.raises(ValueError, match=r"name|surrogates"):
        values.encode_name("root", name, "f", 0)


def test_equal_values_are_equal_text():
    assert values.encode_name("root", "a", "d", 5) == '{"c":5,"k":"d","n":"a","p":"root"}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list("pnkcstezgNrqdwo")), inner, max_size=8),
    max_leaves=20,
)


@given(JSON.map(json.dumps) | st.text(max_size=20))
def test_malformed_values_are_refused(text):
    """With a ValueError and nothing else; what is accepted is well formed: it can be written and read again."""
    codecs: list[tuple[Callable[[str], Any], Callable[[Any], str]]] = [
        (values.decode_name, values.encode_entry),
        (values.decode_manifest, values.encode_manifest),
        (values.decode_segment, values.encode_segment),
    ]
    for decode, encode in codecs:
        try:
            accepted = decode(text)
        except ValueError:
            continue
        assert decode(encode(accepted)) == accepted


@given(CHUNKS.filter(bool), st.data())
def test_a_damaged_manifest_is_refused_or_different(chunks, data):
    manifest = Manifest(sum(c.size for c in chunks), 1, "e", 4096, chunks)
    value = json.loads(values.encode_manifest(manifest))
    field = data.draw(st.sampled_from(sorted(value)))
    value[field] = data.draw(JSON.filter(lambda v: v != value[field]))
    with contextlib.suppress(ValueError):
        assert values.decode_manifest(json.dumps(value)) != manifest


@pytest.mark.parametrize(
    "chunk",
    [["0" * 63, 1, 0], ["0" * 64, 0, 0], ["0" * 64, 1, 1], ["0" * 64, 1, -1], ["0" * 64, True, 0], ["G" * 64, 1, 0], 7],
)
def test_impossible_chunks_are_refused(chunk):
    with pytest.raises(ValueError, match=r"digest|size|chunk"):
        values.decode_segment(json.dumps({"N": [["node-1"]], "c": [chunk]}))


def test_chunks_must_add_up():
    with pytest.raises(ValueError, match="add up"):
        values.encode_manifest(Manifest(7, 1, "e", 4, (ChunkRef("0" * 64, 4, ()),)))


def test_moved_segments_of_a_manifest():
    manifest = Manifest(99, 1, "e", 4096, (), 4, "c1", moved=((1, "c2"), (3, "c3")))
    again = values.decode_manifest(values.encode_manifest(manifest))
    assert again == manifest
    assert [again.content_of(number) for number in range(4)] == ["c1", "c2", "c1", "c3"]
    assert again.contents == ("c1", "c2", "c3")


@pytest.mark.parametrize(
    "moved", ["{}", "[[1]]", '[["1","c"]]', '[[4,"c"]]', '[[-1,"c"]]', '[[1,""]]', '[[2,"c"],[1,"c"]]', "[[1,1]]"]
)
def test_malformed_moved_segments_are_refused(moved):
    text = values.encode_manifest(Manifest(99, 1, "e", 4096, (), 4, "c1", moved=((1, "c2"),)))
    with pytest.raises(ValueError, match="moved"):
        values.decode_manifest(text.replace('[[1,"c2"]]', moved))
