"""Faults of disks: bytes flip, writes are torn, files vanish, disks fill up, fail, and are lost altogether.

Within the promise: what may be taken at the same time is for ``losses.py`` to say. A disk that is full or fails takes
nothing that it has acknowledged. May import only core and the simulator's own parts.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from davfs.core.effects import Protocol_, Sleep
from davfs.core.errors import CorruptData
from davfs.sim.cluster import VOLUME_ID, SimCluster, SimNode
from davfs.sim.losses import Losses

LOOK_S = 0.2


class DiskFaults:
    """What ``faults.py`` may do to disks. ``revive``: starts a node that is down, or lets one go on."""

    def __init__(self, cluster: SimCluster, losses: Losses, revive: Callable[[SimNode], None]) -> None:
        self._cluster = cluster
        self._losses = losses
        self._revive = revive
        self._away: set[str] = set()  # nodes whose disk is new and that are not let in again yet
        self._rotten = False
        self.wiped = 0  # disks, or parts of one, that were lost
        cluster.loop.excused = self._excused

    def _excused(self, context: tuple[Any, ...], failure: Exception) -> bool:
        """A damaged copy is called so by whoever reads it, once there is one."""
        return self._rotten and isinstance(failure, CorruptData) and str(context[0]).startswith("chunk.")

    def is_away(self, name: str) -> bool:
        """Whether a node waits for an administrator."""
        return name in self._away

    def heal(self) -> None:
        """Every disk has room again and works; whoever waits is let in as soon as Raft can do without it."""
        for node in self._cluster.nodes.values():
            node.disk.fill(False)
            if node.disk.failing:
                self._restart(node)

    # --- chunks -----------------------------------------------------------------------------------------------------

    def rot(self, random: Random) -> None:
        """Some copies on one disk are damaged or gone."""
        node = random.choice([*self._cluster.nodes.values()])
        digests = node.disk.digests(VOLUME_ID)
        named = self._losses.named()
        for digest in random.sample(digests, min(len(digests), random.choice((1, 1, 1, 5)))):
            if node.disk.has_good(VOLUME_ID, digest) and self._losses.may_take(node.name, digest, named):
                self._spoil(node, digest, random)

    def _spoil(self, node: SimNode, digest: str, random: Random) -> None:
        how = random.choice(("flipped", "torn", "lost"))
        store = node.stores.get(VOLUME_ID)
        self._rotten = True
        self._cluster.loop.note(f"{node.name}'s copy of chunk {digest[:8]} is {how}")
        if store is not None and store.has_good_chunk(digest):
            store.rot(digest)
        if node.chunks.is_good(VOLUME_ID, digest):
            if how == "flipped":
                node.chunks.damage(VOLUME_ID, digest)
            elif how == "torn":
                node.chunks.cut(VOLUME_ID, digest, random.choice((0, 1)))
            else:
                node.chunks.lose(VOLUME_ID, digest)
        self._losses.take(node.name, digest)

    # --- room and failures ------------------------------------------------------------------------------------------

    def fill(self, random: Random) -> None:
        """One disk, or every disk, is full for a while."""
        nodes = [*self._cluster.nodes.values()]
        for node in nodes if random.random() < 0.15 else [random.choice(nodes)]:
            self._cluster.loop.note(f"{node.name}'s disk is full")
            node.disk.fill(True)
            self._cluster.loop.at(random.uniform(0.5, 8.0), lambda disk=node.disk: disk.fill(False))  # type: ignore[misc]

    def fail(self, node: SimNode, random: Random) -> None:
        """A disk refuses all writes; somebody restarts the node after a while, perhaps after a loss of power."""
        self._cluster.loop.note(f"{node.name}'s disk fails")
        node.disk.fail()
        power = Random(random.random()) if random.random() < 0.5 else None  # noqa: S311  reproducible on purpose
        self._cluster.loop.at(random.uniform(0.5, 8.0), lambda: self._restart(node, power))

    def _restart(self, node: SimNode, power: Random | None = None) -> None:
        if node.disk.failing:
            if power is None:
                node.crash()
            else:
                node.lose_power(power)
            self._revive(node)

    # --- whole disks ------------------------------------------------------------------------------------------------

    def wipe(self, node: SimNode, random: Random) -> None:
        """A node loses its disk, or all chunks that are files, or the volume's database."""
        how = random.choice(("disk", "disk", "chunks", "replica"))
        chunks, replica = how != "replica", how != "chunks"
        if self._away or node.name not in self._cluster.raft.state.nodes or not self._losses.may_empty(node, chunks, replica):
            return
        self._rotten = True
        self.wiped += 1
        self._losses.empty(node, chunks, replica)
        if how == "disk":
            self._away.add(node.name)
            node.lose_disk()
            self._cluster.god.start(self._readmit(node, random.uniform(0.2, 5.0)), "readmit")
            return
        node.crash()
        if how == "chunks":
            self._cluster.loop.note(f"{node.name} loses all chunks that are files")
            for volume, digest in node.chunks.list():
                node.chunks.lose(volume, digest)
        elif VOLUME_ID in node.stores:
            self._cluster.loop.note(f"{node.name} loses its replica's database")
            node.disk.drop_store(VOLUME_ID)
        self._cluster.loop.at(random.uniform(0.05, 5.0), lambda: self._revive(node))

    def _readmit(self, node: SimNode, after_s: float) -> Protocol_[None]:
        """`davfs node readmit`: Raft does without the node first, then takes it in as one that never voted (decision 0011)."""
        cluster, raft, name = self._cluster, self._cluster.raft, node.name
        yield Sleep(after_s)
        if cluster.admits:
            yield from self._renew(node)
            return
        while not raft.leads_without(name):
            yield Sleep(LOOK_S)
        cluster.loop.note(f"an administrator readmits {name}")
        cluster.command("node_renew", name)
        raft.expel(name)
        cluster.command("node_renewed", name)
        self._away.discard(name)
        node.start()
        cluster.register(node)
        while not raft.has_all(name) or not raft.leads_without(name):
            yield Sleep(LOOK_S)
        raft.enlist(name)
        cluster.loop.note(f"raft: {name} votes again")

    def _renew(self, node: SimNode) -> Protocol_[None]:
        """The same where Raft's leader sees to who votes (``cluster/voters.py``); the node may be removed meanwhile."""
        cluster, name = self._cluster, node.name
        while not cluster.raft.reaches_majority(cluster.raft.leader):
            yield Sleep(LOOK_S)
        cluster.loop.note(f"an administrator readmits {name}")
        cluster.command("node_renew", name)
        while name in cluster.raft.state.membership.renewing:
            yield Sleep(LOOK_S)
        self._away.discard(name)
        if cluster.nodes.get(name) is node and name in cluster.raft.state.nodes:
            node.start()
