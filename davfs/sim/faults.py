"""Faults of a simulation: nodes crash and pause, links break, messages are lost, repeated and late. All end at last.

What happens to disks is in ``disk_faults.py``. Each fault has a number and a random generator of its own, so that leaving
one out (``skip``) leaves the others as they were. What may happen, and why davfs must survive it: docs/simulator.md.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, fields
from random import Random

from davfs.core.effects import Protocol_, Sleep
from davfs.sim.cluster import VOLUME_ID, SimCluster, SimNode
from davfs.sim.disk_faults import DiskFaults
from davfs.sim.losses import Losses
from davfs.sim.network import Weather

DAY_S = 86_400.0


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
    power: int = 0  # a node loses power, and with it what was not synced
    power_all: int = 0
    one_way: int = 0  # messages get through in one direction only
    clock: int = 0  # the time of day is set to another
    rot: int = 0  # a copy of a chunk is flipped, torn or lost
    fill: int = 0  # a disk is full for a while
    fail: int = 0  # a disk fails to write until the node is restarted
    wipe: int = 0  # a node loses its disk, or a part of it
    strike: float = 0.03  # how likely a node is hit just as its disk has kept a seal or a record
    strike_step: float = 0.3  # how likely the holder is, just as Raft has taken a step of a change of replicas


KINDS = tuple(field.name for field in fields(Troubles) if field.name not in ("every_s", "strike", "strike_step"))


class Faults:
    """Makes trouble until it is told to stop, then heals everything. ``skip``: the numbers of faults that are left out."""

    def __init__(self, cluster: SimCluster, troubles: Troubles, skip: Container[int] = ()) -> None:
        self.count = 0
        self.kinds: dict[str, int] = {}  # how many there were of each
        self.numbers: list[int] = []  # of those that were made
        self.losses = Losses(cluster)
        self.disks = DiskFaults(cluster, self.losses, self._revive)
        self._cluster = cluster
        self.troubles = troubles
        self._skip = skip
        self._random = cluster.loop.random
        self._begun = False
        self._over = False
        self.changes = 0  # of replicas, that were done
        cluster.watch.on_durable = self._strike
        cluster.raft.on_append = self._strike_step
        cluster.collected.injured = self.losses.injured

    def run(self) -> Protocol_[None]:
        """The task; run it in a process that never fails."""
        troubles, loop, number = self.troubles, self._cluster.loop, 0
        self._begun = True
        weights = [getattr(troubles, kind) for kind in KINDS]
        while not self._over:
            random = Random(f"{loop.seed} fault {number}")  # noqa: S311  reproducible on purpose
            yield Sleep(random.expovariate(1 / troubles.every_s))
            kind = random.choices(KINDS, weights)[0]
            if not self._over:
                self._happen(number, kind, random)
            number += 1

    def _happen(self, number: int, kind: str, random: Random) -> None:
        if number in self._skip:
            return
        self._cluster.loop.note(f"fault {number}: {kind}")
        self._made(kind)
        self.numbers.append(number)
        self._random = random
        getattr(self, f"_{kind}")()
        self._random = self._cluster.loop.random

    def _made(self, kind: str) -> None:
        self.count += 1
        self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def heal(self) -> None:
        """End all faults at once."""
        self._over = True
        self._cluster.loop.note("all faults end")
        self._cluster.network.heal()
        self._cluster.network.weather = Weather()
        self._cluster.raft.late = self._cluster.raft.twice = 0.0
        self._cluster.raft.lag = 0.005
        self.disks.heal()
        for node in self._cluster.nodes.values():
            self._revive(node)

    def open(self) -> list[str]:
        """What faults took and davfs has not made good yet."""
        return self.losses.open()

    def _revive(self, node: SimNode) -> None:
        if self._cluster.nodes.get(node.name) is not node:
            return  # it was removed from the cluster
        if not node.alive:
            if not self.disks.is_away(node.name):  # it comes back when it is let in again
                node.start()
        elif node.process is not None and node.process.paused:
            self._cluster.loop.note(f"{node.name} goes on")
            node.process.resume()

    def _later(self, low: float, high: float, node: SimNode) -> None:
        self._cluster.loop.at(self._random.uniform(low, high), lambda: self._revive(node))

    def _strike(self, node: str) -> None:
        """The moments between "it is on this disk" and "others know" are where protocols break."""
        random = self._cluster.loop.random
        if not self._begun or self._over or random.random() >= self.troubles.strike:
            return
        self._made("strike")
        hits: list[Callable[[SimNode], None]] = [self._crash, self._pause, self._isolate]
        hit = random.choice([*hits, self._power] if self.troubles.power else hits)
        if node in self._cluster.nodes:
            self._cluster.loop.at(random.uniform(0.0, 0.004), lambda: hit(self._cluster.nodes[node]))

    def _strike_step(self, verb: str) -> None:
        """The same for the steps of a change of replicas, which only the holder takes."""
        if verb not in ("replicas_join", "replicas_done"):
            return
        self.changes += verb == "replicas_done" and self._cluster.volume.replica_set.change is None
        random, grant = self._cluster.loop.random, self._cluster.volume.tenure.grant
        if not self._begun or self._over or grant is None or random.random() >= self.troubles.strike_step:
            return
        self._made("strike")
        hit = random.choice((self._crash, self._pause, self._isolate))
        if (holder := self._cluster.nodes.get(grant.address)) is not None:
            self._cluster.loop.at(random.uniform(0.0, 0.1), lambda: hit(holder))

    def _replace(self) -> None:
        """An administrator wants another set of replicas, or thinks better of it."""
        random, cluster = self._random, self._cluster
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
        random, cluster = self._random, self._cluster
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

    def _power(self, node: SimNode | None = None) -> None:
        node = node or self._victim()
        if not self._over:
            node.lose_power(self._random)
            self._later(0.05, 5.0, node)

    def _power_all(self) -> None:
        for node in self._cluster.nodes.values():
            self._power(node)

    def _pause(self, node: SimNode | None = None) -> None:
        node = node or self._victim()
        if node.process is not None and node.alive and not self._over:
            self._cluster.loop.note(f"{node.name} is paused")
            node.process.pause()
            self._later(0.1, 9.0, node)

    def _cut(self) -> None:
        random, cluster = self._random, self._cluster
        if random.random() < 0.5:
            self._isolate(self._victim())
            return
        one, other = random.sample(cluster.names, 2)
        cluster.loop.note(f"{one} and {other} are cut off from each other")
        cluster.network.cut(one, other)
        cluster.loop.at(random.uniform(0.3, 9.0), cluster.network.heal)

    def _one_way(self) -> None:
        """What one node sends to another, or to all, or what it is sent, is lost."""
        random, cluster = self._random, self._cluster
        node = self._victim().name
        others = [name for name in cluster.names if name != node]
        others = others if random.random() < 0.5 else [random.choice(others)]
        out = random.random() < 0.5
        cluster.loop.note(f"nothing comes {'from' if out else 'to'} {node} {'to' if out else 'from'} {', '.join(others)}")
        for other in others:
            cluster.network.cut_one_way(*((node, other) if out else (other, node)))
        cluster.loop.at(random.uniform(0.3, 9.0), cluster.network.heal)

    def _clock(self) -> None:
        """Somebody sets the time of day of a node; nothing but dates shown to people may follow it."""
        random = self._random
        node = random.choice([*self._cluster.nodes.values()])
        node.wall_off = random.choice((0.0, random.uniform(-5.0, 5.0), random.uniform(-1.0, 1.0) * 20 * DAY_S))
        self._cluster.loop.note(f"{node.name}'s time of day is wrong by {node.wall_off:.1f} s")

    # --- disks ------------------------------------------------------------------------------------------------------

    def _rot(self) -> None:
        self.disks.rot(self._random)

    def _fill(self) -> None:
        self.disks.fill(self._random)

    def _fail(self) -> None:
        self.disks.fail(self._victim(), self._random)

    def _wipe(self) -> None:
        self.disks.wipe(self._victim(), self._random)

    # --- the network ------------------------------------------------------------------------------------------------

    def _part(self) -> None:
        """The holder is cut off for much longer than its token lasts, and another may lead Raft."""
        cluster, random = self._cluster, self._random
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
        cluster.loop.at(self._random.uniform(low, high), cluster.network.heal)

    def _weather(self) -> None:
        random, cluster = self._random, self._cluster
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
