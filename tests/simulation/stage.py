"""A calm simulated cluster to play a history on, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from davfs.core.effects import Call
from davfs.core.errors import DavfsError
from davfs.sim.clients import Client, History
from davfs.sim.cluster import VOLUME_ID, SimCluster
from davfs.sim.history import Operation, judge
from davfs.sim.loop import Loop


class Stage:
    """A calm cluster, and requests through a chosen node."""

    def __init__(self, seed: int = 0, nodes: int = 3, replicas: int = 3, admits: bool = False) -> None:
        self.loop = Loop(seed)
        self.cluster = SimCluster(self.loop, nodes, replicas=replicas, admits=admits)
        self.history = History(self.loop)
        self.client = Client(self.cluster, self.history, "c")
        self.loop.run_until(lambda: all(self.cluster.registered(name) for name in self.cluster.names), 10)

    def begin(self, node: str, op: tuple[Any, ...]) -> list[Operation]:
        """Send a request; the list gets the operation once it is answered."""
        ended: list[Operation] = []

        def work():
            operation = self.history.begin("c", op)
            request = {"op": list(op), "id": self.loop.random.randbytes(8).hex(), "forwarded": False}
            self.cluster.network.call(self.client.process, call(node, request), done(operation))
            yield from ()

        def done(operation: Operation) -> Callable[[Any, BaseException | None], None]:
            def answered(reply: Any, error: BaseException | None) -> None:
                assert error is None or isinstance(error, DavfsError)
                self.history.end(operation, None if reply is None else reply.value, error)
                ended.append(operation)

            return answered

        self.client.process.start(work(), "request")
        return ended

    def ask(self, node: str, op: tuple[Any, ...]) -> Operation:
        ended = self.begin(node, op)
        assert self.loop.run_until(lambda: bool(ended), 30)
        return ended[0]

    def isolate(self, node: str) -> None:
        for name in self.cluster.names:
            if name != node:
                self.cluster.network.cut(node, name)

    def isolate_all_but(self, *nodes: str) -> None:
        """Only these still reach each other."""
        for one, other in itertools.combinations(self.cluster.names, 2):
            if one not in nodes or other not in nodes:
                self.cluster.network.cut(one, other)

    def wait(self, seconds: float) -> None:
        self.loop.run_until(lambda: False, seconds)

    def follow(self, node: str) -> None:
        """This node leads Raft, and the volume is nobody's as far as it knows: what it is asked next makes it the holder."""
        self.cluster.raft.leader = node
        state = self.cluster.nodes[node].state
        assert self.loop.run_until(lambda: state.volumes[VOLUME_ID].tenure.grant is None, 20)

    def failures(self) -> list[str]:
        """What the checkers find in what has happened so far."""
        return self.loop.failures + judge(self.history.operations)


def call(node: str, request: dict[str, Any]) -> Call:
    """A client's request to a node."""
    return Call(node, "dav", request, timeout=25.0)
