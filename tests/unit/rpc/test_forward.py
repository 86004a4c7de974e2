"""Forwarding: streams both ways, early answers, what a lost connection means."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from davfs.core.errors import IncompleteBody, OutcomeUnknown, Unavailable, Unreachable
from davfs.dav.server import DavServer
from davfs.rpc import forward
from davfs.rpc.forward import Forwarder
from davfs.rpc.identity import peer_name

MIB = 1024 * 1024


def serve_wsgi(nodes, name: str, application: Callable[..., Iterable[bytes]]) -> None:
    """The listener that dav has for forwarded requests."""
    server = DavServer("127.0.0.1", 0, application, nodes.identity(name).server, threads=4, peer_name=peer_name)
    server.start()
    nodes.addresses[name] = ("127.0.0.1", server.port)
    nodes.later(lambda: server.stop(0.5))


def echo_app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Says what it was asked; the body comes back with its digest."""
    digest, size = hashlib.sha256(), 0
    while block := environ["wsgi.input"].read(MIB):
        digest.update(block)
        size += len(block)
    text = "\n".join(
        [environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"], environ["davfs.forwarded"],
         environ.get("HTTP_X_KEEP", ""), environ.get("HTTP_X_DROP", ""), environ.get("HTTP_HOST", ""), str(size),
         digest.hexdigest()]
    ).encode()
    start("200 OK", [("Content-Length", str(len(text))), ("ETag", '"x"')])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else text]


class Scripted:
    """A TLS server that runs one function per connection."""

    def __init__(self, nodes: Any, name: str, *scripts: Callable[[ssl.SSLSocket], None]) -> None:
        self._context = nodes.identity(name).server
        self._listener = socket.create_server(("127.0.0.1", 0))
        nodes.addresses[name] = self._listener.getsockname()
        self.connections = 0
        self._thread = threading.Thread(target=self._run, args=(scripts,))
        self._thread.start()
        nodes.later(self.close)

    def _run(self, scripts: tuple[Callable[[ssl.SSLSocket], None], ...]) -> None:
        for script in scripts:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as sock:
                sock.settimeout(5)
                self.connections += 1
                script(sock)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def read_head(sock: ssl.SSLSocket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65_536)
        if not piece:
            raise ConnectionError("no head")
        data += piece
    return data


def hear_and_go(sock: ssl.SSLSocket) -> None:
    """Read a request's head, then close without a word."""
    read_head(sock)


def source(data: bytes) -> Callable[[int], bytes]:
    view, at = memoryview(data), 0

    def read(size: int) -> bytes:
        nonlocal at
        block = bytes(view[at : at + size])
        at += len(block)
        return block

    return read


@pytest.fixture
def forwarder(nodes):
    made = Forwarder(nodes.identity("a"), nodes.resolve, patience=5)
    nodes.later(made.close)
    return made


def hear_and_sleep(seconds: float) -> Callable[[ssl.SSLSocket], None]:
    """Read what comes, and say nothing for a while: a node that was paused."""

    def script(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        time.sleep(seconds)

    return script


@pytest.mark.parametrize(
    ("method", "body", "error"), [("GET", None, Unreachable), ("PUT", b"small", OutcomeUnknown)], ids=["GET", "PUT"]
)
def test_nobody_waits_for_a_silent_node_that_is_no_longer_the_one(nodes, forwarder, method, body, error) -> None:
    Scripted(nodes, "b", hear_and_sleep(2.5))
    ended = threading.Event()
    threading.Timer(0.3, ended.set).start()
    began = time.monotonic()
    with pytest.raises(error, match="in time"):
        forwarder.open("b", method, "/x", [], None if body is None else source(body), len(body or b""), ended.is_set)
    assert 0.3 + forward.GRACE <= time.monotonic() - began < 2.4


def test_nor_sends_it_the_rest_of_a_body(nodes, forwarder) -> None:
    def script(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(2.5)

    Scripted(nodes, "b", script)
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="in time"):
        forwarder.open("b", "PUT", "/x", [], source(bytes(30_000_000)), 30_000_000, lambda: True)
    assert time.monotonic() - began < 2.4


def test_an_answer_that_was_on_its_way_counts(nodes, forwarder) -> None:
    def script(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        time.sleep(0.3)
        sock.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    Scripted(nodes, "b", script)
    assert forwarder.open("b", "PUT", "/x", [], source(b"small"), 5, lambda: True).status == 201


def test_the_request_arrives_as_it_was_but_for_the_hops(nodes, forwarder) -> None:
    serve_wsgi(nodes, "b", echo_app)
    headers = [("Host", "drive.example"), ("X-Keep", "kept"), ("X-Drop", "no"), ("Connection", "x-drop, keep-alive"),
               ("Transfer-Encoding", "chunked"), ("Content-Length", "99"), ("Expect", "100-continue")]
    response = forwarder.open("b", "PROPFIND", "/demo/a%20b?q=1", headers, source(b"<xml/>"), 6)
    lines = b"".join(response).decode().split("\n")
    assert (response.status, response.reason) == (200, "OK")
    assert ("ETag", '"x"') in response.headers
    assert lines == ["PROPFIND", "/demo/a b", "q=1", "a", "kept", "", "drive.example", "6",
                     hashlib.sha256(b"<xml/>").hexdigest()]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 5 * MIB + 3])
def test_bodies_of_every_size(nodes, forwarder, size: int, known: bool) -> None:
    serve_wsgi(nodes, "b", echo_app)
    data = (bytes(range(253)) * (size // 253 + 1))[:size]
    for _ in range(2):  # the second over the same connection
        response = forwarder.open("b", "PUT", "/f", [], source(data), size if known else None)
        assert b"".join(response).decode().split("\n")[-2:] == [str(size), hashlib.sha256(data).hexdigest()]


def test_answers_of_every_framing_and_the_connection_is_kept(nodes, forwarder) -> None:
    block = bytes(range(256)) * 4096

    def answer(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(block) + block)
        read_head(sock)
        sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 207 Multi-Status\r\nTransfer-Encoding: chunked\r\n"
                     b"Keep-Alive: x\r\n\r\n")
        for piece in (b"one", b"two", block):
            sock.sendall(b"%x;ext=1\r\n" % len(piece) + piece + b"\r\n")
        sock.sendall(b"0\r\nTrailer: x\r\n\r\n")
        read_head(sock)
        sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n")  # to a HEAD
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + block)  # until it closes

    server = Scripted(nodes, "b", answer)
    assert b"".join(forwarder.open("b", "GET", "/", [])) == block
    chunked = forwarder.open("b", "PROPFIND", "/", [])
    assert chunked.status == 207
    assert chunked.headers == []
    assert b"".join(chunked) == b"onetwo" + block
    assert list(forwarder.open("b", "DELETE", "/", [])) == []
    head = forwarder.open("b", "HEAD", "/", [])
    assert (head.headers, list(head)) == ([("Content-Length", "77")], [])
    assert b"".join(forwarder.open("b", "GET", "/", [])) == block
    assert server.connections == 1


def test_a_large_body_is_not_touched_before_the_holder_agrees(nodes, forwarder) -> None:
    def refuse(sock: ssl.SSLSocket) -> None:
        assert b"100-continue" in read_head(sock)
        sock.sendall(b"HTTP/1.1 503 Not the holder\r\nX-Davfs-Not-Holder: 1\r\nContent-Length: 2\r\n\r\nno")

    Scripted(nodes, "b", refuse)
    response = forwarder.open("b", "PUT", "/f", [], lambda size: pytest.fail("the body was read"), 10 * MIB)
    assert (response.status, response.body_touched) == (503, False)
    assert ("X-Davfs-Not-Holder", "1") in response.headers
    assert b"".join(response) == b"no"


@pytest.mark.parametrize("reads_on", [False, True])
def test_an_early_answer_while_the_body_is_sent_is_delivered(nodes, forwarder, reads_on: bool) -> None:
    """507 in the middle, whether or not the other side goes on reading; the rest of the body is not asked for."""
    asked = 0

    def full(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.recv(65_536)
        sock.sendall(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull")
        while reads_on and sock.recv(65_536):
            pass
        if not reads_on:
            forwarded.wait(5)

    forwarded = threading.Event()

    def body(size: int) -> bytes:
        nonlocal asked
        asked += size
        return bytes(size)

    Scripted(nodes, "b", full)
    response = forwarder.open("b", "PUT", "/f", [], body, 1024 * MIB)
    assert (response.status, response.body_touched) == (507, True)
    assert b"".join(response) == b"full"
    forwarded.set()
    assert asked < 64 * MIB


def test_refused_and_lost_connections_before_the_body_are_unreachable(nodes, forwarder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        nodes.addresses["b"] = reserved.getsockname()
    with pytest.raises(Unreachable):
        forwarder.open("b", "GET", "/", [])
    Scripted(nodes, "c", hear_and_go)
    with pytest.raises(Unreachable):
        forwarder.open("c", "PUT", "/f", [], lambda size: pytest.fail("the body was read"), 10 * MIB)


def test_lost_after_the_body_is_unknown(nodes, forwarder) -> None:
    def take_all_and_go(sock: ssl.SSLSocket) -> None:
        data = read_head(sock)
        while not data.endswith(b"payload"):
            data += sock.recv(65_536)

    Scripted(nodes, "b", take_all_and_go, hear_and_go)
    with pytest.raises(OutcomeUnknown):
        forwarder.open("b", "PUT", "/f", [], source(b"payload"), 7)
    with pytest.raises(Unreachable):  # a safe method may simply be asked again
        forwarder.open("b", "GET", "/f", [])


def test_lost_in_the_middle_of_the_body_is_unknown(nodes, forwarder) -> None:
    def go_away(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.recv(65_536)

    Scripted(nodes, "b", go_away)
    with pytest.raises(OutcomeUnknown):
        forwarder.open("b", "PUT", "/f", [], lambda size: bytes(size), 1024 * MIB)


@pytest.mark.parametrize("size", [60_000, 10 * MIB])
def test_a_client_that_leaves_half_way_breaks_the_forwarded_request_off(nodes, forwarder, size: int) -> None:
    seen: list[bytes] = []

    def take(sock: ssl.SSLSocket) -> None:
        data = read_head(sock)
        if b"100-continue" in data:
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while piece := sock.recv(65_536):
            data += piece
        seen.append(data)

    server = Scripted(nodes, "b", take)
    with pytest.raises(IncompleteBody):
        forwarder.open("b", "PUT", "/f", [], source(bytes(size // 2)), size)

    def gone(_: int) -> bytes:
        raise ConnectionResetError("the client is gone")

    server.close()
    Scripted(nodes, "b", take)
    with pytest.raises(ConnectionResetError, match="client is gone"):
        forwarder.open("b", "PUT", "/f", [], gone, size)
    assert all(len(data) < size for data in seen)


def test_an_answer_that_breaks_off_says_so(nodes, forwarder) -> None:
    def half(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(500))

    def half_chunk(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc")

    Scripted(nodes, "b", half, half_chunk)
    for _ in range(2):
        with pytest.raises(Unavailable, match="broke off"):
            b"".join(forwarder.open("b", "GET", "/", []))


def test_a_connection_closed_while_idle_is_replaced(nodes, forwarder) -> None:
    def once(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server = Scripted(nodes, "b", once, once, once)
    for method in ("GET", "PUT", "GET"):
        response = forwarder.open("b", method, "/", [], source(b"") if method == "PUT" else None, 0)
        assert b"".join(response) == b"ok"
        threading.Event().wait(0.05)
    assert server.connections == 3


def test_a_small_body_is_there_again_for_a_second_connection(nodes, forwarder) -> None:
    """The other side closes just as the next request is on its way."""

    def once_and_half(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        read_head(sock)

    heard: list[bytes] = []

    def second(sock: ssl.SSLSocket) -> None:
        data = read_head(sock)
        while not data.endswith(b"<xml/>"):
            data += sock.recv(65_536)
        heard.append(data)
        sock.sendall(b"HTTP/1.1 207 Multi-Status\r\nContent-Length: 2\r\n\r\nok")

    Scripted(nodes, "b", once_and_half, second)
    assert b"".join(forwarder.open("b", "GET", "/", [])) == b"ok"
    assert forwarder.open("b", "PROPFIND", "/", [], source(b"<xml/>"), 6).status == 207
    assert len(heard) == 1


def test_a_response_that_is_closed_early_does_not_spoil_the_next(nodes, forwarder) -> None:
    block = bytes(8 * MIB)

    def big(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(block) + block)

    Scripted(nodes, "b", big, big)
    first = forwarder.open("b", "GET", "/", [])
    assert len(next(iter(first))) == 256 * 1024
    first.close()
    assert sum(map(len, forwarder.open("b", "GET", "/", []))) == len(block)


def test_injected_lines_are_refused(nodes, forwarder) -> None:
    nodes.addresses["b"] = ("127.0.0.1", 9)
    with pytest.raises(ValueError, match="line break"):
        forwarder.open("b", "GET", "/", [("X", "a\r\nY: b")])
    with pytest.raises(ValueError, match="line break"):
        forwarder.open("b", "GET", "/a b", [])
