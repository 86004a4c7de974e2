"""Chunks on a real disk: what lies there, the order of syncs, damage of every kind, a disk that is really full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from blake3 import blake3

from davfs.core.errors import ChunkMissing, CorruptData, InvalidInput, NoSpace, StorePoisoned, Unavailable
from davfs.storage.chunk_store import DiskChunkStore
from davfs.storage.data_dir import DataDirectory
from davfs.storage.files import TEMPORARY
from tests.support.tools import refuse, require_root

VOLUME = "v1"
DATA = b"some bytes" * 100
DIGEST = blake3(DATA).hexdigest()


@pytest.fixture
def store(tmp_path):
    return DiskChunkStore(tmp_path)


@pytest.fixture
def file(tmp_path):
    return tmp_path / VOLUME / DIGEST[:2] / DIGEST


def names(root):
    return sorted(name for _, _, files in os.walk(root) for name in files)


def test_a_chunk_is_a_header_and_the_bytes(store, file):
    store.put(VOLUME, DIGEST, DATA)
    assert file.read_bytes() == b"DVCHUNK1" + len(DATA).to_bytes(8, "big") + DATA


def test_data_is_synced_then_named_then_the_folder_is_synced(store, monkeypatch):
    calls = []

    def watch(name):
        real = getattr(os, name)

        def call(*args, **kwargs):
            calls.append((name, os.readlink(f"/proc/self/fd/{args[0]}")) if name != "rename" else (name, ""))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("writev", "fdatasync", "rename", "fsync"):
        watch(name)
    store.put(VOLUME, DIGEST, DATA)
    kinds = [kind for kind, _ in calls]
    assert kinds == ["fsync", "fsync", "writev", "fdatasync", "rename", "fsync"]  # first: each new parent
    assert calls[2][1] == calls[3][1]
    assert calls[-1][1].endswith(f"/{VOLUME}/{DIGEST[:2]}")
    calls.clear()
    store.put(VOLUME, DIGEST, DATA)  # there already: not written again, but its name is synced before "have it"
    assert [kind for kind, _ in calls] == ["fsync", "fsync"]  # its mtime too: its grace begins anew


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-1],
        lambda data: data[:7],
        lambda data: b"",
        lambda data: data + b"x",
        lambda data: b"X" + data[1:],
        lambda data: data[:8] + b"\xff" * 8 + data[16:],
        lambda data: data[:20] + b"?" + data[21:],
    ],
)
def test_damage_of_every_kind_goes_to_the_quarantine(store, file, tmp_path, harm):
    store.put(VOLUME, DIGEST, DATA)
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(CorruptData, match=DIGEST):
        store.get(VOLUME, DIGEST)
    assert not store.has(VOLUME, DIGEST)
    assert (tmp_path / VOLUME / "quarantine" / DIGEST).exists()
    with pytest.raises(ChunkMissing):
        store.get(VOLUME, DIGEST)


def test_an_unreadable_sector_is_damage_but_too_many_open_files_is_not(store, file, monkeypatch):
    store.put(VOLUME, DIGEST, DATA)
    real = os.read
    for code, expected in ((errno.EMFILE, Unavailable), (errno.EIO, CorruptData)):

        def read(fd, size, code=code):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "read", read)
        with pytest.raises(expected):
            store.get(VOLUME, DIGEST)
        monkeypatch.setattr(os, "read", real)
        assert file.exists() is (code == errno.EMFILE)


def test_a_good_copy_that_came_meanwhile_is_not_set_aside(store, file, monkeypatch):
    store.put(VOLUME, DIGEST, DATA)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    real = os.mkdir

    def mkdir(*args, **kwargs):  # between the bad read and the move
        file.write_bytes(whole)
        return real(*args, **kwargs)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(CorruptData):
        store.get(VOLUME, DIGEST)
    assert store.get(VOLUME, DIGEST) == DATA


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_a_failed_sync_leaves_no_temporary_file(store, tmp_path, monkeypatch, call):
    other = b"other"
    store.put(VOLUME, blake3(other).hexdigest(), other)

    def fail(fd):
        monkeypatch.undo()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorePoisoned, match="check the disk"):
        store.put(VOLUME, DIGEST, DATA)
    assert not [name for name in names(tmp_path) if name.startswith(TEMPORARY)]
    with pytest.raises(StorePoisoned):
        store.put(VOLUME, blake3(other).hexdigest(), other)
    assert store.get(VOLUME, blake3(other).hexdigest()) == other


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("call", ["writev", "fdatasync", "rename"])
def test_no_room_is_said_and_leaves_nothing(store, tmp_path, monkeypatch, call, code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(NoSpace):
            store.put(VOLUME, DIGEST, DATA)
    assert names(tmp_path) == []
    store.put(VOLUME, DIGEST, DATA)  # and it goes on when there is room again
    assert store.get(VOLUME, DIGEST) == DATA


def test_short_writes_are_continued(store, monkeypatch):
    real_writev, real_write = os.writev, os.write
    monkeypatch.setattr(os, "writev", lambda fd, parts: real_write(fd, b"".join(parts)[:20]))
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:100]))
    store.put(VOLUME, DIGEST, DATA)
    monkeypatch.setattr(os, "writev", real_writev)
    assert store.get(VOLUME, DIGEST) == DATA


@pytest.mark.parametrize(
    ("volume", "digest"),
    [
        ("..", DIGEST),
        ("a/b", DIGEST),
        ("", DIGEST),
        (VOLUME, "../" + DIGEST[3:]),
        (VOLUME, DIGEST.upper()),
        (VOLUME, ""),
    ],
)
def test_names_from_the_network_never_become_paths(store, volume, digest):
    for use in (
        lambda: store.get(volume, digest),
        lambda: store.has(volume, digest),
        lambda: store.put(volume, digest, DATA),
    ):
        with pytest.raises(InvalidInput):
            use()


@pytest.mark.root
def test_a_disk_that_is_really_full(tmp_path):
    require_root("a small file system is mounted")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "davfs-test", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, timeout=10).returncode:
        refuse("mounting is not allowed here")
    try:
        store = DiskChunkStore(tmp_path)
        stored = []
        full = False
        for seed in range(20):
            data = bytes([seed]) * 100_000
            try:
                store.put(VOLUME, blake3(data).hexdigest(), data)
            except NoSpace:
                full = True
                break
            stored.append(data)
        assert full
        assert 5 <= len(stored) < 11
        for data in stored:
            assert store.get(VOLUME, blake3(data).hexdigest()) == data
        assert len(names(tmp_path)) == len(stored)
        store.put(VOLUME, DIGEST, DATA)  # a small one still fits
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True, timeout=10)


def test_kill_9_leaves_whole_chunks_and_keeps_acknowledged_ones(tmp_path):
    code = (
        "import sys; from pathlib import Path; from blake3 import blake3\n"
        "from davfs.storage.chunk_store import DiskChunkStore\n"
        "store = DiskChunkStore(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    data = n.to_bytes(8, 'big') * 40_000\n"
        "    digest = blake3(data).hexdigest(); store.put('v1', digest, data); print(digest, flush=True)\n"
    )
    with DataDirectory(tmp_path) as directory:
        root = directory.chunks
    writer = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
    try:
        lines = [writer.stdout.readline() for _ in range(25)]
    finally:
        writer.kill()
        rest, _ = writer.communicate(timeout=10)
    with DataDirectory(tmp_path):
        store = DiskChunkStore(root)
        acknowledged = [line for line in (*lines, *rest.splitlines()) if len(line.strip()) == 64]
        assert len(acknowledged) >= 24
        there = names(root)
        assert {line.strip() for line in acknowledged} <= set(there)
        for digest in there:  # no leftovers either
            assert len(store.get(VOLUME, digest)) == 320_000
