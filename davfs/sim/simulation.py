"""One simulation: a cluster, clients, faults, an end of all faults, and the verdict. A seed names exactly one."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from davfs.core import late
from davfs.core.effects import Protocol_, Sleep
from davfs.core.model import STRICT
from davfs.core.ports import ReplicaStore
from davfs.sim import garbage
from davfs.sim.administrators import Administrators
from davfs.sim.aftermath import LastScrub, check_copies_on_disk
from davfs.sim.checkers import caught_up, check_copies, check_history, check_kept, check_replicas, outcomes_of
from davfs.sim.clients import TOPS, Client, History
from davfs.sim.cluster import TIMING, VOLUME_ID, SimCluster
from davfs.sim.faults import Faults, Troubles
from davfs.sim.loop import Loop
from davfs.sim.network import Weather
from davfs.sim.schedule import Schedule

HEAL_LIMIT_S = 60.0


@dataclass(slots=True)
class Verdict:
    """What came of a simulation. No ``failures``: every invariant held."""

    seed: int
    failures: list[str]
    figures: dict[str, float]
    faults: dict[str, int] = field(default_factory=dict)  # how many there were of each kind
    numbers: list[int] = field(default_factory=list)  # of the faults that were made (``faults.py``)
    trace: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line."""
        figures = ", ".join(f"{name} {value:g}" for name, value in self.figures.items())
        return f"seed {self.seed}: {'FAILED' if self.failures else 'ok'} ({figures})"


class Simulation:
    """A cluster of ``nodes`` under trouble, with ``clients`` that do ``steps`` operations together."""

    def __init__(
        self, seed: int, steps: int = 80, nodes: int = 3, clients: int = 4, tracing: bool = False,
        troubles: Troubles | None = None, weather: Weather | None = None, replicas: int = 0,
        consistency: str = STRICT, trash_days: int | None = None, skip: Container[int] = (),
        members: bool = False,
    ) -> None:
        self.loop = Loop(seed, tracing)
        self.seed = seed
        self.cluster = SimCluster(
            self.loop, nodes, replicas=replicas, consistency=consistency, trash_days=trash_days, admits=members
        )
        self.strict = consistency == STRICT
        self.history = History(self.loop)
        self.clients = [Client(self.cluster, self.history, f"c{n}") for n in range(clients)]
        self.faults = Faults(self.cluster, troubles or Troubles(), skip)
        self.administrators = Administrators(self.cluster, skip) if members else None
        self.healed_after = 0.0
        self._steps = steps
        self._weather = weather  # to begin with, once the volume is there

    @classmethod
    def of(cls, plan: Schedule, tracing: bool = False) -> Simulation:
        """The simulation of a schedule."""
        return cls(
            plan.seed, plan.steps, plan.nodes, plan.clients, tracing, plan.troubles,
            replicas=plan.replicas, consistency=plan.consistency, trash_days=plan.trash_days, skip=plan.skip,
            members=plan.members,
        )  # fmt: skip

    def run(self) -> Verdict:
        """Run it all."""
        with garbage.scheduled(self.loop):
            return self._run()

    def _run(self) -> Verdict:
        loop = self.loop
        loop.run_until(lambda: all(self.cluster.registered(name) for name in self.cluster.names), 10.0)
        first = Client(self.cluster, self.history, "first")
        self._drive(first, self._make_tops(first), 60.0)
        if self._weather is not None:
            self.cluster.network.weather = self._weather
        self._work()
        self._settle()
        failures = [*loop.failures]
        if not failures:
            failures += check_history(self.history) if self.strict else check_kept(self.history, self._stores())
            failures += check_copies(self.history, self._stores())
            failures += check_replicas(self._stores())
            failures += check_copies_on_disk(self.cluster)
        history = [str(operation) for operation in self.history.operations]
        numbers = self.faults.numbers + (self.administrators.numbers if self.administrators is not None else [])
        return Verdict(
            self.seed, failures, self._figures(), self.faults.kinds, numbers, loop.trace, history
        )  # fmt: skip

    def go_on(self) -> list[str]:
        """After ``run``: as much again, under as many faults, and their end; what failed so far, but for the histories."""
        with garbage.scheduled(self.loop):
            self.faults = Faults(self.cluster, self.faults.troubles)
            for client in self.clients:
                client.done = False
            self._work()
            self._settle()
        return self.loop.failures

    def _work(self) -> None:
        """The clients work, among faults, until they are done; then the faults end."""
        self.cluster.god.start(self.faults.run(), "faults")
        if self.administrators is not None:
            self.administrators.start()
        for client in self.clients:
            client.process.start(client.work(self._steps // len(self.clients), 0.4), client.name)
        if not self.loop.run_until(lambda: all(client.done for client in self.clients), 30.0 * self._steps):
            self.loop.fail("the clients did not come to an end: some request was never answered")
        self.faults.heal()
        if self.administrators is not None:
            self.administrators.end()

    def _drive(self, client: Client, work: Protocol_[None], limit: float) -> None:
        client.done = False
        client.process.start(work, client.name)
        if not self.loop.run_until(lambda: client.done, limit):
            self.loop.fail(f"the client {client.name} did not come to an end")

    def _make_tops(self, client: Client) -> Protocol_[None]:
        for top in TOPS:
            while (operation := (yield from client.request(("mkcol", (top,))))).outcome is None:
                yield Sleep(0.2)
            if operation.outcome != ("ok", True):
                self.loop.fail(f"a healthy cluster refused to make /{top}")
        self.history.operations.clear()  # the model begins with them
        client.done = True

    def _settle(self) -> None:
        """Faults have ended: the volume serves again, everything is read back, and all replicas become the same."""
        loop, began = self.loop, self.loop.now
        reader = Client(self.cluster, self.history, "reader")
        self._drive(reader, self._until_served(reader), HEAL_LIMIT_S)
        self.healed_after = loop.now - began
        # Invariant 11: within 2 ttl, and what a call that began before may still take.
        if self.healed_after > 2 * TIMING.ttl + 4:
            loop.fail(f"invariant 11: the volume served again only {self.healed_after:.1f} s after the last fault")
        self._drive(reader, self._read_all(reader), HEAL_LIMIT_S)
        if not loop.run_until(self._all_vote, HEAL_LIMIT_S):
            loop.fail("a node whose disk was lost, or its replica, does not vote again after all faults ended")
        elif not loop.run_until(self._replicas_are_settled, HEAL_LIMIT_S):
            loop.fail("the change of replicas does not come to an end, or one that went keeps its store")
        elif not loop.run_until(lambda: caught_up(self._stores()), HEAL_LIMIT_S):
            loop.fail("invariant 5: the replicas do not become the same after all faults ended")
        elif not loop.run_until(self._nothing_is_late, HEAL_LIMIT_S):
            loop.fail("late records are not settled after all faults ended")
        elif not self._nothing_is_orphaned():
            loop.fail(f"chunks that nothing refers to are not collected: {self.cluster.collected.orphans()[:4]}")
        elif not loop.run_until(self._nothing_is_late, HEAL_LIMIT_S):  # the collectors may have opened epochs meanwhile
            loop.fail("invariant 5: the replicas do not become the same after the last collection")
        else:
            self._scrub()

    def _scrub(self) -> None:
        """Invariant 7: what was damaged or lost is there again after one scrub."""
        loop, last = self.loop, LastScrub(self.cluster)
        last.begin()
        if not loop.run_until(lambda: last.done, HEAL_LIMIT_S):
            loop.fail("invariant 7: the last scrub does not come to an end")
        elif lost := self.faults.open():
            loop.fail(f"invariant 7: what faults took was not made good: {'; '.join(lost)}")
        elif not loop.run_until(self._nothing_is_late, HEAL_LIMIT_S):  # somebody may have emptied the trash meanwhile
            loop.fail("invariant 5: the replicas do not become the same after the last scrub")

    def _until_served(self, reader: Client) -> Protocol_[None]:
        while (yield from reader.request(("list", (TOPS[0],)))).outcome is None:
            pass
        reader.done = True

    def _read_all(self, reader: Client) -> Protocol_[None]:
        for top in TOPS:
            for op in self._reads(top):
                while (yield from reader.request(op)).outcome is None:
                    self.loop.note("a node that came back late is not ready yet")
        reader.done = True

    @staticmethod
    def _reads(top: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield "list", (top,)
        yield "list", (top, "d")
        for name in ("a", "b", "d"):
            yield "get", (top, name)
            yield "list", (top, name)
            yield "props", (top, name)
        for middle in ("a", "b", "d"):
            for name in ("a", "b"):
                yield "get", (top, middle, name)

    def _all_vote(self) -> bool:
        """Whether every node votes in Raft, and every replica with the store that it has."""
        cluster, table = self.cluster, self.cluster.volume.replica_set
        stores = {name: node.stores.get(VOLUME_ID) for name, node in cluster.nodes.items()}
        current = {name: store.incarnation for name, store in stores.items() if store is not None}
        if not all(node.alive for node in cluster.nodes.values()):
            return False
        return set(cluster.raft.voters) == set(cluster.names) and all(
            current.get(name) == table.incarnations.get(name, "") for name in table.nodes
        )

    def _replicas_are_settled(self) -> bool:
        table = self.cluster.volume.replica_set
        keeping = {name for name, node in self.cluster.nodes.items() if node.stores}
        return table.change is None and keeping == set(table.nodes)

    def _nothing_is_orphaned(self) -> bool:
        """Whether the collectors take in time what nothing refers to (looked at now and then: it reads all indexes)."""
        ends = self.loop.now + HEAL_LIMIT_S
        while self.cluster.collected.orphans() and self.loop.now < ends:
            self.loop.run_until(lambda: False, 1.0)
        return not self.cluster.collected.orphans()

    def _nothing_is_late(self) -> bool:
        stores = self._stores()
        return not any(store.late for store in stores.values()) and caught_up(stores)

    def _stores(self) -> dict[str, ReplicaStore]:
        return {name: self.cluster.nodes[name].stores[VOLUME_ID] for name in self.cluster.volume.replicas}

    def _figures(self) -> dict[str, float]:
        operations = self.history.operations
        # A replica whose disk was lost and never filled again is a failure that was told already: it must not hide itself.
        nodes = [self.cluster.nodes[name] for name in self.cluster.volume.replicas]
        store = next(node.stores[VOLUME_ID] for node in nodes if VOLUME_ID in node.stores)
        return {
            "seconds": round(self.loop.now, 1),
            "events": self.loop.steps,
            "faults": self.faults.count,
            "wiped": self.faults.disks.wiped,
            "done": sum(o.ended is not None for o in operations),
            "unknown": sum(o.ended is None for o in operations),
            "refused": self.history.refused,
            "records": store.committed.seq,
            "epochs": store.committed.epoch.counter,
            "changes": self.faults.changes,
            "cuts": self.cluster.watch.cuts,
            "late": sum(outcome in (late.COPY, late.MERGED) for outcome in outcomes_of(store)),
            "dropped": sum(outcome == late.DROPPED for outcome in outcomes_of(store)),
            "alone": self.cluster.watch.taken_back,
            "snapshots": self.cluster.watch.installs,
            "collected": self.cluster.collected.removed,
            "joined": self.administrators.joined if self.administrators is not None else 0,
            "removed": self.administrators.removed if self.administrators is not None else 0,
            "healed": round(self.healed_after, 2),
        }
