"""An exclusive volume under faults: while a session lives no other is served, and when it is over another gets in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from davfs.cluster import entering
from davfs.core.cluster_state import ClusterState
from davfs.core.effects import Call, Protocol_, Sleep
from davfs.core.errors import DavfsError, VolumeHeld
from davfs.sim.cluster import TIMING, SimCluster
from davfs.sim.faults import Faults, Troubles
from davfs.sim.loop import Loop, Process

CLIENTS = ("ann", "ben", "cleo")
SURE_S = 0.9 * TIMING.idle
"""A session lives at least so long after an answer: clocks differ by a few percent."""

ENOUGH = 12
SEEDS = 8


class ExclusiveSimulation:
    """Clients that work for a while and rest for longer, each a session of its own."""

    def __init__(self, seed: int) -> None:
        self.loop = Loop(seed)
        self.cluster = SimCluster(self.loop, mode="exclusive")
        self.faults = Faults(self.cluster, Troubles(every_s=4.0))
        self.turns = dict.fromkeys(CLIENTS, 0)
        self.refused = 0
        self._in: tuple[str, float] | None = None  # who was served last, and when it had asked: it was served later than that
        self._changes = 0

    def run(self) -> list[str]:
        loop = self.loop
        loop.run_until(lambda: all(self.cluster.registered(name) for name in self.cluster.names), 10.0)
        world = self._process("world")
        world.start(self.faults.run(), "faults")
        for name in CLIENTS:
            process = self._process(name)
            process.start(self._work(name), name)
        if not loop.run_until(lambda: self._changes >= ENOUGH, 1500.0):
            loop.fail(f"the volume went from one session to another only {self._changes} times: {self.turns}")
        return loop.failures

    def _process(self, name: str) -> Process:
        def no_raft(process: Process, command: tuple[Any, ...], timeout: float, done: Callable[..., None]) -> None:
            raise RuntimeError("a client has no part in Raft")

        return Process(self.loop, name, self.cluster.network.call, no_raft)

    def _work(self, name: str) -> Protocol_[None]:
        random = self.loop.random
        while True:
            for _ in range(random.randint(1, 6)):
                yield from self._request(name)
                yield Sleep(random.uniform(0.0, 1.0))
            yield Sleep(random.uniform(0.0, 2 * TIMING.idle))

    def _request(self, name: str) -> Protocol_[None]:
        random, sent = self.loop.random, self.loop.now
        op = random.choice((["put", [name], name.encode()], ["list", []]))
        args = {"op": op, "id": random.randbytes(8).hex(), "forwarded": False, "session": [name, "10.0.0.1", "sim"]}
        before = self._in
        try:
            yield Call(random.choice(self.cluster.names), "dav", args, timeout=14.0)
        except VolumeHeld:
            self.refused += 1
        except DavfsError:
            pass
        else:
            # The other was answered before this was sent, and its session still lived when this was answered.
            if before is not None and before[0] != name:
                if self.loop.now < before[1] + SURE_S:
                    self.loop.fail(f"{name} was served at {self.loop.now:.2f}, and {before[0]} had asked at {before[1]:.2f}")
                self._changes += 1
            self.turns[name] += 1
            self._in = (name, sent)


def test_one_session_at_a_time() -> None:
    for seed in range(SEEDS):
        simulation = ExclusiveSimulation(seed)
        failures = simulation.run()
        print(f"seed {seed}: {simulation.turns}, {simulation.refused} refused, {simulation.faults.count} faults, "
              f"{simulation.loop.now:.0f} s")
        assert not failures, f"seed {seed}: {failures}"
        assert simulation.refused


def claim_lost_at_a_takeover(patch: pytest.MonkeyPatch) -> None:
    original = ClusterState._do_assign

    def assign(self, volume_id, *arguments):
        from dataclasses import replace

        self._replace(replace(self.volume(volume_id), session=None))
        return original(self, volume_id, *arguments)

    patch.setattr(ClusterState, "_do_assign", assign)


def nobody_claims(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(entering, "EXCLUSIVE", "never")


@pytest.mark.parametrize("mutant", [claim_lost_at_a_takeover, nobody_claims])
def test_wrong_claims_are_found(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    assert any(ExclusiveSimulation(seed).run() for seed in range(SEEDS)), f"{mutant.__name__} was found by no seed"
