"""Clients that send, or take, one byte a second; and what a PROPFIND beside them costs.

``python -m tests.fuzz.slow [--clients 500] [--samples 1000]``: on a real drive of three nodes, of each kind, through the holder
and through another node; the 50th and 99th percentile alone and beside them, and the node's memory.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import statistics
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

KINDS = ("silent", "head", "body", "reader")
LARGE = 8 << 20
PROPFIND = b'<D:propfind xmlns:D="DAV:"><D:prop><D:getetag/><D:getcontentlength/></D:prop></D:propfind>'


class SlowClients:
    """``count`` connections of one kind to a port of this machine, served by one thread; a context manager.

    ``head``: a head that never ends; ``body``: a PUT of a megabyte; ``reader``: a GET of ``/demo/large``; ``silent``: nothing.
    """

    def __init__(self, port: int, kind: str, count: int, every: float = 1.0) -> None:
        self._port = port
        self._kind = kind
        self._count = count
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._sockets: list[socket.socket] = []
        self.refused = 0
        self.ended = 0

    def __enter__(self) -> SlowClients:
        for number in range(self._count):
            try:
                self._sockets.append(self._connect(number))
            except OSError:
                self.refused += 1
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        for sock in self._sockets:
            sock.close()

    def _connect(self, number: int) -> socket.socket:
        sock = socket.socket()
        if self._kind == "reader":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(5)
        sock.connect(("127.0.0.1", self._port))
        if self._kind == "head":
            sock.sendall(b"GET /demo/ HTTP/1.1\r\nX: ")
        elif self._kind == "body":
            sock.sendall(b"PUT /demo/slow%d HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" % number)
        elif self._kind == "reader":
            sock.sendall(b"GET /demo/large HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.setblocking(False)
        return sock

    def _run(self) -> None:
        while not self._over.wait(self._every):
            for sock in self._sockets:
                with suppress(BlockingIOError):
                    try:
                        if self._kind in ("head", "body"):
                            sock.send(b"x")
                        elif self._kind == "reader":
                            sock.recv(1)
                    except OSError as error:
                        if isinstance(error, BlockingIOError):
                            raise
                        self.ended += 1


def propfinds(port: int, samples: int) -> list[float]:
    """Seconds of so many PROPFINDs of ``/demo/dir/``, one after the other on one connection; AssertionError for any but 207."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    times = []
    for _ in range(samples):
        began = time.perf_counter()
        connection.request("PROPFIND", "/demo/dir/", PROPFIND, {"Depth": "1"})
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - began)
        assert answer.status == 207, answer.status
    connection.close()
    return times


def settle(port: int, limit: float = 60.0) -> None:
    """Wait until all of them are there: each has cost what a client costs at first."""
    ends = time.monotonic() + limit
    time.sleep(1.0)
    while time.monotonic() < ends:
        began = time.monotonic()
        with suppress(AssertionError):
            propfinds(port, 20)
            if time.monotonic() - began < 0.5:
                return
    raise AssertionError(f"the drive is still busy with its slow clients after {limit:.0f} s")


def percentiles(times: list[float]) -> tuple[float, float]:
    """The 50th and the 99th, in milliseconds."""
    marks = statistics.quantiles(times, n=100)
    return marks[49] * 1000, marks[98] * 1000


def fill(port: int) -> None:
    """What is asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    small = [("PUT", f"/demo/dir/{number}", b"x" * 100) for number in range(20)]
    for method, path, body in [("MKCOL", "/demo/dir/", None), *small, ("PUT", "/demo/large", bytes(LARGE))]:
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (201, 204), (method, path, answer.status)
    connection.close()


def resident(pid: int) -> int:
    """MiB that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 >> 20


def main() -> int:
    """Measure, and print a table."""
    from tests.support.cluster import DevCluster

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.slow", description=__doc__)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--kind", action="append", choices=KINDS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="davfs-slow-") as name:
        drive = DevCluster(Path(name) / "drive", 3)
        drive.start()
        try:
            holder = drive.holder()
            fill(drive.port + holder - 1)
            worst = 0.0
            columns = f"{'p50 alone':>10} {'beside':>8} {'p99 alone':>10} {'beside':>8} {'MiB':>6} {'beside':>7}"
            print(f"{'kind':<8} {'node':<7} {columns}  cut")
            for kind in asked.kind or KINDS:
                for where in ("holder", "other"):
                    number = holder if where == "holder" else holder % 3 + 1
                    port, pid = drive.port + number - 1, drive.pid(number)
                    propfinds(port, 50)
                    before = resident(pid)
                    alone: list[float] = []
                    beside: list[float] = []
                    for _ in range(asked.rounds):  # by turns: the machine may have other things to do
                        alone += propfinds(port, asked.samples // asked.rounds)
                        with SlowClients(port, kind, asked.clients) as slow:
                            settle(port)
                            beside += propfinds(port, asked.samples // asked.rounds)
                            after = resident(pid)
                        settle(port)
                    (a50, a99), (b50, b99) = percentiles(alone), percentiles(beside)
                    worst = max(worst, b99 / a99)
                    print(
                        f"{kind:<8} {where:<7} {a50:>7.1f} ms {b50:>5.1f} ms {a99:>7.1f} ms {b99:>5.1f} ms {before:>6} "
                        f"{after:>7}  {slow.ended + slow.refused}", flush=True,
                    )  # fmt: skip
            print(f"the worst ratio of two 99th percentiles: {worst:.2f}")
            return 0 if worst <= 2 else 1
        finally:
            drive.stop()


if __name__ == "__main__":
    sys.exit(main())
