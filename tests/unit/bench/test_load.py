"""The client of compat.bench against a scripted server on a socket, and its pure helpers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from compat.bench.http1 import Connection, TransportError
from compat.bench.load import Payload, operations, parse_size, per_turn, size_title


@contextmanager
def answering(*answers: bytes, close: bool = False) -> Iterator[str]:
    """A server that sends the answers in turn, one for each request head without a body."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def serve() -> None:
            left = list(answers)
            while left:
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(5)
                    while left and b"\r\n\r\n" in peer.recv(65536):
                        answer = left.pop(0)
                        for at in range(0, len(answer), 7):  # pieces that end anywhere
                            peer.sendall(answer[at : at + 7])
                        if close:
                            break

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            thread.join(5)


def test_one_connection_serves_several_answers_of_each_framing() -> None:
    answers = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 207 M\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    )
    with answering(*answers) as url, Connection(url, timeout=5) as http:
        replies = [http.request("GET", "/") for _ in answers]
    assert [(r.status, r.body, r.size) for r in replies] == [
        (200, b"hello", 5),
        (207, b"abcde", 5),
        (204, b"", 0),
        (201, b"", 0),
    ]
    assert http.opened == 1


def test_a_body_without_length_ends_with_the_connection_and_the_next_request_opens_one() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True) as url, Connection(url, timeout=5) as http:
        assert http.request("GET", "/").body == b"all of it"
    with answering(*[b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"] * 2, close=True) as url:
        with Connection(url, timeout=5) as http:
            http.request("GET", "/")
            http.request("GET", "/")
    assert http.opened == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConten",
        b"SMTP ready\r\n\r\n",
    ],
)
def test_a_broken_answer_is_an_error_and_never_a_result(answer: bytes) -> None:
    with answering(answer, close=True) as url, Connection(url, timeout=5) as http:
        with pytest.raises(TransportError, match="GET /x"):
            http.request("GET", "/x")


def test_a_sink_gets_the_body_in_pieces() -> None:
    pieces: list[bytes] = []
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"0123456789" * 2) as url:
        with Connection(url, timeout=5) as http:
            reply = http.request("GET", "/", sink=lambda piece: pieces.append(bytes(piece)))
    assert b"".join(pieces) == b"0123456789" * 2
    assert (reply.size, reply.body) == (20, b"")


def test_payloads_differ_in_every_stretch_of_64_kib_and_have_the_size_asked_for() -> None:
    size = 3 * 65536 + 5
    payload = Payload(size)
    first = bytes(payload.fresh(size))
    second = bytes(payload.fresh(size))
    assert len(first) == len(second) == size
    for at in range(0, size - 5, 65536):
        assert first[at : at + 65536] != second[at : at + 65536]
    assert len(payload.fresh(10)) == 10


@pytest.mark.parametrize(("text", "size"), [("1k", 1024), ("256M", 256 << 20), ("4096", 4096), ("1g", 1 << 30)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "1kb", "-1", "1.5m"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


def test_every_row_of_the_comparison_is_there_and_has_its_own_key() -> None:
    rows = operations([1024, 256 << 20])
    titles = " ".join(row.title for row in rows)
    for wanted in (
        "PUT 1 KiB",
        "GET 1 KiB",
        "PUT 256 MiB",
        "GET 256 MiB",
        "PROPFIND depth 0",
        "1,000",
        "MOVE",
        "DELETE",
    ):
        assert wanted in titles
    assert len({row.key for row in rows}) == len(rows)


def test_small_requests_get_many_samples_a_turn_and_large_ones_few() -> None:
    assert (per_turn(1024), per_turn(4 << 20), per_turn(256 << 20)) == (20, 5, 1)
    assert [size_title(size) for size in (1, 1024, 1500, 256 << 20)] == ["1 B", "1 KiB", "1500 B", "256 MiB"]
