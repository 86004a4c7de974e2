"""What the fencing tests see and do of a running drive: who holds and leads, signals, and PUTs that go on and on.

Asks nodes over node-to-node HTTP with a node's certificate, as the command line does, but without a process for each
question: faults are timed here.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Any

from compat.client import PROPFIND_NAMES, DavClient
from davfs.core.errors import DavfsError
from davfs.node.config import load_config
from davfs.rpc.client import RpcClient
from davfs.rpc.identity import load_identity
from tests.support.cluster import DevCluster

TTL = 5.0  # seconds, of the drives here: the default


def number_of(node: str) -> int:
    """3 of ``node-3``."""
    return int(node.rpartition("-")[2])


class Inside:
    """The nodes of a cluster, asked directly."""

    def __init__(self, cluster: DevCluster) -> None:
        self.cluster = cluster
        config = load_config(cluster.config(1))
        self.members = [member.name for member in config.cluster.nodes]
        addresses = {member.name: member.rpc for member in config.cluster.nodes}
        identity = load_identity(config.rpc.ca, config.rpc.cert, config.rpc.key)
        self.client = RpcClient(identity, addresses.__getitem__)

    def close(self) -> None:
        self.client.close()

    def ask(self, number: int, method: str, timeout: float = 3.0, **arguments: Any) -> Any:
        """One node's answer; the errors of davfs."""
        return self.client.call(f"node-{number}", method, arguments, timeout=timeout)[0]

    def leader(self) -> int:
        """The number of the node that leads Raft, once all that answer agree."""
        found: list[int] = []

        def agreed() -> bool:
            names = set()
            for name in self.members:
                with suppress(DavfsError):
                    names.add(self.ask(number_of(name), "node.status", 0.5)["leader"])
            found[:] = [number_of(name) for name in names if name]
            return len(names) == 1 and len(found) == 1

        self.cluster.until("one Raft leader", agreed, 15)
        return found[0]

    def terms(self) -> set[int]:
        """Raft's term on every node that answers."""
        return {self.ask(number_of(name), "node.status")["term"] for name in self.members}

    def settle(self) -> None:
        """Wait until every node serves the volume and all agree who leads."""
        numbers = [number_of(name) for name in self.members]
        self.cluster.until("every node to serve", lambda: all(is_served(self.cluster, n) for n in numbers), 40)
        self.leader()

    def holder(self, asked: int) -> int:
        """The number of the node that holds the first volume, made to hold it if nobody does."""
        with self.cluster.client(asked, timeout=20) as client:
            answer = client.put(".holder-wanted", b"")
            assert answer.ok, self.cluster.story(f"PUT was answered {answer.status}")
        holder = holder_now(self, asked)
        assert holder is not None, self.cluster.story("no holder although a write was just acknowledged")
        return holder


def holder_now(inside: Inside, asked: int) -> int | None:
    """The number of the node that holds the first volume, as one node knows it."""
    volumes = inside.ask(asked, "admin.status")["volumes"]
    (holder,) = [volume["holder"] for volume in volumes if volume["name"] == inside.cluster.volumes[0]]
    return number_of(holder) if holder else None


@contextmanager
def stopped(cluster: DevCluster, number: int) -> Iterator[int]:
    """SIGSTOP a node, SIGCONT it at the end; the pid."""
    pid = cluster.pid(number)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_served(cluster: DevCluster, number: int) -> bool:
    """Whether a node answers for the volume right now."""
    with cluster.client(number, timeout=8) as client:
        try:
            return client.request("PROPFIND", "", PROPFIND_NAMES, {"Depth": "0"}).status == 207
        except (OSError, HTTPException):
            return False


class Counter(threading.Thread):
    """Writes 1, 2, 3, ... into a file of its own, through nodes in turn as they fail, and remembers what was acknowledged.

    What is not answered 2xx is tried once more through the next node, as a patient client does. It may still be under way
    somewhere, so the file's name changes then: every read has a right answer, ``floor <= value <= ceiling``.
    """

    def __init__(self, cluster: DevCluster, nodes: Sequence[int], name: str, timeout: float = 30.0) -> None:
        super().__init__(name=f"counter-{name}", daemon=True)
        self.acknowledged: list[tuple[float, float]] = []
        """(began, ended) of every PUT that was answered 2xx, in monotonic seconds."""
        self.failed: list[str] = []
        self.failed_twice: list[str] = []
        self._cluster = cluster
        self._nodes = list(nodes)
        self._label = name
        self._timeout = timeout
        self._generation = 0
        self._current = (f"{name}-0.txt", 0, 0)  # replaced whole: readers see one state
        self._finals: dict[str, int] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        clients = [self._cluster.client(number, timeout=self._timeout) for number in self._nodes]
        turn = 0
        try:
            while not self._ended.is_set():
                first = self._write(clients[turn % len(clients)])
                if first:
                    turn += 1
                    self.failed.append(first)
                    if second := self._write(clients[turn % len(clients)]):
                        turn += 1
                        self.failed_twice.append(f"{first}; then {second}")
                        self._ended.wait(0.1)
                self._ended.wait(0.005)
        finally:
            for client in clients:
                client.close()

    def _write(self, client: DavClient) -> str:
        """"" when it was acknowledged, else what happened."""
        name, floor, ceiling = self._current
        self._current = (name, floor, ceiling + 1)
        began = time.monotonic()
        try:
            answer = client.put(name, str(ceiling + 1).encode())
            if answer.ok:
                self._current = (name, ceiling + 1, ceiling + 1)
                self._finals[name] = ceiling + 1
                self.acknowledged.append((began, time.monotonic()))
                return ""
            why = f"{answer.status} {answer.body[:200]!r}"
        except (OSError, HTTPException) as error:
            client.close()
            why = repr(error)
        self._generation += 1
        self._current = (f"{self._label}-{self._generation}.txt", 0, 0)
        return f"{client.url} after {time.monotonic() - began:.2f} s: {why}"

    def look(self, client: DavClient) -> str:
        """Read the file through a node: "" when it shows everything that was acknowledged before, else what is wrong."""
        name, floor, _ = self._current
        answer = client.get(name)
        if answer.status == 404:
            return "" if not floor else f"{name}: 404 after {floor} was acknowledged"
        if answer.status != 200:
            return ""  # not served right now: nothing stale was shown
        now_name, _, now_ceiling = self._current
        ceiling = now_ceiling if now_name == name else 1 << 40
        value = int(answer.body)
        return "" if floor <= value <= ceiling else f"{name}: {value} read, not within {floor} .. {ceiling}"

    def first_after(self, moment: float) -> float | None:
        """Seconds from ``moment`` to the end of the first acknowledged PUT that began after it."""
        return next((ended - moment for began, ended in list(self.acknowledged) if began > moment), None)

    def longest_gap(self, began: float, ended: float | None = None) -> float:
        """Seconds between two acknowledgements, from ``began`` on (to the last one, if there is no ``ended``)."""
        moments = [at for _, at in self.acknowledged if at > began and (ended is None or at < ended)]
        moments = [began, *moments, *([] if ended is None else [ended])]
        return max(later - earlier for earlier, later in pairwise(moments))

    def finish(self) -> None:
        self._ended.set()
        self.join(2 * self._timeout + 5)
        assert not self.is_alive(), "a PUT hangs"

    def judge(self, number: int) -> int:
        """Read everything back through a node: each file shows its last acknowledged number (or a later one that was tried)."""
        with self._cluster.client(number) as client:
            for name, last in self._finals.items():
                answer = client.get(name)
                assert answer.status == 200, f"{name}: {answer.status} although {last} was acknowledged"
                assert last <= int(answer.body) <= last + 1, f"{name}: {answer.body!r}, acknowledged {last}"
        return len(self.acknowledged)
