"""Rows about bodies: broken off, chunked, refused, large, stalled."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from davfs.dav.application import DavApplication
from davfs.dav.request import DavSettings
from tests.compat.rows.peer import MIB, Peer, row, sent, setup
from tests.support.dav_client import D, DavClient, RawConnection
from tests.support.memory_drive import MemoryDrive
from tests.support.rows_peer import wsgidav


@row
def a_put_that_breaks_off_is_not_published(peer: Peer, dav: DavClient) -> None:
    with sent(peer, f"PUT {dav.base}/f HTTP/1.1", "Content-Length: 1000", body=b"abc"):
        time.sleep(0.1)
    time.sleep(0.3)
    assert dav("GET", "/f").status == 404


@row
def a_put_under_way_is_not_seen(peer: Peer, dav: DavClient) -> None:
    with sent(peer, f"PUT {dav.base}/f HTTP/1.1", "Content-Length: 1000", body=b"abc"):
        time.sleep(0.3)
        assert dav("GET", "/f").status == 404


@row
def a_chunked_body_after_an_early_answer_is_drained(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    for head in ((f"PUT {dav.base}/f HTTP/1.1", 'If-Match: "wrong"'), (f"MKCOL {dav.base}/f/c HTTP/1.1",)):
        with sent(peer, *head, "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n") as connection:
            first = connection.answer()
            with contextlib.suppress(ConnectionError):
                connection.send(f"GET {dav.base}/f HTTP/1.1", "Host: x")
                # the next request is answered as itself, or the connection is closed
                assert first.status >= 400 and connection.answer().status in (200, 0)


@row
def a_chunked_xml_body_is_read(peer: Peer, dav: DavClient) -> None:
    body = b"<propfind xmlns='DAV:'><prop><resourcetype/></prop></propfind>"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with sent(
        peer, f"PROPFIND {dav.base}/ HTTP/1.1", "Depth: 0", "Transfer-Encoding: chunked", body=chunked
    ) as connection:
        answer = setup(connection.answer(), 207)
        assert answer.prop(f"{D}resourcetype") is not None
        assert answer.prop(f"{D}getlastmodified") is None


@row
def a_refused_put_is_not_read_into_memory(peer: Peer, dav: DavClient) -> None:
    size = 32 * MIB

    def refused() -> None:
        with contextlib.closing(peer.raw()) as connection:
            connection.send(f"PUT {dav.base}/no/f HTTP/1.1", "Host: x", f"Content-Length: {size}")
            with contextlib.suppress(ConnectionError):
                for _ in range(size // MIB):
                    connection.socket.sendall(bytes(MIB))
            with contextlib.suppress(ConnectionError):
                setup(connection.answer(), 409)

    assert peer.grown(refused) < size // 2


def blocks_of(application: Any, base: str) -> tuple[int, int]:
    """Bytes that an application asks a body of 4 MiB for at a time, and that it gives of one at a time, at most."""
    asked: list[int] = []

    class Body:
        left = 4 * MIB

        def read(self, size: int = -1) -> bytes:
            asked.append(size)
            size = min(self.left, size) if size >= 0 else self.left
            self.left -= size
            return bytes(size)

    def call(method: str, **more: Any) -> list[int]:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method, "PATH_INFO": f"{base}/blocks", "REQUEST_URI": f"{base}/blocks", "SCRIPT_NAME": "",
            "QUERY_STRING": "", "SERVER_NAME": "x", "SERVER_PORT": "80", "HTTP_HOST": "x", "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "wsgi.input": Body(), "REMOTE_ADDR": "127.0.0.1", **more,
        }  # fmt: skip
        body = application(environ, lambda status, headers, error=None: lambda data: None)
        try:
            return [len(block) for block in body]
        finally:
            if hasattr(body, "close"):
                body.close()

    call("PUT", CONTENT_LENGTH=str(4 * MIB))
    return max(asked), max(call("GET"))


@row
def bodies_are_moved_in_large_blocks(peer: Peer, dav: DavClient) -> None:
    with tempfile.TemporaryDirectory(prefix="davfs-rows-") as name:
        application = (
            DavApplication(MemoryDrive("demo"), DavSettings()) if peer.kind == "davfs" else wsgidav(Path(name))
        )
        asked, given = blocks_of(application, "/demo")
    assert asked >= 256 << 10 and given >= 256 << 10


@row
def a_condition_is_checked_before_100_continue(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    head = (f"PUT {dav.base}/f HTTP/1.1", 'If-Match: "wrong"', "Expect: 100-continue", "Content-Length: 5")
    with sent(peer, *head) as connection:
        assert connection.answer().status == 412


@row
def stalled_puts_do_not_stop_others(peer: Peer, dav: DavClient) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(12):
            stack.enter_context(sent(peer, f"PUT {dav.base}/{number} HTTP/1.1", "Content-Length: 9", body=b"a"))
        time.sleep(0.2)
        other = stack.enter_context(contextlib.closing(RawConnection(peer.port, timeout=1)))
        other.send(f"OPTIONS {dav.base}/ HTTP/1.1", "Host: x")
        try:
            status = other.answer().status
        except TimeoutError:
            status = 0
        assert status == 200


@row
def a_slow_tls_handshake_stops_nobody(peer: Peer, dav: DavClient) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", peer.tls)) as stuck:
        stuck.sendall(b"\x16\x03")
        time.sleep(0.1)
        with socket.create_connection(("127.0.0.1", peer.tls), timeout=1) as connection:
            try:
                with context.wrap_socket(connection) as secure:
                    secure.sendall(b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n")
                    got = secure.recv(12)
            except TimeoutError:
                got = b""
        assert got == b"HTTP/1.1 200"
