"""What every ChunkStore promises: run over the one on disk and the simulator's."""

from __future__ import annotations

import os
import random
import threading

import pytest
from blake3 import blake3

from davfs.core.errors import ChunkMissing, CorruptData, NoSpace, StorePoisoned
from davfs.sim.memory_chunks import MemoryChunkStore
from davfs.storage.chunk_store import DiskChunkStore

VOLUME = "0123abcd"


class OnDisk:
    def __init__(self, root, monkeypatch):
        self.root = root
        self.monkeypatch = monkeypatch
        self.store = DiskChunkStore(root)

    def path(self, digest):
        return self.root / VOLUME / digest[:2] / digest

    def damage(self, digest):
        data = bytearray(self.path(digest).read_bytes())
        data[-1] ^= 1
        self.path(digest).write_bytes(data)

    def fill(self):
        def writev(fd, parts):
            raise OSError(28, "No space left on device")

        self.monkeypatch.setattr(os, "writev", writev)

    def break_sync(self):
        def fdatasync(fd):
            self.monkeypatch.undo()  # only this one fails: the store must not try again and believe it
            raise OSError(5, "Input/output error")

        self.monkeypatch.setattr(os, "fdatasync", fdatasync)

    def restarted(self):
        return DiskChunkStore(self.root)


class InMemory:
    def __init__(self, root, monkeypatch):
        self.store = MemoryChunkStore(capacity=1 << 26)

    def damage(self, digest):
        self.store.damage(VOLUME, digest)

    def fill(self):
        self.store.fill(True)

    def break_sync(self):
        self.store.poison()

    def restarted(self):
        self.store.lose_power(random.Random(1))
        return self.store


@pytest.fixture(params=[OnDisk, InMemory])
def bench(request, tmp_path, monkeypatch):
    return request.param(tmp_path, monkeypatch)


def chunk(size=1000, seed=0):
    data = (seed.to_bytes(4, "big") * (size // 4 + 1))[:size]
    return blake3(data).hexdigest(), data


@pytest.mark.parametrize("size", [1, 1000, 65536, (4 << 20) + 1])
def test_what_is_put_is_got(bench, size):
    digest, data = chunk(size)
    assert not bench.store.has(VOLUME, digest)
    bench.store.put(VOLUME, digest, memoryview(data))
    assert bench.store.has(VOLUME, digest)
    assert bench.store.get(VOLUME, digest) == data
    bench.store.put(VOLUME, digest, data)
    assert bench.restarted().get(VOLUME, digest) == data


def test_volumes_are_apart(bench):
    digest, data = chunk()
    bench.store.put("other", digest, data)
    assert not bench.store.has(VOLUME, digest)
    with pytest.raises(ChunkMissing):
        bench.store.get(VOLUME, digest)


def test_wrong_digest_is_refused(bench):
    digest, data = chunk()
    with pytest.raises(CorruptData):
        bench.store.put(VOLUME, digest, data + b"x")
    assert not bench.store.has(VOLUME, digest)


def test_empty_chunks_do_not_exist(bench):
    with pytest.raises(ValueError, match="one byte"):
        bench.store.put(VOLUME, blake3(b"").hexdigest(), b"")


def test_damage_is_noticed_once_and_set_aside(bench):
    digest, data = chunk()
    bench.store.put(VOLUME, digest, data)
    bench.damage(digest)
    with pytest.raises(CorruptData):
        bench.store.get(VOLUME, digest)
    with pytest.raises(ChunkMissing):
        bench.store.get(VOLUME, digest)
    bench.store.put(VOLUME, digest, data)
    assert bench.store.get(VOLUME, digest) == data


def test_a_damaged_copy_does_not_count_as_there(bench):
    digest, data = chunk()
    bench.store.put(VOLUME, digest, data)
    bench.damage(digest)
    bench.store.put(VOLUME, digest, data)
    assert bench.store.get(VOLUME, digest) == data


def test_a_full_disk_keeps_what_was_there(bench):
    old, old_data = chunk(seed=1)
    bench.store.put(VOLUME, old, old_data)
    bench.fill()
    digest, data = chunk(seed=2)
    with pytest.raises(NoSpace):
        bench.store.put(VOLUME, digest, data)
    assert not bench.store.has(VOLUME, digest)
    assert bench.store.get(VOLUME, old) == old_data


def test_a_failed_sync_poisons_for_ever(bench):
    old, old_data = chunk(seed=1)
    bench.store.put(VOLUME, old, old_data)
    bench.break_sync()
    digest, data = chunk(seed=2)
    for _ in range(2):
        with pytest.raises(StorePoisoned):
            bench.store.put(VOLUME, digest, data)
    assert not bench.store.has(VOLUME, digest)
    assert bench.store.get(VOLUME, old) == old_data


def test_free_bytes_is_a_number_of_bytes(bench):
    assert bench.store.free_bytes() > 1 << 20


def test_many_writers_of_the_same_and_other_chunks(bench):
    chunks = [chunk(5000, seed) for seed in range(6)]
    errors = []

    def work(first):
        try:
            for n in range(len(chunks)):
                digest, data = chunks[(first + n) % len(chunks)]
                bench.store.put(VOLUME, digest, data)
                assert bench.store.get(VOLUME, digest) == data
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
