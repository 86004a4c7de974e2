"""What the conformance suite of Raft runs over: real members in one process, and the simulator's stand-in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from davfs.consensus.membership import Members
from davfs.consensus.timing import RaftTiming
from davfs.sim.loop import Loop, Process
from davfs.sim.network import Network, Weather
from davfs.sim.raft import Member, SimRaft
from tests.integration.consensus.cluster import Cluster, Ledger

SNAPSHOT_AFTER = 20
"""Commands after which a snapshot is made, in both."""

NAMES = ("node-1", "node-2", "node-3")


class World(Protocol):
    """Members ``node-1`` to ``node-3``, each with a ledger of (request, value) as its machine; newcomers know those."""

    def start(self, name: str) -> None: ...
    def crash(self, name: str) -> None: ...
    def isolate(self, name: str) -> None: ...
    def heal(self) -> None: ...
    def submit(self, name: str, request: str, value: Any, timeout: float = 5.0) -> Any:
        """The ledger's answer; ``ConsensusUnavailable`` when ``timeout`` (seconds of this world) has passed."""

    def reconfigure(self, name: str, before: Members, after: Members) -> bool: ...
    def ledger(self, name: str) -> dict[str, Any]: ...
    def members(self, name: str) -> Members: ...
    def leads(self, name: str) -> bool: ...
    def until(self, condition: Callable[[], bool], limit: float = 10.0) -> bool: ...
    def leaders(self) -> dict[int, set[str]]: ...
    def now(self) -> float: ...
    def close(self) -> None: ...


class RealWorld:
    """PySyncObj with davfs' journal, sessions and rules, over wires in memory."""

    def __init__(self, directory: Path) -> None:
        self._cluster = Cluster(directory, timing=RaftTiming(compact_entries=SNAPSHOT_AFTER))

    def start(self, name: str) -> None:
        self._cluster.start(name)

    def crash(self, name: str) -> None:
        self._cluster.stop(name)

    def isolate(self, name: str) -> None:
        self._cluster.isolate(name)

    def heal(self) -> None:
        self._cluster.heal()

    def submit(self, name: str, request: str, value: Any, timeout: float = 5.0) -> Any:
        return self._cluster.nodes[name].submit((request, value), timeout)

    def reconfigure(self, name: str, before: Members, after: Members) -> bool:
        return self._cluster.nodes[name].reconfigure(before, after, 3.0)

    def ledger(self, name: str) -> dict[str, Any]:
        return self._cluster.nodes[name].read(lambda: dict(self._cluster.machines[name].values))

    def members(self, name: str) -> Members:
        return self._cluster.nodes[name].members

    def leads(self, name: str) -> bool:
        return name in self._cluster.nodes and self._cluster.nodes[name].is_leader

    def until(self, condition: Callable[[], bool], limit: float = 10.0) -> bool:
        ends = time.monotonic() + limit
        while not condition():
            if time.monotonic() > ends:
                return False
            time.sleep(0.01)
        return True

    def leaders(self) -> dict[int, set[str]]:
        return self._cluster.leaders

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        self._cluster.close()


class SimulatedWorld:
    """The stand-in of ``davfs/sim/raft.py``, with every freedom that it takes."""

    def __init__(self, seed: int) -> None:
        self.loop = Loop(seed)
        self._network = Network(self.loop, Weather())
        self._raft = SimRaft(self.loop, self._network, NAMES, machine=Ledger, snapshots=SNAPSHOT_AFTER)
        self._members: dict[str, Member] = {}
        self._leaders: dict[int, set[str]] = {}
        for name in NAMES:
            self.start(name)

    def start(self, name: str) -> None:
        if name not in self._raft.members.everyone:
            self._raft.shut_out(name)
        process = Process(self.loop, name, self._network.call, lambda *_: None)
        self._network.processes[name] = process
        self._members[name] = self._raft.join(process)

    def crash(self, name: str) -> None:
        self._network.processes[name].crash()
        del self._members[name]

    def isolate(self, name: str) -> None:
        for other in self._network.processes:
            if other != name:
                self._network.cut(name, other)

    def heal(self) -> None:
        self._network.heal()

    def submit(self, name: str, request: str, value: Any, timeout: float = 5.0) -> Any:
        return self._wait(lambda done: self._members[name].submit((request, value), timeout, done), timeout + 1)

    def reconfigure(self, name: str, before: Members, after: Members) -> bool:
        return bool(self._wait(lambda done: self._members[name].reconfigure(before, after, done), 3.0))

    def _wait(self, begin: Callable[[Callable[[Any, BaseException | None], None]], None], limit: float) -> Any:
        ended: list[tuple[Any, BaseException | None]] = []
        begin(lambda value, error: ended.append((value, error)))
        assert self.until(lambda: bool(ended), limit), "nobody was told anything in time"
        value, error = ended[0]
        if error is not None:
            raise error
        return value

    def ledger(self, name: str) -> dict[str, Any]:
        return dict(self._members[name].state.values)

    def members(self, name: str) -> Members:
        return self._members[name].members

    def leads(self, name: str) -> bool:
        return name in self._members and self._members[name].is_leader

    def until(self, condition: Callable[[], bool], limit: float = 10.0) -> bool:
        def looked() -> bool:
            for name, member in self._members.items():
                if member.is_leader:
                    self._leaders.setdefault(member.term, set()).add(name)
            return condition()

        return self.loop.run_until(looked, limit)

    def leaders(self) -> dict[int, set[str]]:
        return self._leaders

    def now(self) -> float:
        return self.loop.now

    def close(self) -> None:
        assert self.loop.failures == []


def leader_of(world: World, names: Iterable[str] = NAMES) -> str:
    """The one of ``names`` that leads, once there is one."""
    found: list[str] = []

    def one() -> bool:
        found[:] = [name for name in names if world.leads(name)]
        return bool(found)

    assert world.until(one), "nobody leads"
    return found[0]
