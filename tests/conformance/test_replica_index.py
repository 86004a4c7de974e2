"""What every ReplicaStore answers from its index, in whatever order the changes came."""

from __future__ import annotations

import pytest

from davfs.core import keys, values
from davfs.core.model import ROOT, ChunkRef, Entry, Manifest
from davfs.storage import listing
from tests.conformance.replica_history import History, content, gone, manifest, name


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


def test_manifests_are_paged_by_inode(store):
    history = History(store)
    for inode in ("3", "1", "2"):
        manifest = Manifest(0, 5, "e" + inode, 4096)
        history.do((keys.make(keys.MANIFEST, inode, history.next_version), values.encode_manifest(manifest)))
    with store.view() as view:
        assert [(inode, m.etag) for inode, m in view.manifests("", 2)] == [("1", "e1"), ("2", "e2")]
        assert [inode for inode, _ in view.manifests("2", 2)] == ["3"]
        assert view.manifests("3", 2) == []
