"""``python -m tests.scale.group_commit``: what many clients' records share, on three real nodes.

N clients write new small files through the holder, each as fast as it is answered. For each N: files a second, the time of
one, and how many records a sync of the holder and of the others carried. A replica syncs once for each request with records
that reaches it, so records a sync are records a round trip too. Syncs are counted by perf, which slows nothing (needs root).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.integration.fencing.drive import cpu_seconds
from tests.scale.nodes import databases
from tests.support.cluster import DevCluster
from tests.support.tools import require_tool

VOLUME = "group"
BODY = b"x" * 1000
WARM_S = 1.0
HEAD = (
    "| clients | files a second | ms for one: median (p95) | records a sync: holder | others"
    " | CPU ms a record: holder | others |\n| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


class Client(threading.Thread):
    """PUTs one small file after the other on one connection; ``taken`` are seconds of those that began after ``since``."""

    def __init__(self, port: int, number: int, since: float, until: float) -> None:
        super().__init__(daemon=True)
        self.taken: list[float] = []
        self.failures: list[bytes] = []
        self._port, self._number, self._since, self._until = port, number, since, until

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), 30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            turn = 0
            while (began := time.monotonic()) < self._until:
                turn += 1
                head = (
                    f"PUT /{VOLUME}/{self._since:.3f}-{self._number}-{turn} HTTP/1.1\r\n"
                    f"Host: 127.0.0.1\r\nContent-Length: {len(BODY)}\r\n\r\n"
                )
                connection.sendall(head.encode() + BODY)
                answer = connection.recv(65536)
                if not answer.startswith(b"HTTP/1.1 201 ") or b"\r\n\r\n" not in answer:
                    self.failures.append(answer)
                    return
                if began >= self._since:
                    self.taken.append(time.monotonic() - began)


class Syncs:
    """Counts a process's fdatasyncs from now until ``count``."""

    def __init__(self, pid: int) -> None:
        words = [require_tool("perf", "linux-perf"), "stat", "-x,", "-e", "syscalls:sys_enter_fdatasync", "-p", str(pid)]
        self._perf = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def count(self) -> int:
        self._perf.send_signal(signal.SIGINT)
        said = self._perf.communicate(timeout=10)[1]
        found = re.search(r"^(\d+),", said, re.MULTILINE)
        assert found, f"perf counted nothing: {said}"
        return int(found[1])


def measure(drive: DevCluster, holder: int, clients: int, seconds: float) -> str:
    """One line of the table."""
    database, pids = databases(drive)[holder - 1], [drive.pid(number) for number in range(1, drive.count + 1)]
    since = time.monotonic() + WARM_S
    threads = [Client(drive.port + holder - 1, n, since, since + seconds) for n in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(WARM_S)
    counted = [Syncs(pid) for pid in pids]
    time.sleep(0.1)  # until perf counts: what it takes
    first, cpu = _records(database), [cpu_seconds(pid) for pid in pids]
    time.sleep(seconds - 0.3)
    syncs = [one.count() for one in counted]
    records = _records(database) - first
    cpu = [cpu_seconds(pid) - old for pid, old in zip(pids, cpu, strict=True)]
    for thread in threads:
        thread.join(30)
    failures = [failure for thread in threads for failure in thread.failures]
    assert not failures, failures[:3]
    taken = sorted(took * 1e3 for thread in threads for took in thread.taken)
    own, own_cpu = syncs.pop(holder - 1), cpu.pop(holder - 1)
    return (
        f"| {clients} | {len(taken) / seconds:.0f} | {taken[len(taken) // 2]:.1f} ({taken[int(len(taken) * 0.95)]:.1f})"
        f" | {records / own:.2f} | {records / (sum(syncs) / len(syncs)):.2f}"
        f" | {own_cpu * 1e3 / records:.2f} | {sum(cpu) / len(cpu) * 1e3 / records:.2f} |"
    )


def _records(database: Path) -> int:
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        return int(db.execute("SELECT max(seq) FROM log").fetchone()[0])
    finally:
        db.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="1,2,4,8,16,32")
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="davfs-group-"))
    drive = DevCluster(directory / "drive", 3, (VOLUME,))
    load = os.getloadavg()[0]
    try:
        drive.start()
        holder = drive.holder()
        print(HEAD, flush=True)
        for clients in map(int, options.clients.split(",")):
            print(measure(drive, holder, clients, options.seconds), flush=True)
        print(f"\n{os.cpu_count()} CPUs, load average {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    finally:
        drive.destroy()
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
