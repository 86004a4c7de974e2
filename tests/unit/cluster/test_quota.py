"""Quotas: what a volume may hold, whatever way bytes come in; and what its disks have room for."""

from __future__ import annotations

import io
import itertools
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path as Folder

import pytest

from davfs.cluster import positions, space, trash, undelete
from davfs.cluster.api import Caller, PartPlace
from davfs.core.errors import InvalidInput, QuotaExceeded
from davfs.core.model import Entry
from tests.scale.local import Alone, alone

VOLUME = "ab" * 16
CHUNK = 1000
QUOTA = 10 * CHUNK


class Drive:
    """A volume of tiny chunks with a quota."""

    def __init__(self, own: Alone) -> None:
        self.own = own
        self._requests = itertools.count()
        self.limit(QUOTA)

    def limit(self, quota: int) -> None:
        result = self.own.holder.site.state.apply((f"limit {next(self._requests)}", "volume_quota", VOLUME, quota))
        assert result == ("ok", quota)

    def caller(self) -> Caller:
        return Caller(request_id=f"request {next(self._requests)}")

    def put(self, name: str, size: int, announced: bool = False) -> Entry:
        body = io.BytesIO(bytes(size))
        length = size if announced else None
        caller = self.caller()
        return self.own.held.put((name,), body.read, length, mtime_ns=None, condition=lambda entry: None, caller=caller)[0]

    def copy(self, source: str, target: str) -> None:
        self.own.held.copy(
            (source,), (target,), overwrite=True, shallow=False, condition=lambda entry: None, caller=self.caller()
        )

    @property
    def used(self) -> int:
        return self.own.held.quota()[0]


@pytest.fixture
def drive(tmp_path: Folder) -> Iterator[Drive]:
    with alone(tmp_path / "v.sqlite", VOLUME, chunk_size=CHUNK) as own:
        yield Drive(own)


@pytest.mark.parametrize("announced", [True, False])
def test_what_would_be_too_much_is_refused_and_the_rest_fits(drive: Drive, announced: bool) -> None:
    drive.put("first", 7 * CHUNK, announced)
    with pytest.raises(QuotaExceeded):
        drive.put("second", 3 * CHUNK + 1, announced)
    assert drive.used == 7 * CHUNK
    assert drive.own.held.lookup(("second",)) is None
    assert drive.own.held.quota() == (7 * CHUNK, 3 * CHUNK)
    drive.put("second", 3 * CHUNK, announced)
    assert drive.own.held.quota() == (QUOTA, 0)
    with pytest.raises(QuotaExceeded):
        drive.put("small", 1, announced)


def test_it_is_refused_before_the_chunk_that_is_too_much(drive: Drive) -> None:
    drive.put("first", 7 * CHUNK)
    body = io.BytesIO(bytes(50 * CHUNK))
    with pytest.raises(QuotaExceeded):
        drive.own.held.put(
            ("endless",), body.read, None, mtime_ns=None, condition=lambda entry: None, caller=drive.caller()
        )
    assert body.tell() <= 4 * CHUNK


def test_what_is_replaced_gives_its_place(drive: Drive) -> None:
    drive.put("file", 9 * CHUNK)
    drive.put("file", 10 * CHUNK)
    with pytest.raises(QuotaExceeded):
        drive.put("file", 10 * CHUNK + 1)
    drive.limit(5 * CHUNK)
    drive.put("file", 8 * CHUNK)  # still too much, and less than before
    with pytest.raises(QuotaExceeded):
        drive.put("file", 8 * CHUNK + 1)
    drive.limit(0)
    drive.put("file", 30 * CHUNK)


def test_copies_parts_and_longer_files_count(drive: Drive) -> None:
    entry = drive.put("file", 6 * CHUNK)
    with pytest.raises(QuotaExceeded):
        drive.copy("file", "copy")
    part = io.BytesIO(bytes(CHUNK)).read
    with pytest.raises(QuotaExceeded):
        drive.own.held.write_part(
            ("file",), PartPlace(9 * CHUNK + 1), part, CHUNK,
            mtime_ns=None, condition=lambda found: None, caller=drive.caller(),
        )  # fmt: skip
    holder, run = drive.own.holder, drive.own.runtime.run
    with pytest.raises(QuotaExceeded):
        run(positions.resize(holder, entry.inode, QUOTA + 1, drive.caller()))
    with pytest.raises(QuotaExceeded):
        run(positions.write_at(holder, entry.inode, QUOTA, memoryview(b"x"), drive.caller()))
    assert run(positions.write_at(holder, entry.inode, QUOTA - 1, memoryview(b"x"), drive.caller())) == QUOTA - 1
    assert drive.used == QUOTA
    assert holder.quota.reserved() == 0


def test_the_trash_counts_and_what_is_restored_is_not_counted_twice(drive: Drive) -> None:
    drive.put("file", QUOTA)
    drive.own.held.delete(("file",), condition=lambda entry: None, caller=drive.caller())
    with pytest.raises(QuotaExceeded):
        drive.put("other", 1)
    with drive.own.store.view() as view:
        (top,) = view.trash((0, ""), 10)
    drive.own.runtime.run(undelete.restore(drive.own.holder, top.entry.inode, None, drive.caller()))
    assert drive.used == QUOTA


def test_the_oldest_of_the_trash_makes_room_whole_and_no_more_than_is_needed(drive: Drive) -> None:
    own = drive.own
    own.held.mkcol(("folder",), condition=lambda entry: None, caller=drive.caller())
    for name in ("one", "two"):
        body = io.BytesIO(bytes(CHUNK))
        own.held.put(
            ("folder", name), body.read, None, mtime_ns=None, condition=lambda entry: None, caller=drive.caller()
        )
    for number in range(8):
        drive.put(f"file {number}", CHUNK)
    for name in ("folder", "file 0", "file 1"):
        own.held.delete((name,), condition=lambda entry: None, caller=drive.caller())

    def left() -> list[str]:
        with own.store.view() as view:
            return [top.path for top in view.trash((0, ""), 10)]

    assert own.runtime.run(trash.empty(own.holder)) == 3  # one file of it were enough
    assert (left(), drive.used) == (["file 0", "file 1"], 8 * CHUNK)
    drive.put("more", CHUNK)
    assert own.runtime.run(trash.empty(own.holder)) == 0  # nine tenths: nothing has to go
    drive.put("yet more", CHUNK)
    assert own.runtime.run(trash.empty(own.holder)) == 1
    assert (left(), drive.used) == (["file 1"], 9 * CHUNK)


def test_writers_at_the_same_time_share_what_is_left(drive: Drive) -> None:
    """A second writer comes while the first is half-way: together they never have more than there is."""
    seen: list[str] = []

    def slow(size: int) -> bytes:
        if len(seen) == 6:
            with pytest.raises(QuotaExceeded):
                drive.put("second", 6 * CHUNK)
            drive.put("third", 2 * CHUNK)
        seen.append("read")
        return bytes(min(size, CHUNK)) if len(seen) <= 8 else b""

    held = drive.own.held
    entry, _ = held.put(("first",), slow, None, mtime_ns=None, condition=lambda found: None, caller=drive.caller())
    assert entry.size + 2 * CHUNK == drive.used == QUOTA


def test_many_writers_at_once_never_have_more_than_the_quota(drive: Drive) -> None:
    """Six writers of bodies without a length, a chunk and a bit at a time, until nothing fits."""
    writers, most = 6, 0
    begun = threading.Barrier(writers)
    refused: list[str] = []

    def write(number: int) -> None:
        nonlocal most
        chosen = random.Random(number)
        begun.wait(10)
        for turn in itertools.count():
            blocks = iter([bytes(CHUNK)] * chosen.randrange(1, 4) + [bytes(chosen.randrange(1, 300)), b""])

            def read(_: int, blocks: Iterator[bytes] = blocks) -> bytes:
                nonlocal most
                most = max(most, drive.used)
                time.sleep(0.001)
                return next(blocks)

            try:
                drive.own.held.put(
                    (f"{number}-{turn}",), read, None, mtime_ns=None, condition=lambda entry: None, caller=drive.caller()
                )
            except QuotaExceeded:
                refused.append(f"{number}-{turn}")
                return

    drive.limit(4 * QUOTA)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(refused) == writers
    assert QUOTA < max(most, drive.used) <= 4 * QUOTA
    assert drive.own.holder.quota.reserved() == 0
    assert not any(drive.own.held.lookup((name,)) for name in refused)


def test_what_was_committed_since_a_writer_looked_counts(drive: Drive) -> None:
    """Another writer is done between a look at what is used and the reservation that follows it."""
    with drive.own.store.view() as before, drive.own.holder.quota.share(QUOTA) as share:
        assert before.usage()[1] == 0
        drive.put("other", 6 * CHUNK)
        with pytest.raises(QuotaExceeded):
            share.take(4 * CHUNK + 1, before)
        share.take(4 * CHUNK, before)


def test_a_quota_is_a_number_of_bytes(drive: Drive) -> None:
    state = drive.own.holder.site.state
    for wrong in (-1, "1", 1.5, None, True):
        assert state.apply((f"wrong {wrong}", "volume_quota", VOLUME, wrong))[1] == InvalidInput.code


@pytest.mark.parametrize("seed", range(5))
def test_what_fits_in_copies_is_what_a_greedy_packer_fits(seed: int) -> None:
    chosen = random.Random(seed)
    for _ in range(50):
        free = [chosen.randrange(30) for _ in range(chosen.randrange(1, 6))]
        copies = chosen.randrange(1, 4)
        left, packed = sorted(free), 0
        while len(left) >= copies and left[-copies] > 0:  # a byte a time onto the emptiest disks
            left = sorted([*left[:-copies], *(size - 1 for size in left[-copies:])])
            packed += 1
        assert space.in_copies(free, copies) == packed, (free, copies)
