"""Sessions: who uses a volume, through which node; their end by idleness; a volume that one session has to itself."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from compat.client import Answer, DavClient
from tests.support.cluster import DevCluster
from tests.support.dav_locks import lock, unlock

IDLE = 2.0
NODES = (1, 2, 3)
LIMIT = 30.0


@pytest.fixture(scope="module")
def quick() -> Iterator[DevCluster]:
    """A drive whose sessions end after two seconds, with a shared and an exclusive volume."""
    directory = Path(tempfile.mkdtemp(prefix="davfs-sessions-"))
    cluster = DevCluster(directory / "drive", options=("--ttl", "2", "--session-idle", str(IDLE)))
    try:
        cluster.start()
        assert cluster.command("volume", "create", "alone", "--mode", "exclusive").returncode == 0
        yield cluster
        cluster.stop()
    finally:
        cluster.destroy()
        shutil.rmtree(directory, ignore_errors=True)


def _sessions(drive: DevCluster, volume: str, number: int = 1) -> list[dict[str, Any]]:
    done = drive.command("session", "list", "--volume", volume, "--json", number=number)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _put(client: DavClient, name: str, agent: str, **headers: str) -> Answer:
    return client.put(name, b"data", {"User-Agent": agent} | {k.replace("_", "-"): v for k, v in headers.items()})


class Active(threading.Thread):
    """A client that asks again and again, so that its session lives while a slow machine does what a test wants."""

    def __init__(self, client: DavClient, agent: str) -> None:
        super().__init__()
        self._client, self._agent = client, agent
        self._over = threading.Event()
        self.refused: list[int] = []

    def __enter__(self) -> Active:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(LIMIT)

    def run(self) -> None:
        while not self._over.wait(0.2):
            status = self._client.request("PROPFIND", "", None, {"Depth": "0", "User-Agent": self._agent}).status
            if status != 207:
                self.refused.append(status)


def _entered(client: DavClient, name: str, agent: str) -> bool:
    try:
        return _put(client, name, agent).ok
    except (OSError, HTTPException):
        return False


def test_sessions_are_listed_with_who_and_through_which_node(quick: DevCluster) -> None:
    with quick.client(1) as one, quick.client(2) as two:
        assert _put(two, "b.txt", "Ben/2.0", X_Davfs_Client="10.9.8.7", X_Davfs_User="root").ok
        with Active(one, "Anna/1.0"), Active(two, "Ben/2.0"):
            quick.until("both sessions", lambda: len(_sessions(quick, "demo")) == 2, LIMIT)
            found = {one_session["agent"]: one_session for one_session in _sessions(quick, "demo", number=3)}
            anna, ben = found["Anna/1.0"], found["Ben/2.0"]
            assert (anna["node"], anna["address"], anna["account"]) == ("node-1", "127.0.0.1", "")
            assert (ben["node"], ben["address"], ben["account"]) == ("node-2", "127.0.0.1", "")
            assert not anna["exclusive"] and anna["requests"] >= 1
            shown = quick.command("volume", "show", "demo").stdout
            assert "Anna/1.0" in shown and "Ben/2.0" in shown
            assert "Ben/2.0" in quick.command("session", "list").stdout
        with Active(two, "Ben/2.0"):
            quick.until("the end of the quiet session", lambda: _agents(quick) == ["Ben/2.0"], LIMIT)


def _agents(quick: DevCluster) -> list[str]:
    return [one["agent"] for one in _sessions(quick, "demo")]


def test_the_token_is_freed_when_no_session_and_no_lock_lives(quick: DevCluster) -> None:
    with quick.client(3) as client:
        assert _put(client, "locked.txt", "Carl/1.0").ok
        granted = lock(client, "locked.txt", agent="Carl/1.0", timeout="Second-600")
        token = granted.headers["lock-token"].strip("<>")
        quick.until("the end of the sessions", lambda: _sessions(quick, "demo") == [], LIMIT)
        time.sleep(1.25 * IDLE)
        assert quick.volume("demo")["holder"], "a DAV lock keeps the token"
        assert unlock(client, "locked.txt", token).status == 204
        quick.until("the volume to be free", lambda: quick.volume("demo")["holder"] is None, LIMIT)
        assert _put(client, "locked.txt", "Carl/1.0").ok


def test_the_first_session_has_an_exclusive_volume_to_itself(quick: DevCluster) -> None:
    with quick.client(2, "alone") as client, quick.client(1, "alone") as second:
        quick.until("the first session to enter", lambda: _entered(client, "first.txt", "First/1.0"), LIMIT)
        with Active(client, "First/1.0") as active:
            for number in NODES:
                with quick.client(number, "alone") as other:
                    refused = _put(other, "second.txt", "Second/1.0")
                    assert refused.status == 423
                    assert 1 <= int(refused.headers["retry-after"]) <= IDLE + 1
                    assert b"127.0.0.1 (First/1.0)" in refused.body
                    assert other.request("PROPFIND", "", None, {"Depth": "0", "User-Agent": "Second/1.0"}).status == 423
                    assert other.get("first.txt", {"User-Agent": "Second/1.0"}).status == 423
                    assert _put(other, "first.txt", "First/1.0").ok  # the same client, through any node
            shown = json.loads(quick.command("volume", "show", "alone", "--json").stdout)
            assert shown["session"] == ["", "127.0.0.1", "First/1.0"]
            assert [one["exclusive"] for one in shown["sessions"]] == [True]
            assert "in use by somebody from 127.0.0.1 (First/1.0) alone" in quick.command("volume", "show", "alone").stdout
        began = time.monotonic()
        assert active.refused == []
        quick.until("the second session to enter", lambda: _entered(second, "second.txt", "Second/1.0"), LIMIT)
        print(f"the second entered {time.monotonic() - began:.2f} s after the first's last request (idle {IDLE:g} s)")
        with Active(second, "Second/1.0"):
            assert _put(client, "first.txt", "First/1.0").status == 423


def test_a_lock_and_a_slow_upload_keep_the_claim(quick: DevCluster) -> None:
    with quick.client(1, "alone") as client, quick.client(3, "alone") as other:
        quick.until("the session to enter", lambda: _entered(client, "kept.txt", "Keeper/1.0"), LIMIT)
        granted = lock(client, "kept.txt", agent="Keeper/1.0")
        time.sleep(1.25 * IDLE)
        assert _put(other, "other.txt", "Other/1.0").status == 423, "a DAV lock keeps the claim"
        token = granted.headers["lock-token"].strip("<>")
        headers = {"User-Agent": "Keeper/1.0", "Lock-Token": f"<{token}>"}
        assert client.request("UNLOCK", "kept.txt", None, headers).status == 204

        go_on = threading.Event()
        block = secrets.token_bytes(1 << 20)

        def body() -> Iterator[bytes]:
            yield block
            go_on.wait(LIMIT)
            yield block

        outcome: list[int] = []
        length = {"User-Agent": "Keeper/1.0", "Content-Length": str(2 * len(block))}
        upload = threading.Thread(target=lambda: outcome.append(client.request("PUT", "slow.bin", body(), length).status))
        upload.start()
        time.sleep(1.25 * IDLE)
        refused = _put(other, "other.txt", "Other/1.0").status
        go_on.set()
        upload.join(LIMIT)
        assert (refused, outcome) == (423, [201])
        quick.until("the other to enter at last", lambda: _entered(other, "other.txt", "Other/1.0"), LIMIT)


def test_an_exclusive_session_keeps_its_volume_across_a_takeover(quick: DevCluster) -> None:
    """Last: it kills the holder. The claim is Raft's, so the next holder knows it."""
    with quick.client(1, "alone") as client:
        quick.until("the session to enter", lambda: _entered(client, "mine.txt", "Owner/1.0"), LIMIT)
    holder = int(str(quick.volume("alone")["holder"]).rpartition("-")[2])
    quick.kill(holder)
    left = [number for number in NODES if number != holder]
    with quick.client(left[0], "alone") as stranger, quick.client(left[1], "alone") as owner:

        def refused() -> bool:
            """It waits for the takeover; 503 while an attempt at the dead holder may have taken effect (docs/PROTOCOL.md)."""
            status = _put(stranger, "theirs.txt", "Stranger/1.0").status
            assert status in (423, 503)
            return status == 423

        quick.until("the stranger to be refused", refused, LIMIT)
        quick.until("the owner to go on", lambda: _entered(owner, "mine.txt", "Owner/1.0"), LIMIT)
        with Active(owner, "Owner/1.0") as active:
            assert _put(stranger, "theirs.txt", "Stranger/1.0").status == 423
            assert quick.volume("alone", number=left[0])["holder"] != f"node-{holder}"
            assert active.refused == []
        quick.serve(holder)
        quick.until("the stranger to enter", lambda: _entered(stranger, "theirs.txt", "Stranger/1.0"), LIMIT)
