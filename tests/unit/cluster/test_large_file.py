"""Writes at positions of large files: only the segments of the chunk list that they touch are written anew."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from davfs.core.chunking import CHUNKS_PER_SEGMENT
from tests.scale.large_file import Cost, LargeFile
from tests.scale.local import alone

CHUNK = 16
SEGMENT = CHUNKS_PER_SEGMENT * CHUNK
SEGMENTS = 10


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LargeFile]:
    """A file of ten segments and a half, of a volume with tiny chunks."""
    with alone(tmp_path / "v.sqlite", "ab" * 16, chunk_size=CHUNK) as drive:
        file = LargeFile(drive, ("large",))
        file.resize(SEGMENTS * SEGMENT + SEGMENT // 2)
        yield file


def test_a_write_in_the_middle_writes_one_segment(file: LargeFile) -> None:
    before = file.manifest
    cost = file.write(5 * SEGMENT + 7, b"in the middle")
    assert (cost.records, cost.segments) == (1, 1)
    after = file.manifest
    assert after.size == before.size
    assert after.etag != before.etag
    assert [n for n in range(after.segments) if after.content_of(n) != before.content_of(n)] == [5]
    assert file.read(5 * SEGMENT, 5 * SEGMENT + 32) == bytes(7) + b"in the middle" + bytes(12)


def test_an_append_writes_the_last_segment(file: LargeFile) -> None:
    size = file.manifest.size
    assert file.write(None, b"at the end").segments == 1
    assert file.manifest.size == size + 10
    assert file.read(size - 4, size + 20) == bytes(4) + b"at the end"


def test_what_a_write_costs_does_not_grow_with_the_file(file: LargeFile) -> None:
    small = file.write(SEGMENT, b"x")
    file.resize(100 * SEGMENT)
    large = file.write(50 * SEGMENT, b"x")
    assert large.segments == small.segments == 1
    assert large.size < 2 * small.size


def test_the_same_size_again_changes_nothing(file: LargeFile) -> None:
    before = file.manifest
    assert file.resize(before.size).segments == 0
    assert file.manifest.etag == before.etag


@pytest.mark.parametrize("seed", range(3))
def test_any_writes_and_sizes_give_the_bytes_of_a_plain_file(file: LargeFile, seed: int) -> None:
    """Across segments, past the end, cut in the middle of a segment, down to no segments and up again."""
    chosen = random.Random(seed)
    size = file.manifest.size
    model = bytearray(size)
    etags = {file.manifest.etag}
    for _ in range(14):
        if chosen.random() < 0.4:
            size = chosen.choice([SEGMENT * chosen.randrange(SEGMENTS), chosen.randrange(12 * SEGMENT), 3, SEGMENT + 1])
            file.resize(size)
            model = model[:size] + bytes(size - min(size, len(model)))
        else:
            at = chosen.choice([None, chosen.randrange(11 * SEGMENT)])
            data = chosen.randbytes(1) * chosen.choice([1, CHUNK, 40, SEGMENT + 5])
            file.write(at, data)
            start = len(model) if at is None else at
            model.extend(bytes(max(0, start + len(data) - len(model))))
            model[start : start + len(data)] = data
        assert file.manifest.size == len(model)
        assert file.read(0, len(model)) == model
        if file.manifest.segments:
            assert file.count() == -(-len(model) // CHUNK)
        etags.add(file.manifest.etag)
    assert len(etags) > 7
    assert isinstance(file.write(0, b"!"), Cost)
