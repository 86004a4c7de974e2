"""What the collector needs of every place where chunks are: on disk, in the simulator, small ones in a replica's database,
and a node's two places as one."""

from __future__ import annotations

import itertools
import threading

import pytest
from blake3 import blake3

from davfs.cluster.local_chunks import LocalChunks
from davfs.core.errors import ChunkMissing, CorruptData
from davfs.core.model import Epoch, Position
from davfs.core.record import OPERATION, Record, encode
from davfs.sim.memory_chunks import MemoryChunkStore
from davfs.storage.chunk_store import DiskChunkStore
from davfs.storage.replica_db import ReplicaDb

VOLUME = "0123abcd"


class Ages:
    def __init__(self):
        self.now = 1000

    def __call__(self):
        return self.now


class SmallChunks:
    """Only the small ones, with the methods of the whole."""

    def __init__(self, path, ages):
        self.db = ReplicaDb(path, ages)
        self.age_ns = ages
        self._seqs = itertools.count(1)
        nothing = MemoryChunkStore(age_ns=ages)
        self._both = LocalChunks(nothing, lambda volume: self.db)

    def put(self, volume, digest, data):
        at = Position(Epoch(1, 1), next(self._seqs))
        self.db.append([(at, encode(Record(volume, at, OPERATION, "")))], None, [(digest, data)])

    def __getattr__(self, name):
        return getattr(self._both, name)


@pytest.fixture
def ages():
    return Ages()


@pytest.fixture(params=["disk", "memory", "small", "small in memory"])
def store(request, tmp_path, ages):
    if request.param == "disk":
        yield DiskChunkStore(tmp_path, ages)
    elif request.param == "memory":
        yield MemoryChunkStore(age_ns=ages)
    else:
        store = SmallChunks(tmp_path / "v.sqlite" if request.param == "small" else ":memory:", ages)
        yield store
        store.db.close()


def put(store, *bodies):
    digests = [blake3(body).hexdigest() for body in bodies]
    for digest, body in zip(digests, bodies, strict=True):
        store.put(VOLUME, digest, body)
    return digests


def walk(store, limit, before):
    """(the old ones, how many were seen, their bytes) of all pages."""
    after, old, seen, size = "", [], 0, 0
    while after is not None:
        page = store.page(VOLUME, after, limit, before)
        old += page.old
        seen += page.seen
        size += page.seen_bytes
        after = page.after
    return old, seen, size


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_every_chunk_is_walked_once_and_by_digest(store, ages, limit):
    bodies = [bytes([n]) * (n + 1) for n in range(40)]
    digests = put(store, *bodies)
    old, seen, size = walk(store, limit, 1001)
    assert old == sorted(zip(digests, map(len, bodies), strict=True))
    assert (seen, size) == (40, sum(map(len, bodies)))
    assert walk(store, limit, 1000) == ([], 40, size)


def test_what_was_put_or_kept_since_is_not_old_and_not_removed(store, ages):
    one, two, three = put(store, b"one", b"two", b"three")
    ages.now = 2000
    put(store, b"two")  # there already
    assert store.keep(VOLUME, three) == 5
    assert walk(store, 10, 2000)[0] == [(one, 3)]
    assert store.remove(VOLUME, [one, two, three, "0" * 64], 2000) == (1, 3)
    assert [store.has(VOLUME, digest) for digest in (one, two, three)] == [False, True, True]


def test_what_is_removed_is_read_until_it_is_swept(store, ages):
    (digest,) = put(store, b"one")
    ages.now = 2000
    assert store.remove(VOLUME, [digest], 2000) == (1, 3)
    assert walk(store, 10, 9000) == ([], 0, 0)
    assert store.get(VOLUME, digest) == b"one"
    assert store.sweep(VOLUME, 2000) == (0, 0)
    assert store.get(VOLUME, digest) == b"one"
    assert store.sweep(VOLUME, 2001) == (1, 3)
    with pytest.raises(ChunkMissing):
        store.get(VOLUME, digest)
    assert store.sweep(VOLUME, 2001) == (0, 0)


@pytest.mark.parametrize("again", ["put", "keep"])
def test_what_is_removed_comes_back_and_stays(store, ages, again):
    (digest,) = put(store, b"one")
    ages.now = 2000
    store.remove(VOLUME, [digest], 2000)
    ages.now = 3000
    if again == "put":
        put(store, b"one")
    else:
        store.keep(VOLUME, digest)
    assert store.has(VOLUME, digest)
    assert store.remove(VOLUME, [digest], 3000) == (0, 0)
    store.sweep(VOLUME, 2500)
    assert store.get(VOLUME, digest) == b"one"


def test_a_chunk_that_is_not_there_or_wrong_is_not_kept(tmp_path, ages):
    store = DiskChunkStore(tmp_path, ages)
    (digest,) = put(store, b"one")
    file = tmp_path / VOLUME / digest[:2] / digest
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptData):
        store.keep(VOLUME, digest)
    with pytest.raises(ChunkMissing):
        store.keep(VOLUME, digest)


def test_a_chunk_that_is_not_there_cannot_be_kept(store):
    with pytest.raises(ChunkMissing):
        store.keep(VOLUME, "0" * 64)


def test_puts_race_removals_and_never_say_have_it_of_what_is_gone(tmp_path):
    numbers = itertools.count(1)
    store = DiskChunkStore(tmp_path, lambda: next(numbers))
    (digest,) = put(store, b"one")
    lost, done = [], threading.Event()

    def remove():
        while not done.is_set():
            store.remove(VOLUME, [digest], store.age_ns())

    other = threading.Thread(target=remove)
    other.start()
    for _ in range(300):
        begun = store.age_ns()
        put(store, b"one")
        # An order that began before the answer finds it touched; only a later one may take it.
        if store.remove(VOLUME, [digest], begun) != (0, 0):
            lost.append(begun)
    done.set()
    other.join()
    assert lost == []


def test_both_places_of_a_node_are_walked_and_collected(tmp_path, ages):
    small = SmallChunks(tmp_path / "v.sqlite", ages)
    files = DiskChunkStore(tmp_path, ages)
    node = LocalChunks(files, lambda volume: small.db)
    in_file, in_both, in_table = b"file", b"both", b"table"
    put(files, in_file, in_both)
    put(small, in_both, in_table)
    names = [blake3(body).hexdigest() for body in (in_file, in_both, in_table)]
    old, seen, _ = walk(node, 1, 1001)
    assert {digest for digest, _ in old} == set(names)
    assert seen == 4
    assert node.remove(VOLUME, names, 1001) == (4, 4 + 4 + 4 + 5)
    assert not any(node.has(VOLUME, name) for name in names)
    assert node.keep(VOLUME, names[2]) == 5
    assert node.sweep(VOLUME, 1001) == (3, 12)
    assert node.get(VOLUME, names[2]) == in_table
    small.db.close()
