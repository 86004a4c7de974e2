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
from davfs.sim.history import Operation
from davfs.sim.loop import Loop, Process
from davfs.sim.model import CODES, Path

TOPS = ("x", "y")
NAMES = ("a", "b", "d")
KINDS = (
    "put", "put", "put", "put", "get", "get", "get", "get", "list", "mkcol", "mkcol", "delete", "move", "copy", "write",
    "write", "proppatch", "props",
)  # fmt: skip
PROPERTIES = ("p", "q")
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
        operation = Operation(client, op, self._time)
        self.operations.append(operation)
        self._loop.note(f"{client} asks {op}")
        return operation

    def end(self, operation: Operation, value: Any, error: DavfsError | None) -> None:
        """Record an answer. A refusal that tells nothing of the tree (too few nodes, a full disk) explains nothing, and must
        not have changed anything: it is left out, so that whatever it did would be a change that nobody asked for."""
        self._time += 1
        if error is None:
            operation.outcome = ("ok", _plain(value))
        elif isinstance(error, UNKNOWN):
            self._loop.note(f"{operation.client} does not know: {error.message}")
            return
        elif error.code not in CODES or (operation.op[0] == "write" and error.code == "precondition-failed"):
            self._loop.note(f"{operation.client} was refused: {error.message}")
            self.operations.remove(operation)
            self.refused += 1
            return
        else:
            operation.outcome = ("error", error.code)
        operation.ended = self._time
        self._loop.note(f"{operation.client} got {operation.outcome}")


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
        if kind in ("move", "copy"):
            target = self._path(top if random.random() < 0.8 else random.choice(TOPS))
            shorter = min(len(path), len(target))
            if path[:shorter] == target[:shorter]:
                return "get", path
            return kind, path, target, random.random() < 0.7
        if kind == "write":
            self._made += 1
            part = f"<{self.name}/{self._made}>".encode()
            length = random.choice((len(part), CHUNK_SIZE + 20)) if random.random() < 0.2 else len(part)
            return "write", path, random.choice((0, 4, CHUNK_SIZE - 5, CHUNK_SIZE + 1)), part.ljust(length, b"=")
        if kind == "proppatch":
            self._made += 1
            value = f"{self.name}.{self._made}" if random.random() < 0.8 else None
            return "proppatch", path, random.choice(PROPERTIES), value
        return kind, path

    def _path(self, top: str) -> Path:
        random = self._cluster.loop.random
        return (top, "d", random.choice("ab")) if random.random() < 0.4 else (top, random.choice(NAMES))


def _no_raft(process: Process, command: tuple[Any, ...], timeout: float, done: Callable[..., None]) -> None:
    raise RuntimeError("a client has no part in Raft")


def _plain(value: Any) -> Any:
    """A value as it was before it crossed the network."""
    return tuple(_plain(one) for one in value) if isinstance(value, list | tuple) else value
