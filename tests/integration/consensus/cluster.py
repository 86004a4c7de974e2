"""Raft members in one process over a network in memory that loses, repeats, delays and reorders frames on demand."""

from __future__ import annotations

import functools
import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgpack

from davfs.consensus.raft import RaftNode
from davfs.consensus.timing import RaftTiming
from davfs.core.ports import FrameNetwork
from davfs.storage.raft_journal import RaftJournal


class Ledger:
    """A state machine that remembers every command (request id, value) once, in order."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def apply(self, command: tuple[Any, ...]) -> Any:
        request, value = command
        return list(self.values).index(request) if request in self.values else self._new(request, value)

    def _new(self, request: str, value: Any) -> int:
        self.values[request] = value
        return len(self.values) - 1

    def has(self, requests: set[str]) -> bool:
        return requests <= self.values.keys()

    def dump(self) -> bytes:
        return bytes(msgpack.packb(list(self.values.items())))

    def load(self, data: bytes) -> None:
        self.values = dict(msgpack.unpackb(data))


class Hub:
    """The wires. Faults are probabilities a frame; ``cut`` holds (from, to) pairs that deliver nothing."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.drop = self.repeat = self.late = self.mangle = 0.0
        self.max_delay = 0.05
        self.cut: set[tuple[str, str]] = set()
        self.ports: dict[str, Callable[[str, bytes], None]] = {}
        self.delivered = 0
        self._queue: list[tuple[float, int, str, str, bytes]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._deliver_late, daemon=True)
        self._thread.start()

    def port(self, name: str) -> Port:
        return Port(self, name)

    def send(self, source: str, target: str, frame: bytes) -> bool:
        receive = self.ports.get(target)
        if receive is None or (source, target) in self.cut:
            return False
        with self._changed:
            faults = [self.random.random() < chance for chance in (self.drop, self.repeat, self.late, self.mangle)]
            delays = [self.random.random() * self.max_delay for _ in range(2)]
        drop, repeat, late, mangle = faults
        if drop:
            return True
        if mangle:
            frame = frame[: len(frame) // 2] + bytes([frame[len(frame) // 2] ^ 0x55]) + frame[len(frame) // 2 + 1 :]
        if late:
            self._later(delays[0], source, target, frame)
        else:
            self.delivered += 1
            receive(source, frame)
        if repeat:
            self._later(delays[1], source, target, frame)
        return True

    def close(self) -> None:
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join(5)

    def _later(self, delay: float, source: str, target: str, frame: bytes) -> None:
        with self._changed:
            heapq.heappush(self._queue, (time.monotonic() + delay, next(self._count), source, target, frame))
            self._changed.notify()

    def _deliver_late(self) -> None:
        while True:
            with self._changed:
                if not self._open:
                    return
                wait = self._queue[0][0] - time.monotonic() if self._queue else 1.0
                if wait > 0:
                    self._changed.wait(wait)
                    continue
                _, _, source, target, frame = heapq.heappop(self._queue)
            receive = self.ports.get(target)
            if receive is not None and (source, target) not in self.cut:
                receive(source, frame)


class Port:
    """One node's :class:`~davfs.core.ports.FrameNetwork`."""

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub, self._name = hub, name

    def start(self, receive: Callable[[str, bytes], None]) -> None:
        self._hub.ports[self._name] = receive

    def send(self, peer: str, frame: bytes) -> bool:
        return self._hub.send(self._name, peer, frame)

    def set_peers(self, peers: Iterable[str]) -> None:
        pass

    def close(self) -> None:
        self._hub.ports.pop(self._name, None)


class Cluster:
    """``size`` members with journals under ``directory``."""

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        timing: RaftTiming | None = None,
        seed: int = 0,
        network: Callable[[str], FrameNetwork] | None = None,
    ) -> None:
        self.directory = directory
        self.names = [f"node-{number}" for number in range(1, size + 1)]
        self.timing = timing or RaftTiming()
        self.hub = Hub(seed)
        self._network = network or self.hub.port
        self.machines: dict[str, Ledger] = {}
        self.nodes: dict[str, RaftNode] = {}
        self.leaders: dict[int, set[str]] = {}
        for name in self.names:
            self.start(name)

    def start(self, name: str, *, cautious: bool = False) -> RaftNode:
        """A member; one that is not among ``names`` is a newcomer, which knows those."""
        self.machines[name] = Ledger()
        store = RaftJournal(self.directory / name / "raft.db")
        network = self._network(name)
        node = RaftNode(name, self.names, store, self.machines[name], network, self.timing, cautious=cautious)
        node.on_leadership(lambda term, leads: self.leaders.setdefault(term, set()).add(name) if leads else None)
        self.nodes[name] = node
        return node

    def stop(self, name: str) -> None:
        """At once, without handing over: as a crash, but for what the operating system would keep anyway."""
        self.nodes.pop(name).close()

    def isolate(self, name: str) -> None:
        others = [other for other in self.names if other != name]
        self.hub.cut |= {(name, other) for other in others} | {(other, name) for other in others}

    def heal(self) -> None:
        self.hub.cut.clear()
        self.hub.drop = self.hub.repeat = self.hub.late = self.hub.mangle = 0.0

    def leader(self, timeout: float = 10.0) -> RaftNode:
        """The member that a majority of the running ones follows."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for node in self.nodes.values():
                followers = sum(other.leader == node.name for other in self.nodes.values())
                if node.is_leader and followers * 2 > len(self.names):
                    return node
            time.sleep(0.01)
        raise AssertionError("no leader in time")

    def settle(self, requests: Iterable[str], timeout: float = 10.0) -> None:
        """Wait until every running member has applied ``requests`` and all hold the same ledger."""
        wanted = set(requests)
        for name, node in self.nodes.items():
            machine = self.machines[name]
            if not node.wait_applied(functools.partial(machine.has, wanted), timeout):
                missing = {n: sorted(wanted - self.machines[n].values.keys())[:5] for n in self.nodes}
                at = {n: (one.applied_index, one.leader, one.is_leader) for n, one in self.nodes.items()}
                raise AssertionError(f"{name} does not apply everything; missing: {missing}; applied, leader: {at}")
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            ledgers = [list(self.machines[name].values.items()) for name in self.nodes]
            if all(ledger == ledgers[0] for ledger in ledgers):
                return
            time.sleep(0.02)
        raise AssertionError("the members' ledgers differ")

    def close(self) -> None:
        for node in list(self.nodes.values()):
            node.close()
        self.hub.close()
