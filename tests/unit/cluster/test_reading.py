"""Readers of files: the bytes are the same whether one reads ahead or, for there are many, in pieces."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from davfs.cluster.volume import PIECE, HeldContent

DATA = bytes(range(251)) * 20_000


class Runtime:
    """Runs what is asked at once; a file's spans are its answers already."""

    def __init__(self, places: int) -> None:
        self.wide_reads = threading.BoundedSemaphore(places) if places else threading.Semaphore(0)

    def run(self, span: Any) -> memoryview:
        return memoryview(DATA)[span.number * 300_000 + span.start : span.number * 300_000 + span.stop]

    def ahead(self, span: Any) -> Future[memoryview]:
        done: Future[memoryview] = Future()
        done.set_result(self.run(span))
        return done


@pytest.mark.parametrize("part", [(0, len(DATA)), (1, PIECE), (PIECE - 1, PIECE + 1), (299_999, 600_001), (5, 5), (7, 1 << 40)])
@pytest.mark.parametrize("places", [0, 1])
def test_a_part_is_what_it_is_however_it_is_read(places, part):
    file: Any = SimpleNamespace(entry=SimpleNamespace(size=len(DATA)), chunk_size=300_000, read_span=lambda span: span)
    runtime: Any = Runtime(places)
    blocks = list(HeldContent(runtime, file).read(*part))
    assert b"".join(blocks) == DATA[part[0] : part[1]]
    assert places or all(len(block) <= PIECE for block in blocks)
    if places:
        assert runtime.wide_reads.acquire(blocking=False)  # given back


def test_a_reader_gets_a_place_when_one_is_free_and_gives_it_back_when_it_goes():
    file: Any = SimpleNamespace(entry=SimpleNamespace(size=len(DATA)), chunk_size=300_000, read_span=lambda span: span)
    runtime: Any = Runtime(1)
    first = HeldContent(runtime, file).read(0, len(DATA))
    second = HeldContent(runtime, file).read(0, len(DATA))
    assert len(next(first)) == 300_000
    pieces = [next(second)]
    del first
    pieces += second
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) == 300_000
