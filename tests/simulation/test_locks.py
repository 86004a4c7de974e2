"""Invariant 10 under faults: after LOCK is answered, nothing commits under it without its token until it ends.

Owners lock one file, read it, write it with their token or not, read it again and unlock; intruders write it all the
time without a token. What an owner reads while its lock lives may only be what it read first or wrote itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from davfs.cluster import tree
from davfs.cluster.gates import Gates
from davfs.core.cluster_state import ClusterState
from davfs.core.effects import Call, Protocol_, Reply, Sleep
from davfs.core.errors import DavfsError, Locked, LockTokenMismatch, NotFound
from davfs.sim.cluster import VOLUME_ID, SimCluster
from davfs.sim.faults import Faults, Troubles
from davfs.sim.loop import Loop, Process
from davfs.sim.network import Weather

FILE = ["f"]
TIMEOUT_S = 40
TRUSTED_S = 34.0
"""An owner believes in its lock for less than its time: clocks differ by a few percent, and requests take theirs."""

ENOUGH = 20
SEEDS = 8
MUTANT_SEEDS = 12


class LockSimulation:
    """A cluster under trouble, three owners and four intruders. ``weather``: to begin with."""

    def __init__(self, seed: int, weather: Weather | None = None) -> None:
        self.loop = Loop(seed)
        self.cluster = SimCluster(self.loop)
        self.faults = Faults(self.cluster, Troubles(every_s=2.5))
        self._weather = weather
        self.left = 3
        self.judged = self.intrusions = self.refusals = 0

    def run(self) -> list[str]:
        loop = self.loop
        loop.run_until(lambda: all(self.cluster.registered(name) for name in self.cluster.names), 10.0)
        if self._weather is not None:
            self.cluster.network.weather = self._weather
        world = self._process("world")
        world.start(self.faults.run(), "faults")
        for number in range(3):
            process = self._process(f"owner-{number}")
            process.start(self._own(process), process.node)
        for number in range(4):
            process = self._process(f"intruder-{number}")
            process.start(self._intrude(process), process.node)
        if not loop.run_until(lambda: not self.left, 4000.0):
            loop.fail("the owners did not come to an end")
        self.faults.heal()
        # A lock whose owner never learned of it ends by its time, which every new Raft leader counts anew.
        if not loop.run_until(self._no_locks, 50 * TIMEOUT_S):
            loop.fail("locks are left although their time is over")
        return loop.failures

    def _no_locks(self) -> bool:
        volumes = [node.state.volumes.get(VOLUME_ID) for node in self.cluster.nodes.values()]
        return all(volume is not None and not volume.locks for volume in volumes)

    def _process(self, name: str) -> Process:
        def no_raft(process: Process, command: tuple[Any, ...], timeout: float, done: Callable[..., None]) -> None:
            raise RuntimeError("a client has no part in Raft")

        return Process(self.loop, name, self.cluster.network.call, no_raft)

    def _ask(self, *op: Any, tokens: tuple[str, ...] = ()) -> Protocol_[Any]:
        random = self.loop.random
        args = {"op": list(op), "id": random.randbytes(8).hex(), "forwarded": False, "tokens": list(tokens)}
        reply: Reply = yield Call(random.choice(self.cluster.names), "dav", args, timeout=14.0)
        return reply.value

    def _own(self, process: Process) -> Protocol_[None]:
        random = self.loop.random
        for episode in range(100):
            if self.judged >= ENOUGH:
                break
            token = f"{process.node}/{episode}"
            began = self.loop.now
            try:
                yield from self._ask("lock", FILE, token, TIMEOUT_S)
            except DavfsError:
                yield Sleep(random.uniform(0.05, 0.5))
                continue
            allowed = {(yield from self._read(began))}
            if random.random() < 0.5:
                content = token.encode()
                try:
                    yield from self._ask("put", FILE, content, tokens=(token,))
                    allowed = {content}
                except (Locked, LockTokenMismatch) as error:
                    if self.loop.now - began < TRUSTED_S:
                        self.loop.fail(f"invariant 10: {token} was refused under its own lock: {error.message}")
                except DavfsError:
                    allowed.add(content)
            yield Sleep(random.uniform(0.0, 1.0))
            seen = yield from self._read(began)
            if self.loop.now - began < TRUSTED_S and None not in allowed and seen is not None:
                self.judged += 1
                if seen not in allowed:
                    self.loop.fail(f"invariant 10: under {token} the file changed from {allowed} to {seen!r}")
            yield from self._unlock(token, began)
            yield Sleep(random.uniform(0.0, 1.0))
        self.left -= 1

    def _unlock(self, token: str, began: float) -> Protocol_[None]:
        while self.loop.now - began < TIMEOUT_S:
            try:
                yield from self._ask("unlock", FILE, token)
            except LockTokenMismatch:
                return  # an earlier try has done it
            except DavfsError:
                yield Sleep(0.5)
            else:
                return

    def _read(self, began: float) -> Protocol_[bytes | None]:
        """What is in the file; None when nobody could tell in time."""
        while self.loop.now - began < TRUSTED_S:
            try:
                content: bytes = yield from self._ask("get", FILE)
            except NotFound:
                return b""
            except DavfsError:
                yield Sleep(0.2)
            else:
                return content
        return None

    def _intrude(self, process: Process) -> Protocol_[None]:
        random = self.loop.random
        count = 0
        while self.left:
            count += 1
            try:
                yield from self._ask("put", FILE, f"{process.node}/{count}".encode())
                self.intrusions += 1
            except Locked:
                self.refusals += 1
            except DavfsError:
                pass
            yield Sleep(random.uniform(0.0, 0.3))


def test_nothing_slips_under_a_lock() -> None:
    judged = refusals = 0
    for seed in range(SEEDS):
        simulation = LockSimulation(seed)
        failures = simulation.run()
        print(f"seed {seed}: {simulation.judged} episodes, {simulation.intrusions} writes without a lock, "
              f"{simulation.refusals} refused, {simulation.faults.count} faults, {simulation.loop.now:.0f} s")
        assert not failures, f"seed {seed}: {failures}"
        judged += simulation.judged
        refusals += simulation.refusals
    assert judged > SEEDS * ENOUGH / 4, "too little happened"
    assert refusals > judged


def no_gate(patch: pytest.MonkeyPatch) -> None:
    """Changes and grants of locks do not wait for each other."""
    patch.setattr(Gates, "_is_first", lambda self, ticket: True)


def locks_forgotten_by_the_next_holder(patch: pytest.MonkeyPatch) -> None:
    """A takeover ends all locks."""
    original = ClusterState._do_assign

    def assign(self, volume_id, *arguments):
        from dataclasses import replace

        self._replace(replace(self.volume(volume_id), locks={}))
        return original(self, volume_id, *arguments)

    patch.setattr(ClusterState, "_do_assign", assign)


def locks_checked_only_before_the_body(patch: pytest.MonkeyPatch) -> None:
    """A PUT looks for locks when it begins, and not again at its end."""
    original = tree.require_unlocked

    def require_unlocked(all_locks, caller, path, *, membership, members):
        seen.setdefault(caller.request_id, list(all_locks))
        original(seen[caller.request_id], caller, path, membership=membership, members=members)

    seen: dict[str, Any] = {}
    patch.setattr(tree, "require_unlocked", require_unlocked)


@pytest.mark.parametrize("mutant", [no_gate, locks_forgotten_by_the_next_holder, locks_checked_only_before_the_body])
def test_wrong_locks_are_found(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    slow = Weather(slow=0.3, slow_delay=1.0)
    assert any(LockSimulation(seed, slow).run() for seed in range(MUTANT_SEEDS)), f"{mutant.__name__} was found by no seed"


def test_a_lock_that_is_asked_for_twice_is_one() -> None:
    """A request that is sent again finds the lock that it was granted, and its UNLOCK the answer that it had."""
    simulation = LockSimulation(1)
    loop, cluster = simulation.loop, simulation.cluster
    loop.run_until(lambda: all(cluster.registered(name) for name in cluster.names), 10.0)
    process = simulation._process("client")
    answers: list[Any] = []

    def send(op: list[Any], request: str, node: str) -> Protocol_[None]:
        args = {"op": op, "id": request, "forwarded": False}
        try:
            reply: Reply = yield Call(node, "dav", args, timeout=14.0)
        except DavfsError as error:
            answers.append(error.code)
        else:
            answers.append(reply.value)

    def all_of_them() -> Protocol_[None]:
        for request, node in (("one", "node-1"), ("one", "node-2"), ("two", "node-2")):
            yield from send(["lock", FILE, f"token-{request}", TIMEOUT_S], request, node)
        for request, node in (("three", "node-1"), ("three", "node-3"), ("four", "node-3")):
            yield from send(["unlock", FILE, "token-one"], request, node)

    process.start(all_of_them(), "client")
    assert loop.run_until(lambda: len(answers) == 6, 60.0)
    assert answers == [True, True, Locked.code, None, None, LockTokenMismatch.code]
