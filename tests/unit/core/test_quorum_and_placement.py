"""Majorities against a deliberately dumb oracle; placement moves only what it must."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davfs.core.chunking import CHUNKS_PER_SEGMENT, Span, segmented, spans
from davfs.core.model import ChunkRef, NodeInfo
from davfs.core.placement import choose, ranked
from davfs.core.quorum import is_majority, majority, reached_by_majority


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_majority_is_more_than_half(count: int, needed: int) -> None:
    assert majority(count) == needed


def test_who_is_not_configured_does_not_count() -> None:
    assert not is_majority(["x", "y", "a"], ["a", "b", "c"])
    assert is_majority(["a", "c", "c"], ["a", "b", "c"])


def test_what_a_majority_reached() -> None:
    for marks in product(range(4), repeat=5):
        progress = {str(n): mark for n, mark in enumerate(marks) if mark}
        dumb = max(seq for seq in range(4) if sum(mark >= seq for mark in marks) >= 3)
        assert reached_by_majority(progress, [str(n) for n in range(5)]) == dumb
    assert reached_by_majority({}, []) == 0


NODES = [NodeInfo(f"n{n}", "") for n in range(6)]


def test_placement_changes_only_where_a_node_goes() -> None:
    for index in range(50):
        before = ranked("v", "i", index, NODES)
        assert ranked("v", "i", index, reversed(NODES)) == before
        assert ranked("v", "i", index, NODES[1:]) == [name for name in before if name != "n0"]


def test_weights_draw_chunks() -> None:
    nodes = [NodeInfo("small", "", weight=1.0), NodeInfo("large", "", weight=3.0)]
    first = [ranked("v", "i", index, nodes)[0] for index in range(1000)]
    assert 680 < first.count("large") < 820


def test_nodes_that_are_up_and_other_zones_come_first() -> None:
    zones = {"a": "x", "b": "x", "c": "y", "d": ""}
    assert choose("abcd", 2, lambda name: True, zones.__getitem__) == ["a", "c"]
    assert choose("abcd", 3, lambda name: name != "a", zones.__getitem__) == ["b", "c", "d"]
    assert choose("ab", 3, lambda name: True, zones.__getitem__) == ["a", "b"]
    assert choose("ab", 2, lambda name: False, zones.__getitem__) == ["a", "b"]


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 64))
def test_spans_cover_a_range_exactly(start: int, length: int, chunk: int) -> None:
    parts = list(spans(start, start + length, chunk))
    covered = [part.number * chunk + at for part in parts for at in range(part.start, part.stop)]
    assert covered == list(range(start, start + length))
    assert all(0 <= part.start < part.stop <= chunk for part in parts)


def test_segments_are_for_long_lists_only() -> None:
    chunks = [ChunkRef("0" * 64, 1, ("n",))] * (CHUNKS_PER_SEGMENT + 1)
    assert segmented(chunks[:-1]) == []
    assert [len(run) for run in segmented(chunks)] == [CHUNKS_PER_SEGMENT, 1]
    assert list(spans(5, 5, 4)) == []
    assert list(spans(4, 8, 4)) == [Span(1, 0, 4)]
