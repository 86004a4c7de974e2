"""Forwarding between real listeners over mutual TLS, and the rules for looking for another holder."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from davfs.cluster.api import Forward
from davfs.core import accounts
from davfs.core.chunking import digest_of
from davfs.core.errors import LeaseLost, NotHolder, OutcomeUnknown, Unavailable, Unreachable
from davfs.core.passwords import hash_password
from davfs.dav.application import DavApplication
from davfs.dav.authenticator import Authenticator
from davfs.dav.request import DavSettings
from davfs.dav.server import DavServer
from davfs.rpc.certs import create_authority, issue
from davfs.rpc.forward import Forwarder
from davfs.rpc.identity import load_identity, peer_name
from tests.support.dav_client import DavClient, RawConnection
from tests.support.memory_drive import MemoryDrive, MemoryVolume

MIB = 1 << 20
NODES = ("one", "two", "three")


class RoutedDrive(MemoryDrive):
    """A node's view of a drive whose volumes are all held by ``cluster.holder``."""

    def __init__(self, name: str, cluster: Cluster) -> None:
        super().__init__()
        self._name = name
        self._cluster = cluster
        self.routes: list[tuple[bool, Forward | None]] = []
        self.script: list[Callable[[], MemoryVolume | Forward]] = []

    @property
    def node(self) -> str:
        return self._name

    def route(self, volume: str, *, forwarded: bool, avoid: Forward | None = None) -> MemoryVolume | Forward:
        self.routes.append((forwarded, avoid))
        if self.script:
            return self.script.pop(0)()
        if avoid is not None and avoid.node == self._cluster.holder:
            self._cluster.holder = self._name  # the failed holder's token has expired
        if self._cluster.holder == self._name:
            return self._cluster.drive.route(volume, forwarded=forwarded)
        if forwarded:
            raise NotHolder(f"{self._name} is not the holder")
        return Forward(self._cluster.holder, "e")


@dataclass
class Cluster:
    """Three nodes, each with a public and a forward listener, over one drive in memory."""

    drive: MemoryDrive
    holder: str = "two"

    def __post_init__(self) -> None:
        self.drives = {name: RoutedDrive(name, self) for name in NODES}
        self.public: dict[str, DavServer] = {}
        self.forward: dict[str, DavServer] = {}
        self.forwarders: list[Forwarder] = []

    def start(self, directory, users=None, tables=None) -> None:
        """``tables``: the accounts as each node's Raft state shows them."""
        create_authority(directory)
        for name in NODES:
            issue(directory, name, ["127.0.0.1"])
            home = directory / name
            identity = load_identity(directory / "ca.pem", home / "node.pem", home / "node.key")
            forwarder = Forwarder(identity, lambda node: ("127.0.0.1", self.forward[node].port))
            self.forwarders.append(forwarder)
            table = (lambda name=name: tables[name]) if tables else dict
            application = DavApplication(
                self.drives[name],
                DavSettings(ttl_s=0.5, patience_s=1.0),
                forwarder,
                Authenticator(users, table, anonymous=not users and not tables),
                table,
            )
            self.public[name] = DavServer("127.0.0.1", 0, application, threads=12)
            self.forward[name] = DavServer(
                "127.0.0.1", 0, application, identity.server, threads=12, peer_name=peer_name
            )
            for server in (self.public[name], self.forward[name]):
                server.start()

    def stop(self) -> None:
        for forwarder in self.forwarders:
            forwarder.close()
        for name in NODES:
            self.public[name].stop(1)
            self.forward[name].stop(1)


@pytest.fixture
def cluster(tmp_path) -> Iterator[Cluster]:
    cluster = Cluster(MemoryDrive("demo"))
    cluster.start(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture
def dav(cluster: Cluster) -> Iterator[DavClient]:
    client = DavClient(cluster.public["one"].port)
    yield client
    client.close()


def test_any_node_serves(cluster: Cluster, dav: DavClient):
    data = secrets.token_bytes(5 * MIB)
    assert dav("MKCOL", "/d").status == 201
    put = dav("PUT", "/d/f", data, X_OC_Mtime="1000000000")
    assert (put.status, put.headers["x-oc-mtime"]) == (201, "accepted")
    assert dav("PUT", "/d/g", b"small").status == 201
    assert dav("PUT", "/d/empty", b"").status == 201
    for name in NODES:
        client = DavClient(cluster.public[name].port)
        assert client("GET", "/d/f").body == data
        assert client("GET", "/d/f", Range="bytes=5-6").body == data[5:7]
        assert client("GET", "/d/f", If_None_Match=put.headers["etag"]).status == 304
        head = client("HEAD", "/d/f")
        assert (head.headers["content-length"], head.headers["server"]) == (str(len(data)), "davfs")
        assert client("PROPFIND", "/d", Depth="1").hrefs == ["/demo/d/", "/demo/d/empty", "/demo/d/f", "/demo/d/g"]
        assert client("GET", "/d/").status == 200
        assert client("COPY", "/d/g", Destination=f"http://127.0.0.1:{client.port}/demo/{name}").status == 201
        client.close()
    assert dav("DELETE", "/d").status == 204


def test_move_without_host_in_http_1_0(cluster: Cluster, dav: DavClient):
    assert dav("PUT", "/f", b"x").status == 201
    raw = RawConnection(dav.port)
    raw.send("MOVE /demo/f HTTP/1.0", "Destination: http://whatever/demo/g")
    assert raw.answer().status == 201
    raw.close()
    assert dav("MOVE", "/g", Destination="http://elsewhere/demo/h").status == 502


def test_a_chunked_put_is_forwarded_as_it_comes(cluster: Cluster, dav: DavClient):
    raw = RawConnection(dav.port)
    raw.send("PUT /demo/f HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n")
    raw.socket.sendall(b"30000\r\n" + bytes(0x30000) + b"\r\n0\r\n\r\n")
    assert raw.answer().status == 201
    raw.close()
    assert dav("GET", "/f").body == b"abc" + bytes(0x30000)


def test_conditions_are_checked_before_a_large_body(cluster: Cluster, dav: DavClient):
    raw = RawConnection(dav.port)
    raw.send("PUT /demo/f HTTP/1.1", "Host: x", f"Content-Length: {600 * MIB}", 'If-Match: "x"', "Expect: 100-continue")
    assert raw.answer().status == 412
    raw.close()


@pytest.mark.parametrize("size", [1000, 10 * MIB])
def test_a_put_that_breaks_off_changes_nothing(cluster: Cluster, dav: DavClient, size):
    raw = RawConnection(dav.port)
    raw.send("PUT /demo/f HTTP/1.1", "Host: x", f"Content-Length: {size}", body=bytes(size // 2))
    raw.close()
    time.sleep(0.3)
    assert dav("GET", "/f").status == 404


def test_takeover_when_the_holder_is_gone(cluster: Cluster, dav: DavClient):
    assert dav("PUT", "/f", b"1").status == 201
    cluster.forward["two"].stop(0.1)
    assert dav("PUT", "/f", b"2").status == 204
    assert cluster.holder == "one"
    assert cluster.drives["one"].routes[-1] == (False, Forward("two", "e"))


def test_takeover_for_a_large_put(cluster: Cluster, dav: DavClient):
    cluster.forward["two"].stop(0.1)
    data = bytes(3 * MIB)
    assert dav("PUT", "/f", data).status == 201
    assert dav("GET", "/f").body == data


def test_a_node_that_is_not_the_holder_says_so_and_the_first_looks_again(cluster: Cluster, dav: DavClient):
    drive = cluster.drives["one"]
    drive.script = [lambda: Forward("three", "old")]
    assert dav("PUT", "/f", b"x" * 1000).status == 201
    assert cluster.drives["three"].routes == [(True, None)]
    assert drive.routes == [(False, None), (False, Forward("three", "old"))]
    drive.script = [lambda: Forward("three", "old")]
    assert dav("PUT", "/f", bytes(MIB)).status == 204


def test_two_nodes_that_each_believe_in_the_other(cluster: Cluster, dav: DavClient):
    cluster.drives["one"].script = [lambda: Forward("three", "x")] * 1000
    cluster.drives["three"].script = [lambda: Forward("one", "x")] * 1000
    started = time.monotonic()
    answer = dav("PUT", "/f", b"x")
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert time.monotonic() - started < 9
    assert all(forwarded for forwarded, _ in cluster.drives["three"].routes)


def test_a_lease_that_ends_meanwhile(cluster: Cluster, dav: DavClient):
    class Losing(MemoryVolume):
        def put(self, path, read, *args, **kwargs):
            while read(100_000):
                pass
            raise LeaseLost

    cluster.drives["one"].script = [lambda: Losing("demo")]
    assert dav("PUT", "/f", b"small").status == 201
    assert dav("GET", "/f").body == b"small"
    cluster.drives["one"].script = [lambda: Losing("demo")]
    answer = dav("PUT", "/f", bytes(MIB))
    assert answer.status == 503  # what was read of it is gone: only the client has it
    assert dav("GET", "/f").body == b"small"


def test_unavailable_is_answered_at_once(cluster: Cluster, dav: DavClient):
    def fail() -> MemoryVolume:
        raise Unavailable("no majority")

    cluster.drives["one"].script = [fail]
    answer = dav("GET", "/f")
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert b"no majority" in answer.body


def test_accounts_come_through_and_passwords_do_not(tmp_path):
    cluster = Cluster(MemoryDrive("demo"))
    cluster.start(tmp_path, {"ann": hash_password("secret", b"0123456789abcdef")})
    seen: list[Any] = []
    volume: Any = cluster.drive.route("demo", forwarded=False)
    try:
        original = volume.mkcol
        volume.mkcol = lambda *args, **kw: (seen.append(kw["caller"]), original(*args, **kw))[1]
        headers = {"Authorization": "Basic " + base64.b64encode(b"ann:secret").decode(), "X-Davfs-User": "root"}
        client = DavClient(cluster.public["one"].port)
        assert client.raw("MKCOL", "/demo/d").status == 401
        assert client.raw("MKCOL", "/demo/d", None, headers).status == 201
        assert [caller.principal for caller in seen] == ["ann"]
        assert len(seen[0].request_id) == 32
        client.close()
    finally:
        cluster.stop()


def test_the_holder_asks_for_the_role_itself(tmp_path):
    """Node one has not heard yet that ann may write no more; two, who holds the volume, has."""
    cluster = Cluster(MemoryDrive("demo"))
    secret = accounts.app_password("a1", "f00d")
    (volume_id,) = [volume.id for volume in cluster.drive.volumes()]
    ann = accounts.add({}, "ann", "", accounts.NONE, {volume_id: accounts.WRITE})
    ann = accounts.add_app_password(ann, "ann", "a1", digest_of(secret.encode()), "", 0)
    tables = dict.fromkeys(NODES, ann)
    cluster.start(tmp_path, {"root": hash_password("secret", b"0123456789abcdef")}, tables)
    for drive in cluster.drives.values():
        drive._volumes = cluster.drive._volumes
    headers = {"Authorization": f"Bearer {secret}"}
    client = DavClient(cluster.public["one"].port)
    try:
        assert client.raw("PUT", "/demo/f", b"1", headers).status == 201
        tables["two"] = accounts.set_role(ann, "ann", volume_id, accounts.READ)
        assert client.raw("PUT", "/demo/f", b"2", headers).status == 403
        assert client.raw("GET", "/demo/f", None, headers).body == b"1"
        tables["two"] = accounts.delete(ann, "ann")
        assert client.raw("GET", "/demo/f", None, headers).status == 404
        tables["two"] = ann
        tables["one"] = accounts.set_role(ann, "ann", volume_id, accounts.NONE)
        assert client.raw("GET", "/demo/f", None, headers).status == 404, "nor does one forward what it refuses"
        root = {"Authorization": "Basic " + base64.b64encode(b"root:secret").decode()}
        assert client.raw("PUT", "/demo/f", b"3", root).status == 204, "a configured user is one everywhere"
    finally:
        client.close()
        cluster.stop()


def test_a_lock_whose_answer_was_lost_is_found_again(cluster: Cluster, dav: DavClient):
    volume: Any = cluster.drive.route("demo", forwarded=False)
    original, calls = volume.lock, []

    def lose_the_first_answer(*args, **kwargs):
        calls.append(original(*args, **kwargs))
        raise LeaseLost

    volume.lock = lambda *args, **kwargs: (original if calls else lose_the_first_answer)(*args, **kwargs)
    body = "<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>"
    answer = dav("LOCK", "/f", body)
    assert answer.status in (200, 201)
    assert answer.headers["lock-token"] == f"<{calls[0][0].token}>"
    assert dav("UNLOCK", "/f", Lock_Token=answer.headers["lock-token"]).status == 204


# --- the rules, without a network -------------------------------------------------------------------------------------


class ScriptedForwarder:
    """Answers or fails as told; remembers what was asked."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[tuple[str, dict[str, str], bytes]] = []

    def open(self, node, method, target, headers, body=None, length=None, over=lambda: False):
        outcome = self.outcomes.pop(0)
        data = b""
        if body is not None and not isinstance(outcome, Unreachable):
            data = b"".join(iter(lambda: body(65536), b""))
        self.calls.append((node, dict(headers), data))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class ScriptedAnswer:
    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.closed = False

    def __iter__(self):
        return iter([self.body])

    def close(self) -> None:
        self.closed = True


def put_through(forwarder: ScriptedForwarder, body: bytes) -> tuple[int, bytes]:
    cluster = Cluster(MemoryDrive("demo"))
    drive = cluster.drives["one"]
    drive.script = [lambda: Forward("two", "e")] * 100
    server = DavServer(
        "127.0.0.1", 0, DavApplication(drive, DavSettings(ttl_s=0.1, patience_s=1.0), forwarder), threads=4
    )
    server.start()
    client = DavClient(server.port)
    try:
        answer = client("PUT", "/f", body, Cookie="c", X_Davfs_Request_Id="mine")
        return answer.status, answer.body
    finally:
        client.close()
        server.stop(1)


def test_a_small_body_is_sent_again_with_the_same_request_id():
    answer = ScriptedAnswer(201, [("Content-Length", "2"), ("Connection", "close")], b"ok")
    not_holder = ScriptedAnswer(503, [("X-Davfs-Not-Holder", "1"), ("Content-Length", "0")])
    forwarder = ScriptedForwarder(Unreachable("down"), not_holder, OutcomeUnknown("lost"), answer)
    assert put_through(forwarder, b"hello") == (201, b"ok")
    assert [data for _, _, data in forwarder.calls] == [b"", b"hello", b"hello", b"hello"]
    ids = {headers["X-Davfs-Request-Id"] for _, headers, _ in forwarder.calls}
    assert len(ids) == 1
    assert ids != {"mine"}
    assert forwarder.calls[0][1]["Cookie"] == "c"
    assert not_holder.closed
    assert answer.closed


class BrokenAnswer(ScriptedAnswer):
    """Its node dies before it has sent the first block."""

    def __iter__(self):
        raise Unavailable("the answer of two broke off")
        yield b""


def test_an_answer_that_breaks_off_before_its_first_block_is_no_answer():
    broken = BrokenAnswer(201, [("Content-Length", "2")])
    whole = ScriptedAnswer(201, [("Content-Length", "2")], b"ok")
    forwarder = ScriptedForwarder(broken, whole)
    assert put_through(forwarder, b"hello") == (201, b"ok")
    assert len({headers["X-Davfs-Request-Id"] for _, headers, _ in forwarder.calls}) == 1
    assert broken.closed
    status, text = put_through(ScriptedForwarder(*[BrokenAnswer(201, [])] * 1000), b"hello")
    assert status == 503 and b"broke off" in text


def test_what_is_unknown_once_is_never_said_to_have_changed_nothing():
    """The first holder may have made the change before it fell silent; what the next says of its own part is not all."""
    refused = ScriptedAnswer(503, [("Content-Length", "32")], b"too few answer; nothing was changed")
    forwarder = ScriptedForwarder(OutcomeUnknown("lost"), *[refused] * 1000)
    status, text = put_through(forwarder, b"hello")
    assert status == 503
    assert b"nothing was changed" not in text and b"unknown" in text
    status, text = put_through(ScriptedForwarder(ScriptedAnswer(503, [], b"nothing was changed")), b"hello")
    assert status == 503 and b"nothing was changed" in text
    full = ScriptedAnswer(507, [("Content-Length", "4")], b"full")
    status, text = put_through(ScriptedForwarder(OutcomeUnknown("lost"), full), b"hello")
    assert status == 503 and b"unknown" in text
    assert put_through(ScriptedForwarder(ScriptedAnswer(507, [], b"full")), b"hello") == (507, b"full")


def test_a_refusal_of_a_write_is_unknown_while_an_earlier_attempt_may_become_a_conflict_copy():
    gone = ScriptedAnswer(409, [("Content-Length", "4")], b"gone")
    status, text = put_through(ScriptedForwarder(OutcomeUnknown("lost"), gone), b"hello")
    assert status == 503 and b"unknown" in text
    assert gone.closed
    assert put_through(ScriptedForwarder(Unreachable("down"), ScriptedAnswer(409, [], b"gone")), b"hello") == (409, b"gone")


def test_a_large_body_is_sent_again_only_while_it_is_whole():
    body = bytes(200_000)
    first = ScriptedForwarder(Unreachable("down"), ScriptedAnswer(201, [("Content-Length", "0")]))
    assert put_through(first, body)[0] == 201
    assert first.calls[1][2] == body
    second = ScriptedForwarder(OutcomeUnknown("lost"), ScriptedAnswer(201, []))
    status, text = put_through(second, body)
    assert status == 503
    assert b"lost" in text
    assert len(second.calls) == 1


def test_a_session_is_the_first_nodes_word_and_never_the_clients(cluster: Cluster):
    """Account, address and User-Agent as the first node saw them; a client cannot say who it is."""
    volume = cluster.drive.route("demo", forwarded=False)
    assert isinstance(volume, MemoryVolume)
    for name, through in (("one", "one"), ("two", "two")):  # "two" holds the volume
        client = DavClient(cluster.public[name].port)
        headers = {"User-Agent": "Client/\x81 1.0", "X-Davfs-Client": "10.9.8.7", "X-Davfs-User": "root"}
        assert client.raw("PUT", "/demo/f", b"x", headers).status in (201, 204)
        assert volume.visits[-1] == (("", "127.0.0.1", "Client/ 1.0"), through)
        client.close()
    assert volume.under_way == 0


def test_a_request_is_under_way_until_its_answer_is_sent(cluster: Cluster, dav: DavClient):
    volume = cluster.drive.route("demo", forwarded=False)
    assert isinstance(volume, MemoryVolume)
    assert dav("PUT", "/f", secrets.token_bytes(30 * MIB)).status == 201
    slow = RawConnection(cluster.public["one"].port)
    slow.send("GET /demo/f HTTP/1.1", "Host: x")
    assert slow.file.readline().startswith(b"HTTP/1.1 200")
    assert dav("GET", "/nothing").status == 404
    assert volume.under_way == 1
    slow.close()
    ends = time.monotonic() + 10
    while volume.under_way and time.monotonic() < ends:
        time.sleep(0.01)
    assert volume.under_way == 0
