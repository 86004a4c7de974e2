"""DAV locks outlive the holder and the Raft leader; many clients lock and unlock at once without an error or a leak.

DAVFS_LOCK_SECONDS: how long the many clients go on (10 unless given; the promise is for a minute).
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from compat.client import DavClient
from tests.support.cluster import DevCluster
from tests.support.dav_locks import discover, lock, locked, submit, unlock

SECONDS = float(os.environ.get("DAVFS_LOCK_SECONDS", "10"))
CLIENTS = 20
TAKEOVER_LIMIT = 30.0
PATHS = {"file.txt": "0", "tree": "infinity", "unmapped.txt": "0"}


def test_locks_are_there_after_the_holder_and_then_the_leader_die(make_drive: Callable[..., DevCluster]) -> None:
    drive = make_drive(options=("--ttl", "2"))
    drive.start()
    with drive.client(1) as client:
        assert client.put("file.txt", b"mine").status == 201
        assert client.request("MKCOL", "tree").status == 201
        assert client.put("tree/member.txt", b"1").status == 201
        tokens = {path: locked(client, path, depth=depth) for path, depth in PATHS.items()}
    for victim_of, sign in ((_holder, signal.SIGKILL), (_leader, signal.SIGKILL), (_holder, signal.SIGTERM)):
        victim = victim_of(drive)
        drive.kill(victim, sign)
        left = [number for number in (1, 2, 3) if number != victim]
        for number in left:
            _await_service(drive, number)
            _locks_hold(drive, number, tokens)
        drive.serve(victim)
        _await_service(drive, victim)
        _locks_hold(drive, victim, tokens)
    with drive.client(2) as client:
        assert client.request("PUT", "file.txt", b"still mine", submit(client, "file.txt", tokens["file.txt"])).ok
        for path, token in tokens.items():
            assert unlock(client, path, token).status == 204
    with drive.client(3) as client:
        assert client.put("file.txt", b"free").ok
        assert client.put("tree/new.txt", b"free").ok
    assert json.loads(drive.command("lock", "list", "--json").stdout) == []


def test_on_five_nodes_locks_outlive_the_holder_and_the_leader_both_dead(make_drive: Callable[..., DevCluster]) -> None:
    """Taken through node 1; after two of five have died, seen and enforced through the three that are left."""
    drive = make_drive(nodes=5, options=("--ttl", "2"))
    drive.start()
    made = drive.command("volume", "create", "everywhere", "--replicas", "5")
    assert made.returncode == 0, made.stderr
    drive.volumes = ("everywhere",)
    with drive.client(1) as client:
        assert client.put("file.txt", b"mine").status == 201
        assert client.request("MKCOL", "tree").status == 201
        assert client.put("tree/member.txt", b"1").status == 201
        tokens = {path: locked(client, path, depth=depth) for path, depth in PATHS.items()}
    for number in range(1, 6):
        _locks_hold(drive, number, tokens)
    left = [1, 2, 3, 4, 5]
    for victim_of in (_holder, _leader):
        victim = victim_of(drive, left[0])
        killed = drive.kill(victim)
        left.remove(victim)
        _await_service(drive, left[0])
        print(f"node {victim} killed; the volume served again after {time.monotonic() - killed:.1f} s")
        for number in left:
            _await_service(drive, number)
            _locks_hold(drive, number, tokens)
    with drive.client(left[0]) as client:
        assert client.request("PUT", "file.txt", b"still mine", submit(client, "file.txt", tokens["file.txt"])).ok
        for path, token in tokens.items():
            assert unlock(client, path, token).status == 204
    with drive.client(left[-1]) as client:
        assert client.get("file.txt").body == b"still mine"
        assert client.put("file.txt", b"free").ok


def _holder(drive: DevCluster, through: int = 1) -> int:
    number = int(str(drive.volume(number=through)["holder"]).rpartition("-")[2])
    print(f"the holder is node {number}")
    return number


def _leader(drive: DevCluster, through: int = 1) -> int:
    drive.until("a leader", lambda: drive.status(through)["leader"], TAKEOVER_LIMIT)
    number = int(str(drive.status(through)["leader"]).rpartition("-")[2])
    print(f"the leader is node {number}")
    return number


def _await_service(drive: DevCluster, number: int) -> None:
    def answers() -> bool:
        with drive.client(number, timeout=20) as client:
            try:
                return client.get("file.txt").status == 200
            except (OSError, HTTPException):
                return False

    drive.until(f"service through node {number}", answers, TAKEOVER_LIMIT)


def _locks_hold(drive: DevCluster, number: int, tokens: dict[str, str]) -> None:
    """Seen and enforced through a node."""
    with drive.client(number) as client:
        for path, token in tokens.items():
            assert [one.token for one in discover(client, path)] == [token]
        assert [one.token for one in discover(client, "tree/member.txt")] == [tokens["tree"]]
        for path in ("file.txt", "tree/new.txt", "unmapped.txt"):
            assert client.put(path, b"not mine").status == 423, drive.story(f"PUT {path} through node {number}")
        assert lock(client, "file.txt").status == 423
        assert client.request("DELETE", "tree").status == 423
        assert client.get("unmapped.txt").body == b""


class Locker(threading.Thread):
    """A client that locks, writes and unlocks: a file of its own, and one that all fight for."""

    def __init__(self, drive: DevCluster, number: int, ends: float) -> None:
        super().__init__()
        self.client: DavClient = drive.client(number % 3 + 1)
        self.own, self.ends = f"own-{number}.txt", ends
        self.statuses: Counter[str] = Counter()
        self.slowest = 0.0
        self.trouble: list[str] = []

    def run(self) -> None:
        try:
            while time.monotonic() < self.ends:
                self._round(self.own, fought_for=False)
                self._round("fought-for.txt", fought_for=True)
        except (OSError, HTTPException) as error:  # a reset connection, for one
            self.trouble.append(f"{type(error).__name__}: {error}")
        finally:
            self.client.close()

    def _round(self, path: str, fought_for: bool) -> None:
        granted = self._timed("LOCK", lambda: lock(self.client, path, timeout="Second-300"))
        if fought_for and granted.status == 423:
            return
        if not granted.ok:
            self.trouble.append(f"LOCK {path}: {granted.status} {granted.body[-300:]!r}")
            return
        token = granted.headers["lock-token"].strip("<>")
        put = self._timed("PUT", lambda: self.client.request("PUT", path, path.encode(), submit(self.client, path, token)))
        done = self._timed("UNLOCK", lambda: unlock(self.client, path, token))
        self.trouble += [f"{one.status} {one.body[-300:]!r}" for one in (put, done) if not one.ok]

    def _timed(self, name: str, send):
        began = time.monotonic()
        answer = send()
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.statuses[f"{name} {answer.status}"] += 1
        return answer


def _open_files(drive: DevCluster) -> list[int]:
    return [len(list(Path(f"/proc/{drive.pid(number)}/fd").iterdir())) for number in (1, 2, 3)]


def test_many_clients_lock_and_unlock_at_once(fresh: DevCluster) -> None:
    """No error, no lock and no file left behind, no connection reset; a lock that all want is granted to one at a time."""
    with fresh.client(1) as client:
        assert client.put("warm.txt", b"warm").ok
    before = _open_files(fresh)
    began = time.monotonic()
    lockers = [Locker(fresh, number, began + SECONDS) for number in range(CLIENTS)]
    for locker in lockers:
        locker.start()
    for locker in lockers:
        locker.join(SECONDS + 60)
        assert not locker.is_alive(), fresh.story("a client still waits for its answer")
    seconds = time.monotonic() - began
    total = sum((locker.statuses for locker in lockers), Counter())
    slowest = max(locker.slowest for locker in lockers)
    print(f"{CLIENTS} clients, {seconds:.1f} s: {dict(total)}, slowest answer {slowest:.2f} s, open files {before}")
    trouble = [text for locker in lockers for text in locker.trouble]
    assert not trouble, fresh.story(f"{len(trouble)} times: {trouble[:5]}")
    assert all(any(name.startswith("UNLOCK") for name in locker.statuses) for locker in lockers)
    assert total["LOCK 200"] + total["LOCK 201"] == total["UNLOCK 204"] == total["PUT 204"]
    assert json.loads(fresh.command("lock", "list", "--json").stdout) == []
    fresh.until("connections closed", lambda: all(a <= b + 40 for a, b in zip(_open_files(fresh), before, strict=True)), 20)
    assert fresh.stop() == 0
