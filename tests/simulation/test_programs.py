"""Programs as holders under faults: they keep no replica, crash and pause like nodes, and compete with gateways.

Programs append words to one file, at positions, through the production flows with a working copy; gateways PUT files in
between. Whoever opens the volume must see every word that was acknowledged before; at the end each acknowledged word is
there once, each refused one is not, and all replicas are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from davfs.cluster import assign, files, positions, tree
from davfs.cluster.api import Caller
from davfs.cluster.assign import take
from davfs.cluster.followers import Followers
from davfs.cluster.holder import Holder
from davfs.cluster.lagging import Credentials
from davfs.cluster.replica import Replica
from davfs.cluster.service import Service
from davfs.cluster.site import Site
from davfs.core.chunking import spans
from davfs.core.cluster_state import value_of
from davfs.core.effects import Call, Protocol_, Reply, Sleep, Submit
from davfs.core.errors import DavfsError, NotFound, OutcomeUnknown
from davfs.core.model import Entry
from davfs.core.ports import ReplicaStore
from davfs.core.quorum import reached_by_majority
from davfs.core.replica_set import ReplicaSet
from davfs.crdt.documents import AutomergeDocuments
from davfs.sim.checkers import caught_up, check_replicas
from davfs.sim.cluster import TIMING, VOLUME_ID, SimClock, SimCluster, SimRandom
from davfs.sim.faults import Faults, Troubles
from davfs.sim.loop import Done, Loop, Process, SimSignal, reply_of
from davfs.sim.memory_chunks import MemoryChunkStore
from davfs.storage.replica_db import ReplicaDb

LOG = ("log",)
WORDS = 14
SEEDS = int(os.environ.get("DAVFS_PROGRAM_SEEDS", "10"))
MUTANT_SEEDS = 60


class OneReplica:
    """Where a program's own requests find its working copy."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    def wait_for(self, volume_id: str) -> Protocol_[Replica]:
        yield from ()
        return self.replica

    def store_here(self, volume_id: str) -> ReplicaStore | None:
        return self.replica.store


class Words:
    """What became of each word."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.unknown: set[str] = set()

    def judge(self, content: bytes, before: set[str], who: str) -> None:
        """A look at the file by somebody who began when ``before`` was acknowledged."""
        there = content.decode().split()
        if lost := before - set(there):
            self.loop.fail(f"invariant 1: {who} does not see {sorted(lost)}")
        if twice := [word for word in there if there.count(word) > 1]:
            self.loop.fail(f"{who} sees {twice} more than once")
        if undone := self.refused & set(there):
            self.loop.fail(f"{who} sees {sorted(undone)}, which were refused")


class SimProgram:
    """A program, over all its lives. It follows Raft's state like a node's answers would tell it."""

    def __init__(self, cluster: SimCluster, words: Words, name: str) -> None:
        self.name = f"program:{name}"
        self.cluster = cluster
        self.words = words
        self.holds = 0
        self.left = WORDS
        self.life = 0
        self.number = 0

    def start(self) -> None:
        cluster = self.cluster
        self.life += 1
        self.proof: dict[str, Any] = {}

        def submit(process: Process, command: tuple[Any, ...], timeout: float, done: Done) -> None:
            member.submit(command, timeout, done)

        self.process = Process(cluster.loop, self.name, self._call, submit, cluster.loop.random.uniform(0.97, 1.03))
        cluster.network.processes[self.name] = self.process
        member = cluster.raft.join(self.process)
        applied = SimSignal(self.process)
        member.on_applied = applied.notify
        process = self.process
        self.site = Site(
            node=self.name,
            clock=SimClock(process, lambda: 0.0),
            random=SimRandom(cluster.loop),
            state=member.state,
            applied=applied,
            chunks=MemoryChunkStore(),
            documents=AutomergeDocuments(),
            open_store=lambda volume: ReplicaDb(":memory:"),
            make_signal=lambda: SimSignal(process),
            up=lambda node: cluster.sees(self.name, node),
            timing=TIMING,
        )
        process.start(self._work(), self.name)

    def _call(self, caller: Process, call: Call, done: Done) -> None:
        if call.node != self.name:
            call = replace(call, args={**call.args, **self.proof})
        self.cluster.network.call(caller, call, done)

    def _work(self) -> Protocol_[None]:
        random = self.cluster.loop.random
        while self.left > 0:
            yield Sleep(random.uniform(0.05, 1.0))
            if VOLUME_ID not in self.site.state.volumes:
                continue
            try:
                yield from self._hold()
            except DavfsError as error:
                self.cluster.loop.note(f"{self.name}: {type(error).__name__} {error.message}")

    def _hold(self) -> Protocol_[None]:
        store = self.site.open_store(VOLUME_ID)
        replica = Replica(self.site, VOLUME_ID, store)
        self.handlers = Service(self.site, OneReplica(replica)).handlers
        before = set(self.words.acknowledged)
        current: list[Holder] = []

        def granted(credentials: Credentials, digest: str, since: float) -> None:
            self.proof = credentials.wire()
            self.process.start(self._keep(credentials, digest, current), "token")

        holder = yield from take(self.site, self.site.state.volume(VOLUME_ID), replica, granted)
        current.append(holder)
        self.holds += 1
        try:
            inode = yield from self._open(holder, before)
            for _ in range(self.cluster.loop.random.randint(1, 5)):
                yield from self._append(holder, inode)
                yield Sleep(self.cluster.loop.random.uniform(0.0, 0.8))
        finally:
            current.clear()
        yield from holder.release()

    def _open(self, holder: Holder, before: set[str]) -> Protocol_[str]:
        try:
            entry, content = yield from read(holder)
        except NotFound:
            entry, _ = yield from files.put(
                holder, LOG, lambda size: b"", 0, None, lambda found: None, Caller(), lambda: None
            )
            content = b""
        self.words.judge(content, before, f"{self.name} at {holder.credentials.epoch}")
        return entry.inode

    def _append(self, holder: Holder, inode: str) -> Protocol_[None]:
        self.number += 1
        self.left -= 1
        word = f"{self.name}/{self.life}/{self.number}"
        self.words.unknown.add(word)
        try:
            yield from positions.write_at(holder, inode, None, memoryview(f"{word} ".encode()), Caller(request_id=word))
        except OutcomeUnknown:
            raise
        except DavfsError:
            self.words.unknown.discard(word)
            self.words.refused.add(word)
            raise
        self.words.unknown.discard(word)
        self.words.acknowledged.add(word)

    def _keep(self, credentials: Credentials, digest: str, current: list[Holder]) -> Protocol_[None]:
        """Like ``client/session.py``."""
        while True:
            yield Sleep(TIMING.ttl / 5)
            first_sent = self.site.clock.now()
            held = [(VOLUME_ID, list(credentials.epoch), digest)]
            try:
                refused = value_of((yield Submit((self.site.request_id(), "refresh", held), TIMING.ttl / 2)))
            except DavfsError:
                continue
            if refused:
                for holder in current:
                    holder.depose("its token was refused")
                return
            for holder in current:
                holder.refreshed(first_sent)


def read(holder: Holder) -> Protocol_[tuple[Entry, bytes]]:
    holder.check_lease()
    with holder.replica.store.view() as view:
        entry = tree.require(view, LOG)
        held = view.manifest(entry.inode)
    file = files.OpenFile(holder, entry, held[1] if held is not None else None)
    blocks = []
    for span in spans(0, entry.size, file.chunk_size):
        blocks.append(bytes((yield from file.read_span(span))))
    return entry, b"".join(blocks)


class ProgramSimulation:
    """Two programs and one client of the gateways."""

    def __init__(self, seed: int, tracing: bool = False) -> None:
        self.loop = Loop(seed, tracing)
        self.cluster = SimCluster(self.loop)
        self.words = Words(self.loop)
        self.programs = {p.name: p for p in (SimProgram(self.cluster, self.words, name) for name in ("a", "b"))}
        self.faults = Faults(self.cluster, Troubles(every_s=3.0, strike=0.01))
        self.over = False
        nodes_serve = self.cluster.network.serve
        assert nodes_serve is not None

        def serve(process: Process, peer: str, method: str, args: Mapping[str, Any], blob: bytes, done: Done) -> None:
            program = self.programs.get(process.node)
            if program is None:
                nodes_serve(process, peer, method, args, blob, done)
                return

            def answered(value: Any, error: BaseException | None) -> None:
                done(None if error is not None else reply_of(value), error)

            process.run(program.handlers[method](peer, args, blob), answered, (method,))

        self.cluster.network.serve = serve

    def run(self) -> list[str]:
        loop, cluster = self.loop, self.cluster
        loop.run_until(lambda: all(cluster.registered(name) for name in cluster.names), 10.0)
        world = Process(loop, "world", cluster.network.call, _no_raft)
        for program in self.programs.values():
            program.start()
        world.start(self.faults.run(), "faults")
        world.start(self._hit_programs(), "hits")
        world.start(self._gateway(), "gateway")
        if not loop.run_until(lambda: all(p.left <= 0 for p in self.programs.values()), 2000.0):
            loop.fail("the programs did not come to an end")
        self.over = True
        self.faults.heal()
        for program in self.programs.values():
            program.process.crash()
        final: list[bytes] = []
        world.start(self._final(final), "final")
        if not loop.run_until(lambda: bool(final), 120.0):
            loop.fail("invariant 11: the file cannot be read after all faults ended")
            return loop.failures
        self.words.judge(final[0], self.words.acknowledged, "the final reader")
        stores: dict[str, ReplicaStore] = {name: node.stores[VOLUME_ID] for name, node in cluster.nodes.items()}
        if not loop.run_until(lambda: caught_up(stores), 60.0):
            loop.fail("invariant 5: the replicas do not become the same")
        return loop.failures + list(check_replicas(stores))

    def _hit_programs(self) -> Protocol_[None]:
        random = self.loop.random
        while not self.over:
            yield Sleep(random.expovariate(1 / 6.0))
            program = random.choice(list(self.programs.values()))
            if self.over or program.left <= 0:
                continue
            if random.random() < 0.4:
                program.process.crash()
                program.start()
            else:
                process = program.process
                process.pause()
                self.loop.at(random.uniform(0.1, 8.0), process.resume)

    def _gateway(self) -> Protocol_[None]:
        """A client of WebDAV now and then: gateways take the volume too, and give it back when it is idle."""
        random = self.loop.random
        while not self.over:
            yield Sleep(random.uniform(5.0, 12.0))
            before = set(self.words.acknowledged)
            try:
                content = yield from self._ask("get", list(LOG))
            except DavfsError:
                continue
            self.words.judge(content, before, "a gateway")

    def _ask(self, *op: Any) -> Protocol_[Any]:
        args = {"op": list(op), "id": self.loop.random.randbytes(8).hex(), "forwarded": False}
        reply: Reply = yield Call(self.loop.random.choice(self.cluster.names), "dav", args, timeout=14.0)
        return reply.value

    def _final(self, final: list[bytes]) -> Protocol_[None]:
        while not final:
            try:
                final.append((yield from self._ask("get", list(LOG))))
            except NotFound:
                final.append(b"")
            except DavfsError:
                yield Sleep(0.3)


def _no_raft(process: Process, command: tuple[Any, ...], timeout: float, done: Done) -> None:
    raise RuntimeError("this process has no part in Raft")


def test_programs_lose_nothing_whatever_happens() -> None:
    acknowledged = holds = 0
    for seed in range(SEEDS):
        simulation = ProgramSimulation(seed)
        failures = simulation.run()
        words = simulation.words
        took = sum(program.holds for program in simulation.programs.values())
        print(
            f"seed {seed}: {took} grants, {len(words.acknowledged)} words acknowledged, {len(words.refused)} refused, "
            f"{len(words.unknown)} unknown, {simulation.faults.count} faults, {simulation.loop.now:.0f} s"
        )
        assert not failures, f"seed {seed}: {failures}"
        acknowledged += len(words.acknowledged)
        holds += took
    assert acknowledged > SEEDS * WORDS, "too little happened"
    assert holds > SEEDS * 4


def working_copy_votes(patch: pytest.MonkeyPatch) -> None:
    """The commit mark counts the program's own copy like a replica."""

    def majority_seq(self: Followers, table: ReplicaSet) -> int:
        progress = {f.node: f.match for f in self.voters(table)}
        own = [f for f in self.by_node.values() if f.node not in table.nodes]
        if own:
            absent = next((node for node in table.nodes if progress.get(node, 0) < own[0].match), None)
            if absent is not None:
                progress[absent] = own[0].match
        return reached_by_majority(progress, table.nodes)

    patch.setattr(Followers, "majority_seq", majority_seq)


def any_log_adopted(patch: pytest.MonkeyPatch) -> None:
    """The working copy is filled from the sealed replica that is behind all others."""
    patch.setattr(assign, "max", min, raising=False)


@pytest.mark.parametrize("mutant", [working_copy_votes, any_log_adopted])
def test_wrong_versions_are_found(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    assert any(ProgramSimulation(seed).run() for seed in range(MUTANT_SEEDS)), f"{mutant.__name__} was found by no seed"
