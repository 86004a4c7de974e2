"""How frames follow each other in a chunked body: each a 4-byte big-endian length and as many bytes. Format 1.

Several frames may share a chunk. Knows neither who sends them nor what is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from davfs.rpc.http1 import ChunkedReader, ProtocolError, Stream, chunk_size_line

FRAMES_PATH = "/frames/v1"
FRAME_LIMIT = 64 * 1024 * 1024  # bytes of one frame: a snapshot of the small state machine fits many times


def pack_frames(frames: Sequence[bytes]) -> bytes:
    """One chunk that holds all these frames."""
    size = sum(len(frame) + 4 for frame in frames)
    parts = [chunk_size_line(size)]
    for frame in frames:
        parts += (len(frame).to_bytes(4, "big"), frame)
    parts.append(b"\r\n")
    return b"".join(parts)


def read_frames(stream: Stream, receive: Callable[[bytes], None]) -> None:
    """Give each frame of the body to ``receive``, in order, until the body ends."""
    stream.patience = None  # a silent peer is no broken one: TCP keep-alive finds those
    body = ChunkedReader(stream)
    while (prefix := body.read_exact(4)) is not None:
        size = int.from_bytes(prefix, "big")
        if size > FRAME_LIMIT:
            raise ProtocolError(f"a frame of {size} bytes")
        frame = body.read_exact(size)
        if frame is None:
            raise ProtocolError("the body ended inside a frame")
        receive(frame)
