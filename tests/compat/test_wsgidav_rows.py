"""What WsgiDAV 4.4 and cheroot get wrong, row by row: davfs does it right, and plain WsgiDAV on plain cheroot is seen to fail.

A row states one thing that must hold. `setup` is what leads there and must work on both: it raises RuntimeError, so that
only the row's own assertion counts as a failure of WsgiDAV. Sizes are small forms of those that were found (600 MB).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from davfs.dav.application import DavApplication
from davfs.dav.request import DavSettings
from tests.support.dav_client import Answer, D, DavClient, RawConnection
from tests.support.memory_drive import MemoryDrive
from tests.support.rows_peer import EXTERNAL, running, wsgidav

MIB = 1 << 20
LOCK_BODY = "<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>"


@dataclass
class Peer:
    """A server that runs: its process and its three ports."""

    kind: str
    pid: int
    port: int
    login: int
    tls: int

    def raw(self) -> RawConnection:
        return RawConnection(self.port, timeout=15)

    def grown(self, work: Callable[[], object]) -> int:
        """Bytes by which the process's peak of memory rises while something is done."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        before = self._peak()
        work()
        return self._peak() - before

    def _peak(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024


Row = Callable[[Peer, DavClient], None]
ROWS: list[Row] = []


def row(check: Row) -> Row:
    ROWS.append(check)
    return check


@pytest.fixture(scope="module")
def davfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with running("davfs", tmp_path_factory.mktemp("davfs")) as (pid, ports):
        yield Peer("davfs", pid, *ports)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with running("plain", tmp_path_factory.mktemp("plain")) as (pid, ports):
        yield Peer("plain", pid, *ports)


def setup(answer: Answer, *statuses: int) -> Answer:
    if answer.status not in statuses:
        raise RuntimeError(f"the way to the row: {answer.status}, not {statuses}: {answer.body[:300]!r}")
    return answer


def of(peer: Peer, check: Row) -> DavClient:
    """A client with a folder of the row's own as its base."""
    client = DavClient(peer.port)
    setup(client("MKCOL", f"/{check.__name__}"), 201)
    client.base += f"/{check.__name__}"
    return client


@contextlib.contextmanager
def sent(peer: Peer, *lines: str, body: bytes = b"") -> Iterator[RawConnection]:
    """A connection on which a head and some bytes were sent."""
    connection = peer.raw()
    try:
        connection.send(*lines, "Host: x", body=body)
        yield connection
    finally:
        connection.close()


def locked(dav: DavClient, path: str, **headers: str) -> str:
    answer = setup(dav("LOCK", path, LOCK_BODY, Depth=headers.pop("Depth", "0"), **headers), 200, 201)
    return answer.headers["lock-token"].strip("<>")


def find(dav: DavClient, path: str, prop: str, depth: str = "0") -> Answer:
    body = f"<propfind xmlns='DAV:'><prop>{prop}</prop></propfind>"
    return setup(dav("PROPFIND", path, body, Depth=depth), 207)


def basic(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{name}".encode()).decode()


# --- bodies -----------------------------------------------------------------------------------------------------------


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


# --- methods ----------------------------------------------------------------------------------------------------------


@row
def copy_with_depth_0_copies_the_collection_alone(peer: Peer, dav: DavClient) -> None:
    setup(dav("MKCOL", "/d"), 201)
    setup(dav("PUT", "/d/f", b"x"), 201)
    setup(dav("COPY", "/d", Destination=f"{dav.base}/e", Depth="0"), 201)
    assert dav("GET", "/e/f").status == 404


@row
def what_appears_by_a_store_s_own_copy_or_move_is_201(peer: Peer, dav: DavClient) -> None:
    own = DavClient(peer.port, "own")
    setup(own("PUT", "/f", b"x"), 201)
    assert own("COPY", "/f", Destination="/own/copied").status == 201
    assert own("MOVE", "/f", Destination="/own/moved").status == 201


@row
def a_store_s_own_delete_minds_the_locks_of_members(peer: Peer, dav: DavClient) -> None:
    own = DavClient(peer.port, "own")
    setup(own("MKCOL", "/d"), 201)
    setup(own("PUT", "/d/f", b"x"), 201)
    locked(own, "/d/f")
    assert own("DELETE", "/d").status == 423


@row
def destination_is_taken_apart_before_it_is_unquoted(peer: Peer, dav: DavClient) -> None:
    for name, quoted in (("q?x", "q%3Fx"), ("s;y", "s%3By")):
        setup(dav("PUT", "/f", b"x"), 201, 204)
        setup(dav("MOVE", "/f", Destination=f"{dav.base}/{quoted}"), 201)
        assert dav("GET", f"/{quoted}").status == 200, name


@row
def a_destination_that_a_proxy_shows_is_this_server(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    assert dav("MOVE", "/f", Destination=f"https://{EXTERNAL}{dav.base}/g").status == 201


@row
def move_in_http_1_0_without_host(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    with contextlib.closing(peer.raw()) as connection:
        connection.send(f"MOVE {dav.base}/f HTTP/1.0", f"Destination: {dav.base}/g")
        assert connection.answer().status == 201


@row
def propfind_to_infinity_is_refused(peer: Peer, dav: DavClient) -> None:
    answer = dav("PROPFIND", "/", Depth="infinity")
    assert answer.status == 403
    assert answer.xml.find(f"{D}propfind-finite-depth") is not None


@row
def a_large_answer_is_streamed_on_a_kept_connection(peer: Peer, dav: DavClient) -> None:
    """Of 900 properties with long names: WsgiDAV builds it in memory, and what has no length would end the connection."""
    setup(dav("PUT", "/f", b""), 201)
    asked = "".join(f"<p{number}{'x' * 100} xmlns='urn:x'/>" for number in range(900))
    answer = find(dav, "/", asked, "1")
    assert answer.headers.get("transfer-encoding") == "chunked" and "connection" not in answer.headers
    assert len(answer.hrefs) == 2


@row
def propname_and_include_are_understood(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    names = setup(dav("PROPFIND", "/f", "<propfind xmlns='DAV:'><propname/></propfind>", Depth="0"), 207)
    length = names.prop(f"{D}getcontentlength")
    assert length is not None and not length.text
    include = "<propfind xmlns='DAV:'><allprop/><include><supported-report-set/></include></propfind>"
    assert setup(dav("PROPFIND", "/", include, Depth="0"), 207).prop(f"{D}supported-report-set") is not None


@row
def methods_that_wsgidav_does_not_know(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"0123456789"), 201)
    kind = {"Content-Type": "application/x-sabredav-partialupdate", "X-Update-Range": "bytes=3-5"}
    report = (
        "<sync-collection xmlns='DAV:'><sync-token/><sync-level>1</sync-level><prop><getetag/></prop></sync-collection>"
    )
    assert dav.raw("PATCH", f"{dav.base}/f", b"abc", kind).status == 204
    assert dav("REPORT", "/", report).status == 207
    assert dav("GET", "/f").body == b"012abc6789"


@row
def names_of_volumes_may_have_capitals(peer: Peer, dav: DavClient) -> None:
    assert DavClient(peer.port, "Other")("PROPFIND", "/", Depth="0").status == 207


# --- conditions, ranges, times -----------------------------------------------------------------------------------------


@row
def if_match_of_nothing_fails(peer: Peer, dav: DavClient) -> None:
    assert dav("PUT", "/f", b"x", If_Match='"etag"').status == 412
    assert dav("PUT", "/g", b"x", If='(["etag"])').status == 412


@row
def a_tagged_if_with_a_wrong_etag_fails(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    wrong = f'<http://127.0.0.1:{peer.port}{dav.base}/f> (["wrong"])'
    assert dav("PUT", "/f", b"y", If=wrong).status == 412


@row
def dates_of_conditions_are_those_of_http(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    date = setup(dav("HEAD", "/f"), 200).headers["last-modified"]
    assert dav("GET", "/f", If_Modified_Since=date).status == 304
    assert dav("PUT", "/f", b"y", If_Modified_Since="Fri, 01 Jan 2100 00:00:00 GMT").status == 204


@row
def two_ranges_are_both_given(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"0123456789"), 201)
    answer = dav("GET", "/f", Range="bytes=0-0,2-3")
    whole = answer.status == 200 and answer.body == b"0123456789"
    both = (
        answer.headers["content-type"].startswith("multipart/byteranges") and answer.body.count(b"Content-Range") == 2
    )
    assert whole or both


@row
def put_with_content_range_writes_in_place(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"0123456789"), 201)
    assert dav("PUT", "/f", b"abc", Content_Range="bytes 3-5/10").status == 204
    assert dav("GET", "/f").body == b"012abc6789"


@row
def win32_times_are_the_files_times(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    date = "Fri, 13 Feb 2009 23:31:30 GMT"
    body = (
        "<propertyupdate xmlns='DAV:'><set><prop><Win32LastModifiedTime xmlns='urn:schemas-microsoft-com:'>"
        f"{date}</Win32LastModifiedTime></prop></set></propertyupdate>"
    )
    setup(dav("PROPPATCH", "/f", body), 207)
    assert dav("HEAD", "/f").headers["last-modified"] == date


@row
def x_oc_mtime_is_taken_and_acknowledged(peer: Peer, dav: DavClient) -> None:
    answer = setup(dav("PUT", "/f", b"x", X_OC_Mtime="1234567890"), 201)
    assert answer.headers.get("x-oc-mtime") == "accepted"
    moved = setup(dav("MOVE", "/f", Destination=f"{dav.base}/g", X_OC_Mtime="1000000000"), 201)
    assert moved.headers.get("x-oc-mtime") == "accepted"
    assert dav("HEAD", "/g").headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"


# --- properties and names ----------------------------------------------------------------------------------------------


@row
def the_etag_property_is_quoted_like_the_header(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    assert find(dav, "/f", "<getetag/>").prop(f"{D}getetag").text == dav("HEAD", "/f").headers["etag"]


@row
def collections_have_an_etag_that_changes(peer: Peer, dav: DavClient) -> None:
    setup(dav("MKCOL", "/d"), 201)
    before = find(dav, "/d", "<getetag/>").prop(f"{D}getetag")
    setup(dav("PUT", "/d/f", b"x"), 201)
    after = find(dav, "/d", "<getetag/>").prop(f"{D}getetag")
    assert before is not None and before.text and before.text != after.text


@row
def a_name_that_xml_cannot_carry_is_refused(peer: Peer, dav: DavClient) -> None:
    made = dav("PUT", "/%01", b"x").status
    listing = dav("PROPFIND", "/", Depth="1")
    try:
        hrefs = listing.hrefs
    except ElementTree.ParseError:
        hrefs = []
    assert listing.status == 207 and hrefs
    assert made == 400


# --- locks ------------------------------------------------------------------------------------------------------------


@row
def the_token_of_a_member_counts_when_its_collection_is_moved(peer: Peer, dav: DavClient) -> None:
    setup(dav("MKCOL", "/d"), 201)
    setup(dav("PUT", "/d/f", b"x"), 201)
    token = locked(dav, "/d/f")
    assert dav("MOVE", "/d", Destination=f"{dav.base}/e", If=f"<{dav.base}/d/f> (<{token}>)").status == 201


@row
def a_lock_below_a_locked_parent_leaves_no_file(peer: Peer, dav: DavClient) -> None:
    setup(dav("MKCOL", "/d"), 201)
    locked(dav, "/d", Depth="infinity")
    setup(dav("LOCK", "/d/new", LOCK_BODY, Depth="0"), 423)
    assert dav("GET", "/d/new").status == 404


@row
def inherited_locks_are_discovered(peer: Peer, dav: DavClient) -> None:
    setup(dav("MKCOL", "/d"), 201)
    setup(dav("PUT", "/d/f", b"x"), 201)
    locked(dav, "/d", Depth="infinity")
    found = find(dav, "/d/f", "<lockdiscovery/>").prop(f"{D}lockdiscovery")
    assert found is not None and found.find(f"{D}activelock") is not None


@row
def timeouts_of_locks_are_capped(peer: Peer, dav: DavClient) -> None:
    answer = setup(dav("LOCK", "/f", LOCK_BODY, Depth="0", Timeout="Infinite"), 201)
    seconds = re.search(rb"Second-(\d+)", answer.body)
    assert seconds is not None and int(seconds[1]) <= 604_800


@row
def a_refresh_by_somebody_else_is_refused(peer: Peer, dav: DavClient) -> None:
    client, path = DavClient(peer.login), dav.base.removeprefix("/demo") + "/f"
    answer = setup(client("LOCK", path, LOCK_BODY, Depth="0", Authorization=basic("ann")), 201)
    token = answer.headers["lock-token"]
    # WsgiDAV takes the lock of another account for none at all: this condition holds then, and names the token.
    assert client("LOCK", path, None, If=f"(Not {token})", Authorization=basic("bob")).status in (403, 412)
    setup(client("LOCK", path, None, If=f"({token})", Authorization=basic("ann")), 200)


@row
def many_connections_that_lock_and_unlock_are_all_served(peer: Peer, dav: DavClient) -> None:
    """Each LOCK and UNLOCK on a connection of its own, from 60 threads: cheroot resets some once its backlog is full."""
    wrong: list[str] = []
    ends = time.monotonic() + 1

    def work(number: int) -> None:
        while time.monotonic() < ends and not wrong:
            client = DavClient(peer.port)
            client.base = dav.base
            try:
                answer = client("LOCK", f"/{number}", LOCK_BODY, Depth="0")
                if answer.status in (200, 201):
                    answer = client("UNLOCK", f"/{number}", Lock_Token=answer.headers["lock-token"])
                if answer.status != 204:
                    wrong.append(f"{answer.status}")
            except OSError as error:
                wrong.append(f"{error!r}")
            finally:
                client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


# --- logins -----------------------------------------------------------------------------------------------------------


@row
def basic_is_offered_and_an_invented_nonce_is_not_taken(peer: Peer, dav: DavClient) -> None:
    client = DavClient(peer.login)
    asked = client("PROPFIND", "/", Depth="0")
    offered = asked.headers.get("www-authenticate", "").partition(" ")[0]
    realm = re.search(r'realm="([^"]*)"', asked.headers.get("www-authenticate", ""))
    if asked.status != 401 or realm is None:
        raise RuntimeError("no login is asked for")
    md5 = lambda text: hashlib.md5(text.encode()).hexdigest()  # noqa: E731
    first, second = md5(f"ann:{realm[1]}:ann"), md5(f"PROPFIND:{client.base}/")
    digest = md5(f"{first}:invented:00000001:c:auth:{second}")
    header = (
        f'Digest username="ann", realm="{realm[1]}", nonce="invented", uri="{client.base}/", qop=auth, nc=00000001, '
        f'cnonce="c", response="{digest}"'
    )
    taken = [client("PROPFIND", "/", Depth="0", Authorization=header).status for _ in range(2)]
    setup(client("PROPFIND", "/", Depth="0", Authorization=basic("ann")), 207)
    assert offered == "Basic" and taken == [401, 401]


# --- last: plain cheroot goes on with it for a while --------------------------------------------------------------------


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


@pytest.mark.parametrize("check", ROWS, ids=lambda check: check.__name__)
def test_davfs_does_it_right(davfs: Peer, check: Row) -> None:
    client = of(davfs, check)
    try:
        check(davfs, client)
    finally:
        client.close()


@pytest.mark.parametrize("check", ROWS, ids=lambda check: check.__name__)
def test_plain_wsgidav_does_not(plain: Peer, check: Row) -> None:
    client = of(plain, check)
    try:
        with pytest.raises(AssertionError):
            check(plain, client)
    finally:
        client.close()
