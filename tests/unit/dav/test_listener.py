"""The listener under clients that misbehave: early ends, stalls, odd framing, slow handshakes."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from davfs.dav.application import DavApplication
from davfs.dav.request import DavSettings
from davfs.dav.server import DavServer
from tests.support.dav_client import DavClient, RawConnection
from tests.support.memory_drive import MemoryDrive

MIB = 1 << 20


def wait_for(condition, limit: float = 5.0) -> bool:
    ends = time.monotonic() + limit
    while time.monotonic() < ends:
        if condition():
            return True
        time.sleep(0.01)
    return False


def refuses(port: int) -> bool:
    try:
        return RawConnection(port).answer().status == 0
    except OSError:
        return True


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_put_that_breaks_off_changes_nothing(dav: DavClient, raw: RawConnection, framing):
    assert dav("PUT", "/old", b"whole").status == 201
    for name in ("old", "new"):
        connection = RawConnection(dav.port)
        connection.send(
            f"PUT /demo/{name} HTTP/1.1", "Host: x", framing, body=b"3\r\nabc\r\n" if "chunked" in framing else b"abc"
        )
        connection.close()
    time.sleep(0.2)
    assert dav("GET", "/old").body == b"whole"
    assert dav("GET", "/new").status == 404


def test_chunked_put(dav: DavClient, raw: RawConnection):
    body = b"".join(b"%X;ext=1\r\n%s\r\n" % (len(part), part) for part in (b"a" * 70_000, b"b", b"c" * 300))
    raw.send(
        "PUT /demo/f HTTP/1.1",
        "Host: x",
        "Transfer-Encoding: chunked",
        "X-Expected-Entity-Length: 70301",
        body=body + b"0\r\nTrailer: x\r\n\r\n",
    )
    assert raw.answer().status == 201
    raw.send("GET /demo/f HTTP/1.1", "Host: x")
    assert raw.answer().body == b"a" * 70_000 + b"b" + b"c" * 300


def test_put_without_body_or_length(dav: DavClient, raw: RawConnection):
    raw.send("PUT /demo/f HTTP/1.1", "Host: x")
    assert raw.answer().status == 201
    raw.send("GET /demo/f HTTP/1.1", "Host: x")
    assert raw.answer().body == b""


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"3 3\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b"f" * 16 + b"\r\n",
        b"1" * 2000,
        b"0\r\n" + b"x: y\r\n" * 9000 + b"\r\n",
    ],
)
def test_malformed_chunks(dav: DavClient, raw: RawConnection, body):
    raw.send("PUT /demo/f HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", body=body)
    assert raw.answer().status == 400
    assert raw.closed()
    assert dav("GET", "/f").status == 404


def test_one_chunk_of_any_size_is_linear(dav: DavClient, raw: RawConnection):
    size, block = 96 * MIB, bytes(MIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    raw.send(
        "PROPFIND /demo/ HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", body=b"%x\r\n" % size + bytes(2 * MIB)
    )
    assert raw.answer().status == 413
    raw.close()
    put = RawConnection(dav.port)
    put.send(
        "PUT /demo/f HTTP/1.1",
        "Host: x",
        'If-Match: "no"',
        "Transfer-Encoding: chunked",
        "Connection: close",
        body=b"%x\r\n" % size,
    )
    with contextlib.suppress(OSError):  # reset or broken pipe: the server takes a bounded part of it
        for _ in range(size // MIB):
            put.socket.sendall(block)
    put.close()
    assert time.monotonic() - started < 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024  # KiB


def test_tiny_chunks_are_linear(dav: DavClient, raw: RawConnection):
    count = 200_000
    started = time.monotonic()
    raw.send("PUT /demo/f HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n" * count + b"0\r\n\r\n")
    assert raw.answer().status == 201
    assert time.monotonic() - started < 8
    assert dav("HEAD", "/f").headers["content-length"] == str(count)


def test_body_left_after_an_early_answer(dav: DavClient, raw: RawConnection):
    assert dav("MKCOL", "/d").status == 201
    for framing, body in [
        ("Content-Length: 100000", b"x" * 100_000),
        ("Transfer-Encoding: chunked", b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n\r\n"),
    ]:
        raw.send("PUT /demo/d HTTP/1.1", "Host: x", framing, body=body)
        assert raw.answer().status == 405
        raw.send("MKCOL /demo/d HTTP/1.1", "Host: x", framing, body=body)
        assert raw.answer().status == 415
        raw.send("HEAD /demo/d HTTP/1.1", "Host: x")
        assert raw.answer(head=True).status == 200


def test_a_refused_chunked_body_that_goes_on_is_told_the_end_of_its_connection(dav: DavClient, raw: RawConnection):
    """Its length is not known beforehand. A client that is not told would send its next request into a closed connection."""
    piece = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
    raw.send("PUT /demo/no/parent HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", body=piece * 3)
    refused = raw.answer()
    assert (refused.status, refused.headers.get("connection")) == (409, "close")


def test_a_chunked_body_that_stops_in_a_line_does_not_delay_its_refusal(dav: DavClient, raw: RawConnection):
    began = time.monotonic()
    raw.send("PUT /demo/no/parent HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", body=b"5")
    refused = raw.answer()
    assert (refused.status, refused.headers.get("connection")) == (409, "close")
    assert time.monotonic() - began < 2


def test_a_large_body_is_not_read_for_a_refused_request(dav: DavClient, raw: RawConnection):
    raw.send("PUT /demo/no/f HTTP/1.1", "Host: x", f"Content-Length: {600 * MIB}", body=b"x" * 1000)
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (409, "close")
    assert raw.closed()


def test_100_continue_comes_after_the_conditions(dav: DavClient, raw: RawConnection):
    raw.send("PUT /demo/f HTTP/1.1", "Host: x", "Expect: 100-continue", "Content-Length: 3")
    assert raw.answer().status == 100
    raw.socket.sendall(b"abc")
    assert raw.answer().status == 201
    raw.send("PUT /demo/f HTTP/1.1", "Host: x", "Expect: 100-continue", "Content-Length: 3", "If-None-Match: *")
    assert raw.answer().status == 412
    assert raw.closed()


# --- heads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["GET /demo/ HTTP/1.1", "Host: x", "Content-Length: 1", "Content-Length: 2"], 400),
        (["GET /demo/ HTTP/1.1", "Host: x", "Content-Length: 1", "Transfer-Encoding: chunked"], 400),
        (["GET /demo/ HTTP/1.1", "Host: x", "Content-Length: -1"], 400),
        (["GET /demo/ HTTP/1.1", "Host: x", "Content-Length: 0x1"], 400),
        (["GET /demo/ HTTP/1.1", "Host: x", "Transfer-Encoding: gzip, chunked"], 501),
        (["GET /demo/ HTTP/1.1", "Host: x", "Host: y"], 400),
        (["GET /demo/ HTTP/1.1", "Host : x"], 400),
        (["GET /demo/ HTTP/1.1", "no colon"], 400),
        (["GET /demo/ HTTP/2.0", "Host: x"], 505),
        (["GET /demo/#x HTTP/1.1", "Host: x"], 400),
        (["GET http://x/demo/ HTTP/1.1", "Host: x"], 200),
        (["OPTIONS * HTTP/1.1", "Host: x"], 200),
        (["CONNECT x:80 HTTP/1.1", "Host: x"], 400),
        (["rubbish"], 400),
        (["GET /demo/ HTTP/1.1", "X: " + "x" * 70_000], 413),
        (["GET /" + "x" * 70_000 + " HTTP/1.1"], 414),
    ],
)
def test_heads(raw: RawConnection, lines, status):
    raw.send(*lines)
    assert raw.answer().status == status


def test_fields_with_underscores_are_not_those_with_hyphens(dav: DavClient, raw: RawConnection):
    raw.send("PUT /demo/f HTTP/1.1", "Host: x", "Content_Length: 100", "If_Match: x", "X_OC_Mtime: rubbish")
    assert raw.answer().status == 201


def test_a_request_after_a_chunked_body_on_the_wire(dav: DavClient, raw: RawConnection):
    chunked = b"PUT /demo/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    raw.socket.sendall(chunked + chunked + b"GET /demo/f HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [raw.answer().status for _ in range(3)] == [201, 204, 200]


def test_pipelined_requests(dav: DavClient, raw: RawConnection):
    raw.socket.sendall(
        b"PUT /demo/f HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
        + b"GET /demo/f HTTP/1.1\r\nHost: x\r\n\r\n" * 3
    )
    assert [raw.answer().status for _ in range(4)] == [201, 200, 200, 200]


def test_http_1_0(dav: DavClient, raw: RawConnection):
    assert dav("PUT", "/f", b"x").status == 201
    raw.send("GET /demo/f HTTP/1.0", "Connection: keep-alive")
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "Keep-Alive")
    raw.send("GET /demo/f HTTP/1.0")
    assert raw.answer().status == 200
    assert raw.closed()


# --- crowds and ends --------------------------------------------------------------------------------------------------


def test_stalled_clients_do_not_stop_others(drive: MemoryDrive):
    server = DavServer("127.0.0.1", 0, DavApplication(drive, DavSettings()), threads=40, working=4)
    server.start()
    stalled = [RawConnection(server.port) for _ in range(30)]
    try:
        for number, connection in enumerate(stalled):
            connection.send(f"PUT /demo/stalled{number} HTTP/1.1", "Host: x", "Content-Length: 1000000", body=b"x")
        silent = [RawConnection(server.port) for _ in range(60)]  # these send nothing at all
        client = DavClient(server.port)
        started = time.monotonic()
        for _ in range(20):
            assert client("OPTIONS", "/").status == 200
        assert time.monotonic() - started < 1.5
        for connection in silent:
            connection.close()
        client.close()
    finally:
        for connection in stalled:
            connection.close()
        server.stop(1)


def test_a_reader_that_stalls_does_not_work(drive: MemoryDrive):
    server = DavServer("127.0.0.1", 0, DavApplication(drive, DavSettings()), threads=8, working=1)
    server.start()
    try:
        client = DavClient(server.port)
        assert client("PUT", "/large", bytes(32 * MIB)).status in (201, 204)
        slow = RawConnection(server.port)
        slow.send("GET /demo/large HTTP/1.1", "Host: x")
        time.sleep(0.2)
        started = time.monotonic()
        assert client("HEAD", "/large").status == 200
        assert time.monotonic() - started < 1
        slow.close()
        assert client("DELETE", "/large").status == 204
        client.close()
    finally:
        server.stop(1)


@pytest.fixture
def gated() -> Iterator[tuple[DavServer, threading.Event]]:
    """A server whose answers wait for an event."""
    event = threading.Event()

    def application(environ, start_response):
        event.wait(10)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    server = DavServer("127.0.0.1", 0, application, threads=4)
    server.start()
    yield server, event
    event.set()
    server.stop(1)


def test_stop_lets_requests_finish(gated: tuple[DavServer, threading.Event]):
    server, event = gated
    busy, idle = RawConnection(server.port), RawConnection(server.port)
    busy.send("GET / HTTP/1.1", "Host: x")
    time.sleep(0.1)
    stopper = threading.Thread(target=server.stop, args=(5,))
    stopper.start()
    time.sleep(0.7)
    assert refuses(server.port)
    event.set()
    answer = busy.answer()
    assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"ok", "close")
    assert idle.closed()
    stopper.join(5)
    assert not stopper.is_alive()


def test_stop_has_a_limit(gated: tuple[DavServer, threading.Event]):
    server, _ = gated
    busy = RawConnection(server.port)
    busy.send("GET / HTTP/1.1", "Host: x")
    time.sleep(0.1)
    started = time.monotonic()
    server.stop(0.5)
    assert time.monotonic() - started < 4


def test_an_answer_that_fails_half_way_ends_the_connection():
    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", "100")])
        yield b"x" * 10
        if "fail" in environ["REQUEST_URI"]:
            raise RuntimeError("a test")

    server = DavServer("127.0.0.1", 0, application, threads=4)
    server.start()
    try:
        for target in ("/fail", "/short"):
            connection = RawConnection(server.port)
            connection.send(f"GET {target} HTTP/1.1", "Host: x")
            assert len(connection.answer().body) == 10
            connection.close()
    finally:
        server.stop(1)


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_tls_and_slow_handshakes(tmp_path, drive: MemoryDrive):
    from davfs.rpc.certs import create_authority, issue
    from davfs.rpc.identity import load_identity, peer_name

    create_authority(tmp_path)
    for name in ("one", "two"):
        issue(tmp_path, name, ["127.0.0.1"])
    one, two = (
        load_identity(tmp_path / "ca.pem", tmp_path / name / "node.pem", tmp_path / name / "node.key")
        for name in ("one", "two")
    )
    seen: list[str] = []

    def application(environ, start_response):
        seen.append(environ["davfs.forwarded"])
        size = 0
        while block := environ["wsgi.input"].read(MIB):
            size += len(block)
        body = str(size).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    server = DavServer("127.0.0.1", 0, application, one.server, threads=4, peer_name=peer_name)
    server.start()
    stuck = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
    for connection in stuck:
        connection.sendall(b"\x16\x03")  # the first bytes of a handshake, and no more
    try:
        started = time.monotonic()
        for _ in range(2):
            plain = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            with two.client.wrap_socket(plain, server_hostname="one") as secure:
                for _ in range(2):
                    secure.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000))
                    assert secure.recv(1000).endswith(b"3000000")
        assert time.monotonic() - started < 3
        assert seen == ["two"] * 4
        nobody = RawConnection(server.port)
        nobody.send("GET / HTTP/1.1", "Host: x")
        assert wait_for(nobody.closed)
        assert len(seen) == 4
        nobody.close()
    finally:
        for connection in stuck:
            connection.close()
        server.stop(1)


def test_requests_that_wait_for_another_node_do_not_work(drive: MemoryDrive):
    class SlowRoutes(MemoryDrive):
        def route(self, volume, *, forwarded, avoid=None):
            if volume == "slow":
                time.sleep(1.5)
            return super().route(volume, forwarded=forwarded, avoid=avoid)

    server = DavServer("127.0.0.1", 0, DavApplication(SlowRoutes("slow", "demo"), DavSettings()), threads=12, working=2)
    server.start()
    waiting = [RawConnection(server.port) for _ in range(6)]
    client = DavClient(server.port)
    try:
        for connection in waiting:
            connection.send("HEAD /slow/ HTTP/1.1", "Host: x")
        time.sleep(0.1)
        started = time.monotonic()
        assert client("HEAD", "/").status == 200
        assert time.monotonic() - started < 1
        assert [connection.answer(head=True).status for connection in waiting] == [200] * 6
    finally:
        for connection in waiting:
            connection.close()
        client.close()
        server.stop(1)
