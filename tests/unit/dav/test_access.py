"""Roles over HTTP: what a reader, a writer and a stranger get. (Through two nodes: test_forwarding.py.)"""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterator

import pytest

from davfs.core import accounts
from davfs.core.accounts import ADMIN, NONE, READ, WRITE, Accounts
from davfs.core.chunking import digest_of
from davfs.core.passwords import hash_password
from davfs.dav.application import DavApplication
from davfs.dav.authenticator import Authenticator
from davfs.dav.request import DavSettings
from davfs.dav.server import DavServer
from tests.support.dav_client import Answer
from tests.support.memory_drive import MemoryDrive

WRITES = ("PUT", "DELETE", "MKCOL", "COPY", "MOVE", "PROPPATCH", "LOCK", "UNLOCK")
READS = ("GET", "HEAD", "PROPFIND")
LOCKINFO = (
    '<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>'
)


class Door:
    """A listener over a drive in memory, with accounts that have app passwords (they cost no hashing)."""

    def __init__(self) -> None:
        self.drive = MemoryDrive("demo", "other")
        self.ids = {volume.name: volume.id for volume in self.drive.volumes()}
        self.table: Accounts = {}
        root = {"root": hash_password("root", b"0123456789abcdef")}
        door = Authenticator(root, lambda: self.table)
        self.server = DavServer(
            "127.0.0.1", 0, DavApplication(self.drive, DavSettings(), None, door, lambda: self.table), threads=8
        )
        self.server.start()

    def account(self, name: str, **roles: str) -> str:
        """A new account with roles by volume; its Authorization header."""
        secret = accounts.app_password(name, "secret")
        self.table = accounts.add(self.table, name, "", NONE, {self.ids[v]: role for v, role in roles.items()})
        self.table = accounts.add_app_password(self.table, name, name, digest_of(secret.encode()), "", 0)
        return f"Bearer {secret}"

    def __call__(self, who: str, method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        try:
            fields = {"Authorization": who} if who else {}
            connection.request(method, target, body, {**fields, **{k.replace("_", "-"): v for k, v in headers.items()}})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


ROOT = "Basic " + base64.b64encode(b"root:root").decode()


@pytest.fixture(scope="module")
def shared() -> Iterator[Door]:
    door = Door()
    yield door
    door.server.stop(1)


@pytest.fixture
def door(shared: Door) -> Door:
    shared.table = {}
    assert shared(ROOT, "PUT", "/demo/a.txt", b"a").status in (201, 204)
    return shared


def request(door: Door, who: str, method: str, target: str) -> Answer:
    body = {"PUT": b"new", "LOCK": LOCKINFO.encode()}.get(method)
    return door(who, method, target, body, Destination="/demo/b.txt", Depth="0", Lock_Token="<opaquelocktoken:x>")


def test_a_reader_reads_and_cannot_write(door):
    reader = door.account("reader", demo=READ)
    for method in READS:
        assert request(door, reader, method, "/demo/a.txt").status in (200, 207), method
    for method in WRITES:
        answer = request(door, reader, method, "/demo/a.txt")
        assert answer.status == 403, method
        assert b"may only read" in answer.body
    assert request(door, reader, "PUT", "/demo/new.txt").status == 403
    assert request(door, reader, "MKCOL", "/demo/new/").status == 403
    assert door(ROOT, "GET", "/demo/a.txt").body == b"a"
    assert door(ROOT, "GET", "/demo/new.txt").status == 404


def test_a_writer_writes(door):
    writer = door.account("writer", demo=WRITE)
    assert request(door, writer, "PUT", "/demo/w.txt").status == 201
    assert request(door, writer, "DELETE", "/demo/w.txt").status == 204


def test_an_administrator_ends_the_locks_of_others(door):
    writer, other = door.account("writer", demo=WRITE), door.account("other", demo=WRITE)
    for who, status in ((other, 403), (door.account("boss", demo=ADMIN), 204), (ROOT, 204)):
        token = door(writer, "LOCK", "/demo/a.txt", LOCKINFO.encode()).headers["lock-token"]
        assert door(who, "UNLOCK", "/demo/a.txt", None, Lock_Token=token).status == status
        if status == 403:
            assert door(writer, "UNLOCK", "/demo/a.txt", None, Lock_Token=token).status == 204


@pytest.mark.parametrize("method", [*READS, *WRITES])
@pytest.mark.parametrize("path", ["/", "/a.txt", "/none.txt"])
def test_for_a_stranger_a_volume_is_as_if_it_were_not(door, method, path):
    stranger = door.account("stranger", other=WRITE)
    hidden = request(door, stranger, method, f"/demo{path}")
    never = request(door, stranger, method, f"/nemo{path}")
    assert hidden.status == never.status == (403 if method == "MKCOL" and path == "/" else 404)
    assert hidden.body.replace(b"demo", b"nemo") == never.body
    assert hidden.headers.keys() == never.headers.keys()


def test_the_list_of_volumes_holds_what_one_may_see(door):
    stranger, nobody = door.account("stranger", other=READ), door.account("nobody")
    listed = {who: door(who, "PROPFIND", "/", None, Depth="1").hrefs for who in (stranger, nobody, ROOT)}
    assert listed == {stranger: ["/", "/other/"], nobody: ["/"], ROOT: ["/", "/demo/", "/other/"]}
    page = door(stranger, "GET", "/").body
    assert b"other" in page and b"demo" not in page
    assert b"demo" in door(ROOT, "GET", "/").body


def test_a_role_is_taken_away_at_once(door):
    writer = door.account("writer", demo=WRITE)
    assert request(door, writer, "PUT", "/demo/a.txt").status == 204
    door.table = accounts.set_role(door.table, "writer", door.ids["demo"], READ)
    assert request(door, writer, "PUT", "/demo/a.txt").status == 403
    door.table = accounts.set_role(door.table, "writer", door.ids["demo"], "")
    assert request(door, writer, "GET", "/demo/a.txt").status == 404
    door.table = accounts.delete(door.table, "writer")
    answer = request(door, writer, "GET", "/demo/a.txt")
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_an_upload_that_outlasts_its_role_is_refused(door):
    writer = door.account("writer", demo=WRITE)
    connection = http.client.HTTPConnection("127.0.0.1", door.server.port, timeout=20)
    try:
        connection.putrequest("PUT", "/demo/long.bin")
        for name, value in (("Authorization", writer), ("Content-Length", "200000")):
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(b"x" * 100_000)
        door.table = accounts.set_role(door.table, "writer", door.ids["demo"], READ)
        connection.send(b"x" * 100_000)
        assert connection.getresponse().status == 403
    finally:
        connection.close()
    assert door(ROOT, "GET", "/demo/long.bin").status == 404


def test_guesses_are_told_when_to_come_again(door):
    wrong = "Bearer davfs_guess_0"
    answers = [door(wrong, "GET", "/demo/a.txt") for _ in range(6)]
    assert [answer.status for answer in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_client_cannot_say_that_it_is_configured(door):
    reader = door.account("reader", demo=READ)
    answer = door(reader, "PUT", "/demo/a.txt", b"x", X_Davfs_Configured="1", X_Davfs_User="root")
    assert answer.status == 403
    assert door("", "GET", "/demo/a.txt", None, X_Davfs_Configured="1", X_Davfs_User="root").status == 401
