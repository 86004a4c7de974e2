"""Whole requests, good, bad, one behind the other and cut in the middle, to a real drive of three nodes, over raw sockets.

``python -m tests.fuzz.drive [--seconds 60] [--seed 1] [--clients 8]``: no node ends, no answer is a 500, none takes more than a
second (but where two nodes look for each other), memory stays, a file that nobody was to touch is what it was, and nothing of
another volume is told.
"""

from __future__ import annotations

import argparse
import errno
import json
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzz import requests
from tests.fuzz.mutate import Mutator
from tests.fuzz.slow import resident
from tests.support.cluster import DevCluster

SECRET = b"another volume's words"
WITNESS = b"what nobody was to touch" * 1000
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
PATIENCE = 5.0
GROWTH = 120  # MiB: a first request of each kind loads what it needs


class Attack:
    """Clients in threads, each with its own seed; what they saw."""

    def __init__(self, ports: list[int], seed: int, clients: int) -> None:
        self.ports = ports
        self.over = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.problems: list[str] = []
        self.inputs = 0
        self.slowest = 0.0
        self._lock = threading.Lock()
        self.threads = [threading.Thread(target=self._client, args=(seed * 1000 + n,), daemon=True) for n in range(clients)]

    def run(self, seconds: float) -> None:
        for thread in self.threads:
            thread.start()
        time.sleep(seconds)
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE * 4)
            if thread.is_alive():
                self.problems.append("a client waits without end")

    def _client(self, seed: int) -> None:
        random = Random(seed)
        mutator = Mutator(seed, _request, (*requests.TOKENS,), 256 * 1024, intact=0.5)
        while not self.over.is_set():
            data = mutator.next()
            if random.random() < 0.1:
                data = data[: random.randrange(len(data) + 1)]
            try:
                self._send(random.choice(self.ports), data, random)
            except OSError as error:
                # It answered and closed before it had all: what is wrong in a head is not read to its end.
                if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
                    with self._lock:
                        self.problems.append(f"{error!r} for {data[:300]!r}")

    def _send(self, port: int, data: bytes, random: Random) -> None:
        began = time.monotonic()
        parts = []
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            sock.sendall(data)
            if random.random() < 0.1:
                return  # gone
            sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(1 << 20):
                parts.append(part)
        took, answer = time.monotonic() - began, b"".join(parts)
        found = [int(status) for status in STATUS.findall(answer)]
        with self._lock:
            self.inputs += 1
            self.statuses.update(found)
            self.slowest = max(self.slowest, took)
            if 500 in found or b"made a mistake" in answer:
                self.problems.append(f"500 for {data[:300]!r}")
            if SECRET in answer:
                self.problems.append(f"another volume was told for {data[:300]!r}")
            if took > PATIENCE:
                self.problems.append(f"{took:.1f} s for {data[:300]!r}")


def _request(random: Random) -> bytes:
    """As for the drive in memory; the real one has an account for whoever may do nothing to ``Other``."""
    return requests.make_request(random).replace(f"Bearer {requests.APP_PASSWORD}".encode(), AUTHORIZATION[0])


AUTHORIZATION = [b""]


def main() -> int:
    """Attack, then look at what is left."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.drive", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="davfs-fuzz-") as name:
        drive = DevCluster(Path(name) / "drive", 3, volumes=("demo", "Other", "witness"), users=("root:root",))
        drive.start()
        try:
            return attack(drive, asked.seconds, asked.seed, asked.clients)
        finally:
            drive.stop()


def attack(drive: DevCluster, seconds: float, seed: int, clients: int) -> int:
    """0 if the drive took it as it must."""
    for command in (["add", "anna", "--no-password", "--role", "demo=write"], ["app-password", "add", "anna", "--json"]):
        done = drive.command("user", *command)
        assert done.returncode == 0, done.stdout + done.stderr
    AUTHORIZATION[0] = b"Bearer " + json.loads(done.stdout)["app_password"].encode()
    for volume, body in (("witness", WITNESS), ("Other", SECRET)):
        with drive.client(1, volume, user="root:root") as client:
            assert client.put("secret.txt", body).ok
    pids = [drive.pid(number) for number in (1, 2, 3)]
    made = Attack([drive.port + n for n in range(3)], seed, clients)
    Attack(made.ports, seed + 1, clients).run(min(5.0, seconds / 4))  # what is loaded once is no growth
    before = [resident(pid) for pid in pids]
    made.run(seconds)
    problems = list(dict.fromkeys(made.problems))
    if [drive.living_pid(number) for number in (1, 2, 3)] != pids:
        problems.append("a node ended")
    after = [resident(pid) for pid in pids]
    for number in (1, 2, 3):
        if after[number - 1] - before[number - 1] > GROWTH:
            problems.append(f"node {number} has {after[number - 1]} MiB instead of {before[number - 1]}")
        with drive.client(number, "witness", user="root:root") as client:
            answer = client.get("secret.txt")
            if answer.body != WITNESS:
                problems.append(f"node {number} does not give the witness as it was: {answer.status}")
        with drive.client(number, "demo", user="root:root") as client:
            if not client.put(f"after-{number}", b"x").ok:
                problems.append(f"node {number} takes no file any more")
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(made.statuses.items()))
    print(f"{made.inputs} inputs, {made.inputs / seconds:.0f} a second, the slowest {made.slowest:.2f} s")
    print(f"memory: {before} -> {after} MiB")
    print(f"answers: {statuses}")
    for problem in problems[:40]:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
