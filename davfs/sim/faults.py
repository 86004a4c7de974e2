"""Faults of a simulation: nodes crash and pause, links break, messages are lost, repeated and late. All end at last."""

from __future__ import annotations

from dataclasses import dataclass

from davfs.core.effects import Protocol_, Sleep
from davfs.sim.cluster import VOLUME_ID, SimCluster, SimNode
from davfs.sim.network import Weather


@dataclass(frozen=True, slots=True)
class Troubles:
    """How often (seconds between two, on average) and what, as weights."""

    every_s: float = 1.5
    crash: int = 4
    crash_all: int = 1
    pause: int = 4
    cut: int = 4
    part: int = 0  # a long cut around the holder
    weather: int = 4
    replace: int = 0  # a volume replica comes, goes, or takes the place of another
    strike: float = 0.03  # how likely a node is hit just as its disk has kept a seal or a record
    strike_step: float = 0.3  # how likely the holder is, just as Raft has taken a step of a change of replicas


class Faults:
    """Makes trouble until it is told to stop, then heals everything."""

    def __init__(self, cluster: SimCluster, troubles: Troubles) -> None:
        self.count = 0
        self._cluster = cluster
        self._troubles = troubles
        self._begun = False
        self._over = False
        self.changes = 0  # of replicas, that were done
        cluster.watch.on_durable = self._strike
        cluster.raft.on_append = self._strike_step

    def run(self) -> Protocol_[None]:
        """The task; run it in a process that never fails."""
        random, troubles = self._cluster.loop.random, self._troubles
        self._begun = True
        kinds = ("crash", "crash_all", "pause", "cut", "part", "weather", "replace")
        weights = [getattr(troubles, kind) for kind in kinds]
        while not self._over:
            yield Sleep(random.expovariate(1 / troubles.every_s))
            if not self._over:
                self.count += 1
                getattr(self, f"_{random.choices(kinds, weights)[0]}")()

    def heal(self) -> None:
        """End all faults at once."""
        self._over = True
        self._cluster.loop.note("all faults end")
        self._cluster.network.heal()
        self._cluster.network.weather = Weather()
        self._cluster.raft.late = self._cluster.raft.twice = 0.0
        self._cluster.raft.lag = 0.005
        for node in self._cluster.nodes.values():
            self._revive(node)

    def _revive(self, node: SimNode) -> None:
        if not node.alive:
            node.start()
        elif node.process is not None and node.process.paused:
            self._cluster.loop.note(f"{node.name} goes on")
            node.process.resume()

    def _later(self, low: float, high: float, node: SimNode) -> None:
        loop = self._cluster.loop
        loop.at(loop.random.uniform(low, high), lambda: self._revive(node))

    def _strike(self, node: str) -> None:
        """The moments between "it is on this disk" and "others know" are where protocols break."""
        random = self._cluster.loop.random
        if not self._begun or self._over or random.random() >= self._troubles.strike:
            return
        self.count += 1
        hit = random.choice((self._crash, self._pause, self._isolate))
        self._cluster.loop.at(random.uniform(0.0, 0.004), lambda: hit(self._cluster.nodes[node]))

    def _strike_step(self, verb: str) -> None:
        """The same for the steps of a change of replicas, which only the holder takes."""
        if verb not in ("replicas_join", "replicas_done"):
            return
        self.changes += verb == "replicas_done" and self._cluster.volume.replica_set.change is None
        random, grant = self._cluster.loop.random, self._cluster.volume.tenure.grant
        if not self._begun or self._over or grant is None or random.random() >= self._troubles.strike_step:
            return
        self.count += 1
        hit = random.choice((self._crash, self._pause, self._isolate))
        self._cluster.loop.at(random.uniform(0.0, 0.1), lambda: hit(self._cluster.nodes[grant.address]))

    def _replace(self) -> None:
        """An administrator wants another set of replicas, or thinks better of it."""
        random, cluster = self._cluster.loop.random, self._cluster
        table = cluster.volume.replica_set
        if not cluster.raft.reaches_majority(cluster.raft.leader):
            return
        if table.change is not None:
            if random.random() < 0.15:
                cluster.command("replicas_cancel", VOLUME_ID, table.version)
            return
        others = [name for name in cluster.names if name not in table.nodes]
        add = random.choice(others) if others and (len(table.nodes) < 3 or random.random() < 0.8) else ""
        remove = random.choice(table.nodes) if not add or (len(table.nodes) > 2 and random.random() < 0.7) else ""
        if remove and not add and len(table.nodes) == 1:
            return
        cluster.loop.note(f"wanted: {add or 'nobody'} in place of {remove or 'nobody'}")
        cluster.command("replicas_want", VOLUME_ID, add, remove)

    def _victim(self) -> SimNode:
        """Any node, but more often the one that holds the volume: nothing happens at the others."""
        random, cluster = self._cluster.loop.random, self._cluster
        serving = [node for node in cluster.nodes.values() if node.alive and node.holdings.held()]
        return random.choice(serving) if serving and random.random() < 0.6 else random.choice([*cluster.nodes.values()])

    def _crash(self, node: SimNode | None = None) -> None:
        node = node or self._victim()
        if self._over:
            return
        node.crash()
        self._later(0.05, 5.0, node)

    def _crash_all(self) -> None:
        for node in self._cluster.nodes.values():
            node.crash()
            self._later(0.05, 3.0, node)

    def _pause(self, node: SimNode | None = None) -> None:
        node = node or self._victim()
        if node.process is not None and node.alive and not self._over:
            self._cluster.loop.note(f"{node.name} is paused")
            node.process.pause()
            self._later(0.1, 9.0, node)

    def _cut(self) -> None:
        random, cluster = self._cluster.loop.random, self._cluster
        if random.random() < 0.5:
            self._isolate(self._victim())
            return
        one, other = random.sample(cluster.names, 2)
        cluster.loop.note(f"{one} and {other} are cut off from each other")
        cluster.network.cut(one, other)
        cluster.loop.at(random.uniform(0.3, 9.0), cluster.network.heal)

    def _part(self) -> None:
        """The holder is cut off for much longer than its token lasts, and another may lead Raft."""
        cluster, random = self._cluster, self._cluster.loop.random
        node = self._victim()
        others = [name for name in cluster.names if name != node.name]
        cluster.raft.leader = random.choice(others)
        self._isolate(node, 4.0, 10.0)

    def _isolate(self, node: SimNode, low: float = 0.3, high: float = 9.0) -> None:
        cluster = self._cluster
        if self._over:
            return
        cluster.loop.note(f"{node.name} is cut off from all others")
        for name in cluster.names:
            if name != node.name:
                cluster.network.cut(node.name, name)
        cluster.loop.at(cluster.loop.random.uniform(low, high), cluster.network.heal)

    def _weather(self) -> None:
        random, cluster = self._cluster.loop.random, self._cluster
        if random.random() < 0.4:
            cluster.network.weather = Weather()
            cluster.raft.late = cluster.raft.twice = 0.0
            cluster.raft.lag = 0.005
        else:
            cluster.network.weather = Weather(
                loss=random.choice((0.0, 0.02, 0.2)),
                repeat=random.choice((0.0, 0.1)),
                slow=random.choice((0.0, 0.02, 0.2)),
                delay=random.choice((0.002, 0.05)),
            )
            cluster.raft.late = random.choice((0.0, 0.1, 0.3))
            cluster.raft.twice = random.choice((0.0, 0.1))
            cluster.raft.lag = random.choice((0.005, 0.1, 0.5))
        cluster.loop.note(f"weather {cluster.network.weather}")
