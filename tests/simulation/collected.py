"""A calm cluster for tests of the collector, and what it stores."""

from __future__ import annotations

from typing import Any

import pytest

from davfs.cluster.collector import Report
from davfs.core.chunking import digest_of
from davfs.sim import cluster as sim_cluster
from davfs.sim.cluster import TIMING
from tests.simulation.stage import Stage

BODY = b"x" * 100  # three chunks of 40, 40 and 20 bytes
OTHER = bytes(range(100))
SMALL = b"small"
AGE_S = TIMING.grace + 1


class Collected(Stage):
    """A calm cluster whose collector runs only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int = 1, trash_days: int = 7) -> None:
        monkeypatch.setattr(sim_cluster, "COLLECT_EVERY_S", 1e9)
        monkeypatch.setattr(sim_cluster, "TRASH_DAYS", trash_days)
        super().__init__(seed)
        self.nodes = self.cluster.nodes

    def ok(self, *op: Any, node: str = "node-1") -> Any:
        outcome = self.ask(node, op).outcome
        assert outcome is not None
        assert outcome[0] == "ok", outcome
        return outcome[1]

    def wait(self, seconds: float) -> None:
        self.loop.run_until(lambda: False, seconds)

    def begin_run(self, node: str = "node-1", dry_run: bool = False) -> list[Report | BaseException]:
        """Start a run by the holder; the list gets its report or its error."""
        if not self.nodes[node].holdings.holders():
            self.ask(node, ("get", ("a",)))  # it takes the volume
        simulated = self.nodes[node]
        ended: list[Report | BaseException] = []
        (holder,) = simulated.holdings.holders()
        assert simulated.process is not None
        simulated.process.run(
            simulated.collector.collect(holder, dry_run),
            lambda report, error: ended.append(report if error is None else error),
            ("collect",),
        )
        return ended

    def run_collector(self, node: str = "node-1", dry_run: bool = False) -> Report:
        ended = self.begin_run(node, dry_run)
        assert self.loop.run_until(lambda: bool(ended), 60)
        assert isinstance(ended[0], Report), ended[0]
        return ended[0]

    def copies(self, body: bytes) -> int:
        return min(self.cluster.collected.copies(digest_of(body[at : at + 40])) for at in range(0, len(body), 40))

    def delay(self, method: str, seconds: float) -> None:
        self.cluster.network.extra_delay = lambda node, called: seconds if called == method else 0.0
