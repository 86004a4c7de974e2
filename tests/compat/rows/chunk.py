"""The last row: plain cheroot goes on with it for a while."""

from __future__ import annotations

import contextlib
import time

from tests.compat.rows.peer import MIB, Peer, row
from tests.support.dav_client import DavClient, RawConnection


def _seconds_of_one_chunk(peer: Peer, dav: DavClient, size: int) -> float:
    """How long a PUT takes whose body is one HTTP chunk; the quicker of two."""
    took = []
    for _ in range(2):
        with contextlib.closing(RawConnection(peer.port, timeout=60)) as connection:
            began = time.monotonic()
            connection.send(f"PUT {dav.base}/f HTTP/1.1", "Host: x", "Transfer-Encoding: chunked")
            connection.socket.sendall(b"%x\r\n" % size)
            for _ in range(size // MIB):
                connection.socket.sendall(bytes(MIB))
            connection.socket.sendall(b"\r\n0\r\n\r\n")
            assert connection.answer().status in (201, 204)
            took.append(time.monotonic() - began)
    return min(took)


@row
def one_http_chunk_of_any_size_takes_linear_time(peer: Peer, dav: DavClient) -> None:
    """Ten times the bytes take at most 30 times as long: linear is 10, cheroot's copying of all that has come is near 100."""
    assert _seconds_of_one_chunk(peer, dav, 20 * MIB) < 30 * _seconds_of_one_chunk(peer, dav, 2 * MIB)
