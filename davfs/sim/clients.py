"""Simulated clients: a few operations on a few names through any node, and the history of what came of them.

The volume is cut into top directories; an operation stays in one, so that histories can be judged one by one
(linearizability is local, Herlihy and Wing, 1990). May import only core and the simulator's own parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from davfs.core.effects import Call, Protocol_, Reply, Sleep
from davfs.core.errors import CallTimeout, ConsensusUnavailable, DavfsError, OutcomeUnknown
from davfs.sim.cluster import CHUNK_SIZE, SimCluster
from davfs.sim.history import Operation, Path
from davfs.sim.loop import Loop, Process

TOPS = ("x", "y")
NAMES = ("a", "b", "d")
KINDS = ("put", "put", "put", "get", "get", "get", "list", "mkcol", "delete", "move")
PATIENCE_S = 14.0
UNKNOWN = (OutcomeUnknown, CallTimeout, ConsensusUnavailable)


class History:
    """What all clients saw. Times count its own events."""

    def __init__(self, loop: Loop) -> None:
        self.operations: list[Operation] = []
        self.refused = 0
        self.longest = 0.0
        self._loop = loop
        self._time = 0

    def begin(self, client: str, op: tuple[Any, ...]) -> Operation:
        self._time += 1
        operation = Operation(client, op[1][0], op, self._time)
        self.operations.append(operation)
        self._loop.note(f"{client} asks {op}")
        return operation

    def end(self, operation: Operation, value: Any, error: DavfsError | None) -> None:
        """Record an answer. A definite refusal for want of nodes has changed nothing, so it explains nothing."""
        self._time += 1
        if error is None:
            operation.outcome = ("ok", tuple(value) if isinstance(value, list) else value)
        elif isinstance(error, UNKNOWN):
            self._loop.note(f"{operation.client} does not know: {error.message}")
            return
        elif error.status == OutcomeUnknown.status:
            self._loop.note(f"{operation.client} was refused: {error.message}")
            self.operations.remove(operation)
            self.refused += 1
            return
        else:
            operation.outcome = ("error", error.code)
        operation.ended = self._time
        self._loop.note(f"{operation.client} got {operation.outcome}")

    def of(self, component: str) -> list[Operation]:
        return [operation for operation in self.operations if operation.component == component]


class Client:
    """One client, on a machine of its own that never fails."""

    def __init__(self, cluster: SimCluster, history: History, name: str) -> None:
        self.name = name
        self.done = False
        self._cluster = cluster
        self._history = history
        self._made = 0
        self.process = Process(cluster.loop, name, cluster.network.call, _no_raft)
        self._node = cluster.loop.random.choice(cluster.names)

    def work(self, count: int, think_s: float) -> Protocol_[None]:
        """Do so many random operations, one after the other."""
        random = self._cluster.loop.random
        for _ in range(count):
            yield Sleep(random.uniform(0.0, 2 * think_s))
            yield from self.request(self._choose())
        self.done = True

    def request(self, op: tuple[Any, ...], deadline: float = PATIENCE_S) -> Protocol_[Operation]:
        """One operation through this client's node; after a failure it goes to another."""
        random = self._cluster.loop.random
        if random.random() < 0.3:
            self._node = random.choice(self._cluster.names)
        operation = self._history.begin(self.name, op)
        args = {"op": list(op), "id": random.randbytes(8).hex(), "forwarded": False}
        try:
            reply: Reply = yield Call(self._node, "dav", args, timeout=deadline)
        except DavfsError as error:
            if error.status == OutcomeUnknown.status:
                self._node = random.choice(self._cluster.names)
            self._history.end(operation, None, error)
        else:
            self._history.end(operation, reply.value, None)
        return operation

    def _choose(self) -> tuple[Any, ...]:
        random = self._cluster.loop.random
        top = random.choice(TOPS)
        kind = random.choice(KINDS)
        path = self._path(top)
        if kind == "list":
            return "list", path[:-1]
        if kind == "put":
            self._made += 1
            content = f"{self.name}.{self._made}.".encode()
            return "put", path, content.ljust(random.choice((len(content), CHUNK_SIZE, 2 * CHUNK_SIZE + 7)), b"-")
        if kind == "move":
            target = self._path(top)
            shorter = min(len(path), len(target))
            if path[:shorter] == target[:shorter]:
                return "get", path
            return "move", path, target, random.random() < 0.7
        return kind, path

    def _path(self, top: str) -> Path:
        random = self._cluster.loop.random
        return (top, "d", random.choice("ab")) if random.random() < 0.4 else (top, random.choice(NAMES))


def _no_raft(process: Process, command: tuple[Any, ...], timeout: float, done: Callable[..., None]) -> None:
    raise RuntimeError("a client has no part in Raft")
