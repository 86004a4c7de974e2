"""HTTP/1.1 framing between nodes: whatever the sizes and however the bytes arrive, what was sent is what is read."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davfs.rpc import codec, http1
from davfs.rpc.frame_stream import pack_frames, read_frames


class Drip:
    """A socket's reading end that gives its bytes in pieces of the given sizes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._at, self._sizes, self._turn = data, 0, sizes or [65_536], 0

    def recv_into(self, target: memoryview) -> int:
        size = min(self._sizes[self._turn % len(self._sizes)], len(target), len(self._data) - self._at)
        self._turn += 1
        target[:size] = self._data[self._at : self._at + size]
        self._at += size
        return size

    def pending(self) -> int:
        return 0

    def settimeout(self, _: float | None) -> None:
        pass

    def fileno(self) -> int:
        return 0


def stream(data: bytes, sizes: list[int]) -> http1.Stream:
    drip: Any = Drip(data, sizes)
    return http1.Stream(drip)


sizes = st.lists(st.integers(1, 40), max_size=6)


@given(st.lists(st.binary(max_size=300), max_size=8), sizes, sizes)
@settings(max_examples=200, deadline=None)
def test_frames_survive_any_arrival(frames: list[bytes], batches: list[int], arrival: list[int]) -> None:
    body, left = b"", list(frames)
    while left:
        count = batches[len(left) % len(batches)] if batches else 1
        body += pack_frames(left[:count])
        left = left[count:]
    got: list[bytes] = []
    source = stream(body + b"0\r\n\r\nnext", arrival)
    read_frames(source, got.append)
    assert got == frames
    assert source.read_exact(4) == b"next"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), sizes, st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_chunked_bodies_survive_any_arrival(chunks: list[bytes], arrival: list[int], room: int) -> None:
    coded = b"".join(b"%X;x=y\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"00\r\nTrailer: t\r\n\r\n"
    body, got = http1.ChunkedReader(stream(coded, arrival)), b""
    target = memoryview(bytearray(room))
    while count := body.read_into(target):
        got += bytes(target[:count])
    assert got == b"".join(chunks)
    assert body.finished


@given(st.binary(max_size=200), sizes)
@settings(max_examples=300, deadline=None)
def test_garbage_ends_in_an_error_and_nothing_else(data: bytes, arrival: list[int]) -> None:
    body = http1.ChunkedReader(stream(b"5\r\nhello\r\n" + data.replace(b"0", b"x") + b"g", arrival))
    with pytest.raises((http1.ProtocolError, http1.ConnectionEnded)):
        body.read_exact(1_000_000)
    for parse in (http1.parse_request_head, http1.parse_response_head):
        with contextlib.suppress(http1.ProtocolError):
            parse(data)


@pytest.mark.parametrize("line", [b"", b"-1", b"+5", b"0x5", b"5_0", b"5 5", b"f" * 16])
def test_odd_chunk_sizes_are_refused(line: bytes) -> None:
    with pytest.raises(http1.ProtocolError):
        http1.ChunkedReader(stream(line + b"\r\nhello\r\n0\r\n\r\n", [])).read_exact(5)


def test_a_head_without_end_is_refused_in_bounded_memory() -> None:
    with pytest.raises(http1.ProtocolError, match="too long"):
        stream(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000, [16_384]).read_head()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(values)
@settings(max_examples=200, deadline=None)
def test_values_survive_the_wire(value: Any) -> None:
    packed = codec.pack_header(value)
    assert codec.header_size(packed[: codec.PREFIX], len(packed)) == len(packed) - codec.PREFIX
    assert codec.unpack_header(packed[codec.PREFIX :]) == value


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_garbage_headers_are_malformed_bodies(data: bytes) -> None:
    with contextlib.suppress(codec.MalformedBody):
        codec.unpack_header(data)
