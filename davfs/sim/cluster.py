"""Simulated nodes: the production flows over a simulated network, Raft, clock and disk.

A crash ends everything of a node but its disk (``disk.py``); a power loss takes what was not synced, too. May import
cluster and below; never pysyncobj, wsgidav or rpc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from random import Random
from typing import Any

import msgpack

from davfs.cluster.collector_runs import CollectorRuns
from davfs.cluster.compaction import Compaction
from davfs.cluster.expiry import Expiry
from davfs.cluster.fetcher import Fetcher
from davfs.cluster.holdings import Holdings
from davfs.cluster.maintenance import Maintenance
from davfs.cluster.replicas import Replicas
from davfs.cluster.scrub import Scrub
from davfs.cluster.service import Service
from davfs.cluster.site import Bounds, Site, Timing
from davfs.cluster.unheld import UnheldLate
from davfs.cluster.voters import Voters
from davfs.core.cluster_state import ClusterState, VolumeState, value_of
from davfs.core.effects import Protocol_, Reply, Sleep, Submit
from davfs.core.errors import DavfsError, Unreachable
from davfs.core.model import STRICT, VolumePolicy
from davfs.crdt.documents import AutomergeDocuments
from davfs.sim.collected import CollectedWatch
from davfs.sim.disk import SimDisk
from davfs.sim.enough import EnoughCopies
from davfs.sim.front import Front
from davfs.sim.loop import Done, Loop, Process, SimSignal, reply_of
from davfs.sim.memory_chunks import MemoryChunkStore
from davfs.sim.network import Network, Weather
from davfs.sim.raft import Member, SimRaft
from davfs.sim.replica_store import WatchedStore
from davfs.sim.watch import Watch
from davfs.storage.reference_set import ReferenceSet

VOLUME = "drive"
VOLUME_ID = "00" * 16
CHUNK_SIZE = 40
TIMING = Timing(
    ttl=2.0, call=1.0, transfer=1.5, commit=1.5, heartbeat=0.3, idle=4.0, gate=5.0, tidy=0.3, compaction=1.0, drain=0.1,
    retire=0.5, grace=4.0, quarantine=8.0,
)  # fmt: skip
BOUNDS = Bounds(log_recent=1, log_records=2, snapshot_rate=500_000, snapshot_piece=50_000)
"""So tight that logs are trimmed, and replicas that were away need a snapshot, in every run."""

COLLECT_EVERY_S = 2.0
TRASH_DAYS = 0
"""What is deleted goes at once, so that it does in every run."""

LOOK_ALL_S = 5.0
SCRUB_EVERY_S = 15.0
RETRY_S = 0.25
SNAPSHOTS = 40
"""Commands of Raft after which it makes a snapshot, where nodes join: so few that newcomers begin with one."""

RATES = (0.95, 1.045)
"""How fast clocks run: at most 10 % faster than one another (design, section 3)."""


class SimClock:
    """A node's own clock (port: ``core.ports.Clock``)."""

    def __init__(self, process: Process, off: Callable[[], float]) -> None:
        self._process = process
        self._off = off  # seconds by which the time of day is wrong

    def now(self) -> float:
        return self._process.clock()

    def wall_ns(self) -> int:
        """The time of day, as far as this node knows: it may be set to anything at any moment."""
        return max(0, 1_700_000_000_000_000_000 + int((self._process.loop.now + self._off()) * 1e9))


class SimRandom:
    """Tokens from the loop's generator (port: ``core.ports.Random``)."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def token(self, size: int) -> bytes:
        return self._loop.random.randbytes(size)


class SimNode:
    """A node: its disk, and the process that runs on it while it is up."""

    def __init__(self, cluster: SimCluster, name: str) -> None:
        self.name = name
        self.disk = SimDisk(name, cluster.loop, cluster.watch)
        self.rate = cluster.loop.random.uniform(*RATES)
        self.wall_off = 0.0  # seconds by which the time of day is wrong
        self.process: Process | None = None
        self.state = ClusterState()  # of its last life
        self._cluster = cluster

    @property
    def stores(self) -> Mapping[str, WatchedStore]:
        return self.disk.stores

    @property
    def chunks(self) -> MemoryChunkStore:
        return self.disk.chunks

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    def start(self) -> None:
        """Start the node on what its disk holds."""
        cluster, loop = self._cluster, self._cluster.loop
        loop.note(f"{self.name} starts")
        member: Member | None = None

        def submit(process: Process, command: tuple[Any, ...], timeout: float, done: Done) -> None:
            assert member is not None  # noqa: S101
            member.submit(command, timeout, done)

        process = Process(loop, self.name, cluster.network.call, submit, self.rate)
        self.process = process
        self.disk.age.start(process)
        self.disk.start_again()
        cluster.network.processes[self.name] = process
        member = cluster.raft.join(process)
        applied = SimSignal(process)
        member.on_applied = applied.notify
        process.reconfigure = member.reconfigure
        self.state = member.state
        site = Site(
            node=self.name,
            clock=SimClock(process, lambda: self.wall_off),
            random=SimRandom(loop),
            state=member.state,
            applied=applied,
            chunks=self.chunks,
            documents=AutomergeDocuments(),
            open_store=self.disk.open_store,
            make_signal=lambda: SimSignal(process),
            up=lambda name: name == self.name or cluster.sees(self.name, name),
            timing=TIMING,
            bounds=BOUNDS,
            stored=lambda: tuple(self.stores),
            drop_store=self.disk.drop_store,
        )
        fetcher = Fetcher(site)
        replicas = Replicas(site, fetcher)
        self.site, self.replicas = site, replicas
        self.holdings = Holdings(site, replicas)
        self.maintenance = Maintenance(site, replicas, self.holdings)
        service = self.service = Service(site, replicas)
        self.handlers = service.handlers
        self.collector = CollectorRuns(
            site, replicas, self.maintenance, lambda: ReferenceSet(":memory:"), COLLECT_EVERY_S
        )
        self.front = Front(site, self.holdings, VOLUME, cluster.enough.answered)
        expiry = Expiry(site, lambda: member.is_leader, lambda: member.term)
        self.scrub = Scrub(site, replicas, SCRUB_EVERY_S)
        self.compaction = Compaction(site, replicas, self.maintenance, LOOK_ALL_S)
        for task, name in (
            (self.compaction.run(), "compact"),
            (UnheldLate(site, replicas, self.maintenance).run(), "late"),
            (replicas.keep(), "keep"), (fetcher.run(), "fetch"), (expiry.run(), "expire"), (self.holdings.keep(), "tokens"),
            (self.scrub.run(), "scrub"), (service.collecting.run(self.disk.age.save), "sweep"),
            (self.collector.run(), "collect"),
        ):  # fmt: skip
            process.start(task, name)
        if cluster.admits:
            process.start(Voters(self.name, member, member.state, site.request_id).run(lambda reason: self.crash()), "voters")
            process.start(self._announce(site), "join")

    def _announce(self, site: Site) -> Protocol_[None]:
        """What ``node/join.py`` does at each start: the node says that it runs, and with which disk."""
        while True:
            known = site.state.nodes.get(self.name)
            if known is not None and known.incarnation == self.disk.id:
                return
            try:
                command = (site.request_id(), "node_set", self.name, f"http://{self.name}", "", 1.0, self.disk.id)
                value_of((yield Submit(command, site.timing.call)))
            except DavfsError as error:
                self._cluster.loop.note(f"{self.name} is not registered yet: {error.message}")
            yield Sleep(RETRY_S)

    def crash(self) -> None:
        """kill -9: the disk stays."""
        if self.process is not None and self.process.alive:
            self._cluster.loop.note(f"{self.name} crashes")
            self.process.crash()

    def lose_power(self, random: Random) -> None:
        """The same, and what was not synced is lost, or some of it."""
        self._cluster.loop.note(f"{self.name} loses power")
        if self.process is not None:
            self.process.crash()
        self.disk.lose_power(random)

    def lose_disk(self) -> None:
        """The node is gone, and comes back with an empty disk."""
        self._cluster.loop.note(f"{self.name} loses its disk")
        if self.process is not None:
            self.process.crash()
        self.disk = SimDisk(self.name, self._cluster.loop, self._cluster.watch)
        self._cluster.watch.dropped(self.name)


class SimCluster:
    """Nodes that serve one small volume. ``mode``: of its policy, shared or exclusive; ``replicas``: how many of the nodes
    keep its records (all). ``admits``: nodes may join and leave, and Raft's leader sees to who votes; else nobody does."""

    def __init__(
        self, loop: Loop, count: int = 3, mode: str = "shared", replicas: int = 0, consistency: str = STRICT,
        trash_days: int | None = None, admits: bool = False,
    ) -> None:
        self.loop = loop
        self.admits = admits
        self.names = [f"node-{number + 1}" for number in range(count)]
        self.network = Network(loop, Weather())
        self.network.serve = self._serve
        self.raft = SimRaft(loop, self.network, self.names, snapshots=SNAPSHOTS if admits else 0)
        self.watch = Watch(loop, self.names)
        self.god = Process(loop, "world", self.network.call, _no_raft)  # does what nobody in it does, and never fails
        self.nodes = {name: SimNode(self, name) for name in self.names}
        self.removed: dict[str, SimNode] = {}  # and what is left of them
        self.enough = EnoughCopies(self)
        self.collected = CollectedWatch(self, VOLUME_ID, VolumePolicy().write_quorum)
        for name in self.names:
            self.register(self.nodes[name])
        policy = VolumePolicy(
            chunk_size=CHUNK_SIZE, copies=min(3, count), replicas=replicas or count, mode=mode,
            consistency=consistency, trash_days=TRASH_DAYS if trash_days is None else trash_days,
        )  # fmt: skip
        self.command("volume_create", VOLUME_ID, VOLUME, asdict(policy), self.names[: replicas or count])
        self.watch.deciding = lambda: self.volume.replica_set.deciding
        self.watch.views = lambda: [self.volume.replica_set.deciding, *self._views()]
        self.watch.strict = consistency == STRICT
        for node in self.nodes.values():
            node.start()

    @property
    def volume(self) -> VolumeState:
        """The volume as the newest command left it."""
        state: ClusterState = self.raft.state
        return state.volumes[VOLUME_ID]

    def _views(self) -> Iterator[Sequence[Sequence[str]]]:
        """The sets of replicas that decide as each node knows them: which may be behind, and safely so."""
        for node in self.nodes.values():
            if VOLUME_ID in node.state.volumes:
                yield node.state.volumes[VOLUME_ID].replica_set.deciding

    def command(self, verb: str, *arguments: Any) -> None:
        """A command that gets into Raft's log at once."""
        self.raft.append(bytes(msgpack.packb([self.loop.random.randbytes(12).hex(), verb, *arguments])))

    def register(self, node: SimNode) -> None:
        """A node says that it runs, and with which disk."""
        self.command("node_set", node.name, f"http://{node.name}", "", 1.0, node.disk.id)

    def admit(self, name: str) -> SimNode:
        """The machine of a node that may join; it is not started yet."""
        self.watch.add(name)
        self.raft.shut_out(name)
        self.names.append(name)
        self.nodes[name] = SimNode(self, name)
        return self.nodes[name]

    def take_away(self, name: str) -> SimNode:
        """A node is removed: nothing on it counts any more, whatever it still does."""
        self.names.remove(name)
        self.removed[name] = self.nodes.pop(name)
        return self.removed[name]

    def registered(self, name: str) -> bool:
        """Whether a node knows that all replicas may vote."""
        volume = self.nodes[name].state.volumes.get(VOLUME_ID)
        return volume is not None and len(volume.incarnations) == len(volume.replicas)

    def sees(self, one: str, other: str) -> bool:
        """Whether a node has reason to believe that another is up."""
        return self.network.up(other) and self.network.reaches(one, other)

    def _serve(
        self, process: Process, peer: str, method: str, args: Mapping[str, Any], blob: bytes, done: Done
    ) -> None:
        node = self.nodes.get(process.node) or self.removed[process.node]
        if peer in node.state.membership.removed:
            done(None, Unreachable(f"{process.node} refused the certificate of {peer}"))
            return
        if method == "dav":
            process.run(node.front.serve(args), lambda value, error: done(_wrapped(value, error), error), ("dav", args))
            return

        def answered(value: Any, error: BaseException | None) -> None:
            if error is None:
                done(reply_of(value), None)
                return
            self.loop.note(f"{process.node} {method} for {peer}: {type(error).__name__}")
            done(None, error)

        process.run(node.handlers[method](peer, args, blob), answered, (method, tuple(args.get("epoch") or ())))


def _no_raft(process: Process, command: tuple[Any, ...], timeout: float, done: Done) -> None:
    raise RuntimeError(f"{process.node} has no part in Raft")


def _wrapped(value: Any, error: BaseException | None) -> Reply | None:
    return Reply(value) if error is None else None
