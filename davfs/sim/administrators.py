"""Administrators of a simulated cluster: machines join it, and nodes are drained and removed, while all else goes on.

A machine that was removed comes back under a new name alone, as one that joins. What is done has numbers and random
generators of its own, so that it changes nothing where nobody joins. May import only core and the simulator's own parts.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict
from random import Random
from typing import Any

from davfs.core.effects import Protocol_, Sleep
from davfs.core.errors import DavfsError
from davfs.core.model import NodeInfo
from davfs.sim.cluster import VOLUME_ID, SimCluster, SimNode

EVERY_S = 3.0
LOOK_S = 0.2
DRAIN_LIMIT_S = 20.0
REMOVE_LIMIT_S = 30.0
FEWEST, MOST = 3, 6


class Administrators:
    """``skip``: the numbers of what is left out. ``joined``, ``removed``, ``refused`` (removals): how many there were."""

    def __init__(self, cluster: SimCluster, skip: Container[int] = ()) -> None:
        self.joined = self.removed = self.refused = 0
        self._cluster = cluster
        self._skip = skip
        self._over = False
        self._made = len(cluster.names)
        self.numbers: list[int] = []

    def start(self) -> None:
        """Begin; ends with ``end``."""
        self._cluster.god.start(self._run(), "administrators")
        self._cluster.god.start(self._take_away(), "machines")

    def end(self) -> None:
        """Nobody begins anything new; who is about to leave stays, and who may join does."""
        self._over = True
        self._sweep()
        cluster = self._cluster
        for name in cluster.raft.state.membership.leaving:
            cluster.command("node_stay", name)

    def _run(self) -> Protocol_[None]:
        number = 0
        while not self._over:
            number += 1
            random = Random(f"{self._cluster.loop.seed} administrator {number}")  # noqa: S311  reproducible on purpose
            yield Sleep(random.expovariate(1 / EVERY_S))
            if -number in self._skip or not self._can_command():
                continue
            self._cluster.loop.note(f"administrator {number}")
            self.numbers.append(-number)
            count = len(self._cluster.names)
            if count >= MOST or (count > FEWEST and random.random() < 0.6):
                yield from self._remove(random)
            else:
                self._join(random)

    def _can_command(self) -> bool:
        raft = self._cluster.raft
        return not self._over and raft.reaches_majority(raft.leader)

    # --- joins ------------------------------------------------------------------------------------------------------

    def _join(self, random: Random) -> None:
        """`davfs node token` and `davfs join`: the machine is started some time later."""
        cluster = self._cluster
        self._made += 1
        self.joined += 1
        name, token = f"node-{self._made}", f"token {self._made}"
        cluster.loop.note(f"{name} joins")
        node = cluster.admit(name)
        cluster.command("token_add", token, 60.0)
        cluster.command("node_admit", token, asdict(NodeInfo(name, f"http://{name}", "", 1.0, node.disk.id)))
        cluster.loop.at(random.uniform(0.0, 3.0), lambda: self._begin(node))

    def _begin(self, node: SimNode) -> None:
        if self._cluster.nodes.get(node.name) is node and node.process is None:
            node.start()

    # --- removals ---------------------------------------------------------------------------------------------------

    def _remove(self, random: Random) -> Protocol_[None]:
        """Drain a node and remove it with the help of another. It may be down, or have been wiped."""
        cluster = self._cluster
        name = random.choice(cluster.names)
        if not (yield from self._drain(name, random)):
            return
        helpers = [node for node in cluster.nodes.values() if node.alive and node.name != name]
        process = random.choice(helpers).process if helpers else None
        if process is None or self._over:
            return
        cluster.loop.note(f"an administrator removes {name} with the help of {process.node}")
        ended: list[Any] = []
        service = cluster.nodes[process.node].service

        def told(value: Any, error: BaseException | None) -> None:
            if error is not None and not isinstance(error, DavfsError):
                cluster.loop.fail(f"the removal of {name} failed: {error!r}")
            cluster.loop.note(f"the removal of {name} ended: {value if error is None else error}")
            self.refused += error is not None
            ended.append(value)

        process.run(service.departure.remove(name, lambda: cluster.raft.members), told, ("remove", name))
        ends = cluster.loop.now + REMOVE_LIMIT_S
        while not ended and process.alive and cluster.loop.now < ends and not self._over:
            yield Sleep(LOOK_S)

    def _drain(self, name: str, random: Random) -> Protocol_[bool]:
        """Whether the volume's records are kept by others: if not, one of them is to take them over."""
        cluster, ends = self._cluster, self._cluster.loop.now + DRAIN_LIMIT_S
        while name in cluster.volume.replica_set.followed:
            table, state = cluster.volume.replica_set, cluster.raft.state
            others = [one for one in cluster.names if one in state.nodes and one not in table.nodes and one != name]
            if self._over or cluster.loop.now > ends:
                return False
            if table.change is None and name in table.nodes and self._can_command():
                if not others and len(table.nodes) <= FEWEST - 1:
                    return False
                add = random.choice(others) if others else ""
                cluster.loop.note(f"{name} is drained: {add or 'nobody'} takes its place")
                cluster.command("replicas_want", VOLUME_ID, add, name)
            yield Sleep(LOOK_S)
        return True

    def _take_away(self) -> Protocol_[None]:
        while True:
            self._sweep()
            yield Sleep(LOOK_S)

    def _sweep(self) -> None:
        """The machine of a node that was removed is switched off, in a while."""
        cluster = self._cluster
        for name in [one for one in cluster.names if one in cluster.raft.state.membership.removed]:
            self.removed += 1
            cluster.loop.note(f"{name} was removed")
            node = cluster.take_away(name)
            cluster.enough.removed(name)
            random = Random(f"{cluster.loop.seed} {name} goes")  # noqa: S311  reproducible on purpose
            cluster.loop.at(random.uniform(0.0, 15.0), lambda node=node: self._switch_off(node))  # type: ignore[misc]

    def _switch_off(self, node: SimNode) -> None:
        """Not before the command that removes it has returned, which is once Raft counts it no longer."""
        if node.name in self._cluster.raft.members.everyone:
            self._cluster.loop.at(LOOK_S, lambda: self._switch_off(node))
        else:
            node.crash()
