"""Readers of files: the bytes are the same however they are read, and what readers keep in memory has a limit."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from davfs.cluster.reading import PIECE, HeldContent, ReadMemory

DATA = bytes(range(251)) * 20_000
CHUNK = 300_000


class Runtime:
    """Runs what is asked at once; a file's spans are its answers already. ``reads``: the numbers of the chunks that were."""

    def __init__(self, memory: ReadMemory) -> None:
        self.read_memory = memory
        self.reads: list[int] = []

    def run(self, span: Any) -> memoryview:
        self.reads.append(span.number)
        return memoryview(DATA)[span.number * CHUNK + span.start : span.number * CHUNK + span.stop]

    def ahead(self, span: Any) -> Future[memoryview]:
        done: Future[memoryview] = Future()
        done.set_result(self.run(span))
        return done


def content(runtime: Any) -> HeldContent:
    file: Any = SimpleNamespace(entry=SimpleNamespace(size=len(DATA)), chunk_size=CHUNK, read_span=lambda span: span)
    return HeldContent(runtime, file)


@pytest.mark.parametrize("part", [(0, len(DATA)), (1, PIECE), (PIECE - 1, PIECE + 1), (299_999, 600_001), (5, 5), (7, 1 << 40)])
@pytest.mark.parametrize("lent", [0, CHUNK, 10 * CHUNK])
@pytest.mark.parametrize("budget", [1, CHUNK, 10 * CHUNK])
def test_a_part_is_what_it_is_however_it_is_read(budget, lent, part):
    memory = ReadMemory(budget, lent, patience=0.0)
    blocks = list(content(Runtime(memory)).read(*part))
    assert b"".join(blocks) == DATA[part[0] : part[1]]
    assert lent or all(len(block) <= PIECE for block in blocks)
    assert (memory.used, memory.lent) == (0, 0)


def test_a_reader_alone_has_chunks_as_they_are_and_the_next_ones_ahead():
    runtime = Runtime(ReadMemory())
    blocks = content(runtime).read(0, len(DATA))
    first = next(blocks)
    assert len(first) == CHUNK
    assert first.obj is DATA  # no copy
    assert sorted(runtime.reads) == [0, 1, 2]
    assert runtime.read_memory.used == 3 * CHUNK
    assert b"".join([first, *blocks]) == DATA
    assert sorted(runtime.reads) == list(range(-(-len(DATA) // CHUNK)))  # each of them once


def test_readers_that_take_their_time_keep_a_piece_each_and_get_the_right_bytes_when_they_come_back():
    memory = ReadMemory(6 * CHUNK, 2 * CHUNK, patience=0.0)
    runtime = Runtime(memory)
    stalled = [content(runtime).read(0, len(DATA)) for _ in range(50)]
    held = [next(blocks) for blocks in stalled]
    assert memory.used <= 6 * CHUNK
    assert sum(len(block) > PIECE for block in held) == 2
    assert sum(block.obj is DATA for block in held) == 2  # the others are copies: they keep no chunk
    quick = b"".join(content(runtime).read(0, len(DATA)))
    assert quick == DATA
    assert memory.used <= 6 * CHUNK
    for first, blocks in zip(held, stalled, strict=True):
        assert b"".join([first, *blocks]) == DATA
    assert (memory.used, memory.lent) == (0, 0)


def test_what_is_still_being_read_ahead_when_its_reader_goes_counts_until_it_is_there():
    memory = ReadMemory()
    runtime = Runtime(memory)
    pending: list[Future[memoryview]] = []

    def slowly(span: Any) -> Future[memoryview]:
        pending.append(Future())
        pending[-1].set_running_or_notify_cancel()
        return pending[-1]

    runtime.ahead = slowly  # type: ignore[method-assign]
    blocks = content(runtime).read(0, len(DATA))
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert memory.used == 2 * CHUNK
    for future in pending:
        future.set_result(memoryview(b""))
    assert memory.used == 0


def test_a_chunk_that_cannot_be_read_costs_no_memory_for_good():
    memory = ReadMemory()
    runtime = Runtime(memory)
    runtime.run = lambda span: memoryview(DATA[1 // 0 :])  # type: ignore[method-assign]
    runtime.ahead = lambda span: Future()  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        next(content(runtime).read(0, len(DATA)))
    assert (memory.used, memory.lent) == (0, 0)


def test_many_readers_at_once_in_little_memory():
    memory = ReadMemory(4 * CHUNK, CHUNK)
    most, seen, lock = 4 * CHUNK, 0, threading.Lock()
    runtime = Runtime(memory)

    def read(_: int) -> bool:
        nonlocal seen
        parts = []
        for block in content(runtime).read(0, len(DATA)):
            parts.append(bytes(block))
            with lock:
                seen = max(seen, memory.used)
        return b"".join(parts) == DATA

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(24)))
    assert 0 < seen <= most
    assert (memory.used, memory.lent) == (0, 0)
