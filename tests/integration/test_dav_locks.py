"""DAV locks on a real drive: taken through one node, seen and enforced through every other, by every method.

DAVFS_SLOW_PUT_SECONDS: how long a PUT goes on after a lock was granted under it (600: the ten minutes of the promise).
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from compat.client import Answer, DavClient
from tests.support.cluster import DevCluster
from tests.support.dav_locks import active_locks, discover, lock, locked, refresh, submit, unlock

NODES = (1, 2, 3)
SLOW_PUT_S = float(os.environ.get("DAVFS_SLOW_PUT_SECONDS", "0"))
PROPPATCH = (
    b'<?xml version="1.0"?><D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x xmlns="urn:x">1</x></D:prop></D:set>'
    b"</D:propertyupdate>"
)
PATCH = {"Content-Type": "application/x-sabredav-partialupdate", "X-Update-Range": "append"}


@pytest.fixture
def clients(drive: DevCluster) -> Iterator[list[DavClient]]:
    """One client of each node."""
    with ExitStack() as stack:
        yield [stack.enter_context(drive.client(number)) for number in NODES]


@pytest.fixture
def folder(clients: list[DavClient]) -> Iterator[str]:
    """A collection of the test's own; the locks inside it end with it."""
    name = f"locks-{secrets.token_hex(4)}"
    assert clients[0].request("MKCOL", name).status == 201
    yield name
    tokens = [one["token"] for one in _all_locks(clients[0]) if one["path"].split("/")[1] == name]
    for token in tokens:
        clients[0].request("UNLOCK", name, None, {"Lock-Token": f"<{token}>"})


def _all_locks(client: DavClient) -> list[dict[str, str]]:
    """The locks at the top of the volume and of its members, as far as PROPFIND shows them."""
    body = b'<?xml version="1.0"?><D:propfind xmlns:D="DAV:"><D:prop><D:lockdiscovery/></D:prop></D:propfind>'
    answer = client.request("PROPFIND", "", body, {"Depth": "1"})
    return [{"token": one.token, "path": one.root.removeprefix("/demo")} for one in active_locks(answer)]


def _changes(client: DavClient, path: str, other: str, headers: dict[str, str]) -> dict[str, Answer]:
    """Every method that a lock on the file ``path`` forbids. ``other`` is a file beside it."""
    onto = headers | {"Destination": client.absolute(path)}
    away = headers | {"Destination": client.absolute(f"{path}.moved")}
    return {
        "PUT": client.request("PUT", path, b"changed", headers),
        "PUT of a part": client.request("PUT", path, b"c", headers | {"Content-Range": "bytes 0-0/*"}),
        "PATCH": client.request("PATCH", path, b"c", headers | PATCH),
        "PROPPATCH": client.request("PROPPATCH", path, PROPPATCH, headers),
        "COPY onto": client.request("COPY", other, None, onto),
        "MOVE onto": client.request("MOVE", other, None, onto),
        "MOVE away": client.request("MOVE", path, None, away),
        "DELETE": client.request("DELETE", path, None, headers),
        "LOCK": lock(client, path, scope="shared"),
    }


@pytest.mark.parametrize("taker", NODES)
def test_a_lock_taken_through_one_node_is_seen_and_enforced_through_all(
    clients: list[DavClient], folder: str, taker: int
) -> None:
    path, other = f"{folder}/a.txt", f"{folder}/b.txt"
    assert clients[0].put(path, b"mine").ok and clients[0].put(other, b"other").ok
    token = locked(clients[taker - 1], path)
    for client in clients:
        (seen,) = discover(client, path)
        assert (seen.token, seen.exclusive, seen.depth) == (token, True, "0")
        assert "mailto:anna@example.org" in seen.owner and "urn:example:x" in seen.owner and "7 &amp; 8" in seen.owner
        assert {name: one.status for name, one in _changes(client, path, other, {}).items()} == dict.fromkeys(
            ("PUT", "PUT of a part", "PATCH", "PROPPATCH", "COPY onto", "MOVE onto", "MOVE away", "DELETE", "LOCK"), 423
        )
        assert client.get(path).body == b"mine"
        wrong = {"If": f"(<{token}x>)"}
        assert client.request("PUT", path, b"changed", wrong).status == 412
        assert client.request("PUT", path, b"mine", submit(client, path, token)).status == 204
    assert unlock(clients[taker % 3], path, token).status == 204
    for client in clients:
        assert discover(client, path) == []
        assert client.put(path, b"free").status == 204
    assert unlock(clients[0], path, token).status == 409


def test_a_lock_of_a_collection_guards_its_members(clients: list[DavClient], folder: str) -> None:
    one, two, three = clients
    assert one.request("MKCOL", f"{folder}/deep").status == 201
    assert one.put(f"{folder}/deep/file.txt", b"1").status == 201
    token = locked(one, folder, depth="infinity")
    path = f"{folder}/deep/file.txt"
    (inherited,) = discover(two, path)
    assert (inherited.token, inherited.depth, inherited.root) == (token, "infinity", f"/demo/{folder}")
    for client in (two, three):
        assert client.put(path, b"2").status == 423
        assert client.put(f"{folder}/deep/new.txt", b"2").status == 423
        assert client.request("MKCOL", f"{folder}/other").status == 423
        assert client.request("DELETE", f"{folder}/deep").status == 423
        assert lock(client, path).status == 423
        assert lock(client, f"{folder}/deep/unmapped.txt").status == 423
        assert client.get(f"{folder}/deep/unmapped.txt").status == 404
        assert client.request("PUT", path, b"3", {"If": f"<{client.absolute(folder)}> (<{token}>)"}).status == 204
    assert refresh(three, path, token, "Second-77").status == 200
    assert unlock(two, path, token).status == 204  # through a member (RFC 4918, 9.11)
    assert discover(one, folder) == []


def test_depth_zero_guards_the_membership_alone(clients: list[DavClient], folder: str) -> None:
    one, two, _ = clients
    assert one.put(f"{folder}/old.txt", b"1").status == 201
    token = locked(one, folder, depth="0")
    assert two.put(f"{folder}/old.txt", b"2").status == 204
    assert two.put(f"{folder}/new.txt", b"2").status == 423
    assert two.request("DELETE", f"{folder}/old.txt").status == 423
    headers = {"If": f"<{two.target(folder)}/> (<{token}>)"}
    assert two.request("PUT", f"{folder}/new.txt", b"2", headers).status == 201
    assert two.request("DELETE", f"{folder}/old.txt", None, headers).status == 204
    assert unlock(one, folder, token).status == 204


def test_shared_locks_stand_together(clients: list[DavClient], folder: str) -> None:
    path = f"{folder}/shared.txt"
    assert clients[0].put(path, b"1").status == 201
    tokens = [locked(client, path, scope="shared") for client in clients]
    assert {one.token for one in discover(clients[1], path)} == set(tokens)
    assert lock(clients[1], path).status == 423
    assert clients[2].put(path, b"2").status == 423
    assert clients[2].request("PUT", path, b"3", submit(clients[2], path, tokens[0])).status == 204
    for client, token in zip(clients, tokens, strict=True):
        assert unlock(client, path, token).status == 204
    assert clients[2].put(path, b"4").status == 204


def test_a_member_that_is_locked_forbids_the_whole(clients: list[DavClient], folder: str) -> None:
    one, two, _ = clients
    path = f"{folder}/member.txt"
    assert one.put(path, b"1").status == 201
    token = locked(one, path)
    refused = lock(two, folder, depth="infinity")
    assert refused.status == 207
    assert b"423 Locked" in refused.body and b"424 Failed Dependency" in refused.body
    assert lock(two, folder, depth="0").status == 200
    assert two.request("MOVE", folder, None, {"Destination": two.absolute(f"{folder}-moved")}).status == 423
    for one_lock in discover(one, folder):
        assert unlock(one, folder, one_lock.token).status == 204
    assert unlock(one, path, token).status == 204


def test_an_unmapped_name_is_locked_and_appears_empty(clients: list[DavClient], folder: str) -> None:
    one, two, three = clients
    path = f"{folder}/new.txt"
    answer = lock(one, path)
    assert answer.status == 201
    token = answer.headers["lock-token"].strip("<>")
    assert (two.get(path).status, two.get(path).body) == (200, b"")
    assert lock(three, path).status == 423
    assert three.put(path, b"x").status == 423
    assert two.request("PUT", path, b"written", submit(two, path, token)).status == 204
    assert unlock(three, path, token).status == 204
    assert one.get(path).body == b"written"
    assert lock(one, f"{folder}/no/parent.txt").status == 409


def test_times_are_capped_refreshed_and_end(drive: DevCluster, clients: list[DavClient], folder: str) -> None:
    one, two, three = clients
    path = f"{folder}/times.txt"
    assert one.put(path, b"1").status == 201
    token = locked(one, path, timeout="Infinite, Second-4100000000")
    (seen,) = discover(two, path)
    assert seen.timeout == "Second-604800"
    (refreshed,) = active_locks(refresh(three, path, token, "Second-1"))
    assert refreshed.timeout == "Second-1"
    drive.until("the end of the lock", lambda: not discover(two, path), 15)
    assert refresh(three, path, token, "Second-100").status == 412
    assert two.put(path, b"2").status == 204


def test_what_goes_takes_its_locks_along(clients: list[DavClient], folder: str) -> None:
    """DELETE and MOVE end the locks of what goes; they do not move, and what replaces a locked name is locked (7.5)."""
    one, two, _ = clients
    for name in ("a.txt", "b.txt", "c.txt"):
        assert one.put(f"{folder}/{name}", b"1").status == 201
    a, b = locked(one, f"{folder}/a.txt"), locked(one, f"{folder}/b.txt")
    headers = {"If": f"<{two.target(folder)}/a.txt> (<{a}>)", "Destination": two.absolute(f"{folder}/moved.txt")}
    assert two.request("MOVE", f"{folder}/a.txt", None, headers).status == 201
    assert discover(two, f"{folder}/moved.txt") == []
    assert two.put(f"{folder}/a.txt", b"2").status == 201
    onto = {"If": f"<{two.target(folder)}/b.txt> (<{b}>)", "Destination": two.absolute(f"{folder}/b.txt")}
    assert two.request("MOVE", f"{folder}/c.txt", None, onto).status == 204
    assert [one_lock.token for one_lock in discover(two, f"{folder}/b.txt")] == [b]
    assert two.request("DELETE", f"{folder}/b.txt", None, submit(two, f"{folder}/b.txt", b)).status == 204
    assert two.put(f"{folder}/b.txt", b"3").status == 201
    assert discover(one, f"{folder}/b.txt") == []


@pytest.mark.timeout(120 + SLOW_PUT_S)
@pytest.mark.parametrize("where", ["file", "new name", "collection"])
def test_a_put_that_is_under_way_does_not_slip_under_a_lock(
    drive: DevCluster, clients: list[DavClient], folder: str, where: str
) -> None:
    """The PUT was fine when it began; at its end the path is locked: 423, and nothing has changed."""
    path = f"{folder}/slow.bin"
    if where != "new name":
        assert clients[0].put(path, b"before").status == 201
    half, piece = secrets.token_bytes(3 << 20), 64 * 1024 if SLOW_PUT_S else 3 << 20
    reached, granted = threading.Event(), threading.Event()
    outcome: list[Answer] = []

    def body() -> Iterator[bytes]:
        yield half
        reached.set()
        granted.wait(20)
        for start in range(0, len(half), piece):
            time.sleep(SLOW_PUT_S * piece / len(half))
            yield half[start : start + piece]

    def upload() -> None:
        with drive.client(1, timeout=60) as client:
            outcome.append(client.request("PUT", path, body(), {"Content-Length": str(2 * len(half))}))

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        assert reached.wait(20)
        target = folder if where == "collection" else path
        token = locked(clients[1], target, depth="infinity" if where == "collection" else "0", timeout="Second-3600")
    finally:
        granted.set()
        thread.join(60 + SLOW_PUT_S)
    assert [answer.status for answer in outcome] == [423]
    assert clients[2].get(path).body == (b"" if where == "new name" else b"before")
    assert unlock(clients[2], target, token).status == 204
    with drive.client(1) as client:  # the others' connections may have been idle for too long
        assert client.put(path, b"after").status == 204


def test_an_administrator_lists_and_breaks_locks(drive: DevCluster, clients: list[DavClient], folder: str) -> None:
    one, two, _ = clients
    path = f"{folder}/broken.txt"
    assert one.put(path, b"1").status == 201
    token = locked(one, path)
    listed = json.loads(drive.command("lock", "list", "--volume", "demo", "--json", number=2).stdout)
    (mine,) = [row for row in listed if row["token"] == token]
    assert (mine["volume"], mine["path"], mine["exclusive"], mine["infinite"]) == ("demo", f"/{path}", True, False)
    assert token not in drive.command("lock", "list", "--volume", "second").stdout
    table = drive.command("lock", "list").stdout
    assert f"/{path}" in table and "mailto:anna@example.org" in table
    done = drive.command("lock", "break", token, number=3)
    assert (done.returncode, f"/{path} in demo is broken" in done.stdout) == (0, True), done.stderr
    assert discover(two, path) == []
    assert two.put(path, b"2").status == 204
    assert one.request("PUT", path, b"3", submit(one, path, token)).status == 412  # its owner learns of it
    again = drive.command("lock", "break", token)
    assert (again.returncode, "there is no lock" in again.stderr) == (1, True)
    logs = [(drive.directory / f"node-{number}" / "log").read_text(errors="replace") for number in NODES]
    assert any("lock broken by" in text and token in text for text in logs)


def test_a_whole_volume_is_locked(drive: DevCluster) -> None:
    with drive.client(1, "second") as one, drive.client(2, "second") as two:
        assert one.put("there.txt", b"1").ok
        token = locked(one, "", depth="infinity")
        assert two.put("there.txt", b"2").status == 423
        assert two.put("new.txt", b"2").status == 423
        assert two.request("MKCOL", "new").status == 423
        headers = {"If": f"</second/> (<{token}>)"}
        assert two.request("PUT", "there.txt", b"3", headers).status == 204
        assert two.request("MKCOL", "new", None, headers).status == 201
        assert two.request("DELETE", "new", None, headers).status == 204
        assert unlock(two, "", token).status == 204
        assert two.put("there.txt", b"4").status == 204


def test_a_token_counts_for_its_account_alone(make_drive: Callable[..., DevCluster]) -> None:
    """Lockdiscovery shows tokens to everybody who may read: they are no secrets (RFC 4918, 6.4)."""
    drive = make_drive(users=("ann:secret", "ben:hidden"))
    drive.start()
    with drive.client(1, user="ann:secret") as ann, drive.client(2, user="ben:hidden") as ben:
        assert ann.put("hers.txt", b"1").status == 201
        token = locked(ann, "hers.txt")
        (seen,) = discover(ben, "hers.txt")
        assert seen.token == token
        assert ben.request("PUT", "hers.txt", b"2", submit(ben, "hers.txt", token)).status == 423
        assert refresh(ben, "hers.txt", token, "Second-5").status == 403
        assert ben.request("DELETE", "hers.txt", None, submit(ben, "hers.txt", token)).status == 423
        assert ann.request("PUT", "hers.txt", b"3", submit(ann, "hers.txt", token)).status == 204
        assert "ann" in drive.command("lock", "list").stdout
        assert unlock(ann, "hers.txt", token).status == 204
        assert ben.put("hers.txt", b"4").status == 204
        accounts = {row["account"] for row in json.loads(drive.command("session", "list", "--json").stdout)}
        assert {"ann", "ben"} <= accounts
    assert drive.stop() == 0
