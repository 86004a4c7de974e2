"""The collector against what races it: invariant 6, watched at each removal (``davfs/sim/collected.py``).

Each race is also played with its safeguard taken out, and is then found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from davfs.cluster import collector, pace, trash
from davfs.cluster.chunk_write import Upload
from davfs.cluster.collecting import Collecting
from davfs.cluster.collector import Report
from davfs.cluster.in_use import InUse
from davfs.core import keys, values
from davfs.core.chunking import digest_of
from davfs.core.effects import Protocol_
from davfs.core.model import TRASH, ChunkRef, Epoch, Manifest, Position
from davfs.core.record import OPERATION, DocumentChange, Record, encode
from davfs.sim import cluster as sim_cluster
from davfs.sim.cluster import TIMING, VOLUME_ID
from davfs.sim.faults import Troubles
from davfs.sim.memory_chunks import MemoryChunkStore
from davfs.sim.replica_store import WatchedStore
from davfs.sim.simulation import Simulation
from davfs.storage.index_view import SqliteIndexView
from tests.simulation.collected import AGE_S, BODY, OTHER, SMALL, Collected

SEEDS = 6


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Collected:
    return Collected(monkeypatch)


def trusts_an_old_have_it(patch: pytest.MonkeyPatch) -> None:
    """A node answers "have it" without beginning the grace of its copy anew."""
    original = MemoryChunkStore.put

    def put(self: MemoryChunkStore, volume: str, digest: str, data: bytes | memoryview) -> None:
        if not self.has(volume, digest):
            original(self, volume, digest, data)

    patch.setattr(MemoryChunkStore, "put", put)


def ignores_uploads(patch: pytest.MonkeyPatch) -> None:
    """The chunks of uploads that are still running count as unused."""
    patch.setattr(InUse, "names", lambda self, volume: set())
    patch.setattr(InUse, "among", lambda self, volume, names: set())


def confirms_nothing(patch: pytest.MonkeyPatch) -> None:
    """Old promises of chunks are not confirmed again before their record."""

    def renew(self: Upload) -> Protocol_[None]:
        yield from ()

    patch.setattr(Upload, "renew", renew)


def ignores_the_trash(patch: pytest.MonkeyPatch) -> None:
    """What is in the trash refers to nothing."""
    original = SqliteIndexView.manifests

    def manifests(self: SqliteIndexView, after: str, limit: int) -> Any:
        deleted = {entry.inode for entry in self.children(TRASH)}
        return [(inode, manifest) for inode, manifest in original(self, after, limit) if inode not in deleted]

    patch.setattr(SqliteIndexView, "manifests", manifests)


def takes_orders_of_any_epoch(patch: pytest.MonkeyPatch) -> None:
    """A node removes what a collector of an older epoch tells it to."""

    def check(self: Collecting, args: Mapping[str, Any]) -> Protocol_[None]:
        yield from ()

    patch.setattr(Collecting, "_check", check)


def forgets_what_is_named_meanwhile(patch: pytest.MonkeyPatch) -> None:
    """What is named while a scan runs, behind it, counts as unused."""
    patch.setattr(InUse, "applied", lambda self, volume, records: None)


def put_while_the_order_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing names BODY; while the order to remove it travels, a client puts it again and is told "have it"."""
    stage = Collected(monkeypatch)
    stage.ok("put", ("a",), BODY)
    stage.ok("put", ("a",), OTHER)
    stage.wait(AGE_S)
    stage.nodes["node-3"].crash()
    for volume, digest in stage.nodes["node-3"].chunks.list():
        stage.nodes["node-3"].chunks.lose(volume, digest)  # so that W copies are just those of the other two
    stage.wait(1)
    stage.delay("chunk.collect_remove", 0.7)
    run = stage.begin_run()
    assert stage.loop.run_until(lambda: stage.cluster.collected.removed > 0, 5)  # node-1 has done it
    stage.wait(0.1)
    put = stage.begin("node-1", ("put", ("b",), BODY))
    assert stage.loop.run_until(lambda: bool(put and run), 60)
    assert put[0].outcome == ("ok", True)
    readable = stage.ask("node-1", ("get", ("b",))).outcome == ("ok", BODY)
    return stage.loop.failures + ([] if readable else ["what was put again cannot be read"])


def test_a_put_of_what_is_being_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert put_while_the_order_is_on_its_way(monkeypatch) == []
    trusts_an_old_have_it(monkeypatch)
    assert any("invariant 6" in failure for failure in put_while_the_order_is_on_its_way(monkeypatch))


def upload_longer_than_the_grace(monkeypatch: pytest.MonkeyPatch, *mutants: Callable[[pytest.MonkeyPatch], None]) -> list[str]:
    """The chunks of a PUT are there, older than the grace, when the collector runs; its record comes after that."""
    with monkeypatch.context() as patch:
        patch.setattr(sim_cluster, "TIMING", replace(TIMING, grace=1.0))
        for mutant in mutants:
            mutant(patch)
        stage = Collected(patch)
        stage.ok("put", ("a",), OTHER)
        (holder,) = stage.nodes["node-1"].holdings.holders()
        tickets: list[Any] = []
        process = stage.nodes["node-1"].process
        assert process is not None
        process.run(holder.gates.enter([("b",)], 1.0), lambda ticket, error: tickets.append(ticket))
        stage.wait(0.1)
        put = stage.begin("node-1", ("put", ("b",), BODY))
        stage.wait(2.0)
        assert not put
        stage.run_collector()
        holder.gates.leave(tickets[0])
        assert stage.loop.run_until(lambda: bool(put), 30)
        stage.wait(0.5)
        if put[0].outcome != ("ok", True):
            return [f"the upload failed: {put[0].outcome}"]
        return stage.loop.failures + ([] if stage.copies(BODY) >= 2 else ["invariant 6: acknowledged without W copies"])


def test_an_upload_that_takes_longer_than_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert upload_longer_than_the_grace(monkeypatch) == []
    assert upload_longer_than_the_grace(monkeypatch, ignores_uploads) == []  # what is confirmed again comes back
    assert upload_longer_than_the_grace(monkeypatch, confirms_nothing) == []
    assert upload_longer_than_the_grace(monkeypatch, ignores_uploads, confirms_nothing) != []


def deleted_and_collected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A file is deleted and stays in the trash while the collector runs."""
    stage = Collected(monkeypatch)
    stage.ok("put", ("a",), BODY)
    stage.ok("delete", ("a",))
    stage.wait(AGE_S)
    stage.run_collector()
    return stage.loop.failures


def test_without_the_trash_among_the_references(monkeypatch: pytest.MonkeyPatch) -> None:
    assert deleted_and_collected(monkeypatch) == []
    ignores_the_trash(monkeypatch)
    assert any("invariant 6" in failure for failure in deleted_and_collected(monkeypatch))


def order_of_an_older_epoch(monkeypatch: pytest.MonkeyPatch, *mutants: Callable[[pytest.MonkeyPatch], None]) -> list[str]:
    """A collector's order to node-2 takes long; its holder is paused and deposed, and the next one takes BODY in again."""
    with monkeypatch.context() as patch:
        for mutant in mutants:
            mutant(patch)
        stage = Collected(patch)
        stage.ok("put", ("a",), BODY)
        stage.ok("put", ("a",), OTHER)
        stage.wait(AGE_S)
        stage.delay("chunk.collect_remove", 12.0)
        stage.begin_run()
        assert stage.loop.run_until(lambda: stage.cluster.collected.removed > 0, 5)
        stage.wait(0.1)
        paused = stage.nodes["node-1"].process
        assert paused is not None
        paused.pause()
        stage.delay("", 0.0)
        stage.cluster.raft.leader = "node-3"
        third = stage.nodes["node-3"]
        assert stage.loop.run_until(lambda: third.state.volumes[VOLUME_ID].tenure.grant is None, 10)
        stage.ok("put", ("b",), BODY, node="node-3")
        stage.wait(15.0)
        paused.resume()
        stage.wait(3.0)
        assert stage.ok("get", ("b",), node="node-3") == BODY
        return stage.loop.failures


def test_a_slow_collector_of_an_older_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert order_of_an_older_epoch(monkeypatch) == []
    assert order_of_an_older_epoch(monkeypatch, takes_orders_of_any_epoch) == []  # it was promised since
    assert order_of_an_older_epoch(monkeypatch, trusts_an_old_have_it) == []  # the epoch is refused
    found = order_of_an_older_epoch(monkeypatch, takes_orders_of_any_epoch, trusts_an_old_have_it)
    assert any("invariant 6" in failure for failure in found)


def test_an_order_of_before_a_restart_is_refused(stage: Collected) -> None:
    stage.ok("put", ("a",), BODY)
    stage.ok("put", ("a",), OTHER)
    stage.wait(AGE_S)
    stage.delay("chunk.collect_remove", 1.0)
    run = stage.begin_run()
    stage.wait(0.5)
    stage.nodes["node-2"].crash()
    stage.nodes["node-2"].start()
    assert stage.loop.run_until(lambda: bool(run), 60)
    assert isinstance(run[0], Report)
    assert "node-2" in run[0].skipped
    assert stage.nodes["node-2"].chunks.has(VOLUME_ID, digest_of(b"x" * 40))


def named_by_a_late_record(monkeypatch: pytest.MonkeyPatch, *mutants: Callable[[pytest.MonkeyPatch], None]) -> int:
    """A deposed holder's PUT of BODY is late on one replica, and may yet become a conflict copy; its chunks are old."""
    with monkeypatch.context() as patch:
        for mutant in mutants:
            mutant(patch)
        stage = Collected(patch)
        stage.ok("put", ("a",), OTHER)
        chunks = []
        for start in range(0, 100, 40):
            piece = BODY[start : start + 40]
            chunks.append(ChunkRef(digest_of(piece), len(piece), ("node-1", "node-2", "node-3")))
            for node in stage.nodes.values():
                node.chunks.put(VOLUME_ID, chunks[-1].digest, piece)
        at = Position(Epoch(1, 0), 3)
        value = values.encode_manifest(Manifest(100, 1, "e", 40, tuple(chunks)))
        puts = ((keys.make(keys.MANIFEST, "1.1.0-0", keys.version_of(at)), value),)
        late = encode(Record(VOLUME_ID, at, OPERATION, "", (DocumentChange("d/0", b"", (), puts),)))
        with stage.nodes["node-2"].stores[VOLUME_ID]._writing(durable=True) as db:
            db.execute("INSERT INTO late (incarnation, counter, seq, record) VALUES (1, 0, 3, ?)", (late,))
            db.execute("COMMIT")
        stage.wait(AGE_S)
        stage.run_collector()
        return stage.copies(BODY)


def forgets_late_records(patch: pytest.MonkeyPatch) -> None:
    """What a late record names, which may yet become a conflict copy, counts as unused."""
    patch.setattr(WatchedStore, "late_records", lambda self: [])


def test_what_a_late_record_names_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named_by_a_late_record(monkeypatch) == 3
    assert named_by_a_late_record(monkeypatch, forgets_late_records) == 1, "the node that has the record spares its own copy"


def renamed_behind_the_scan(monkeypatch: pytest.MonkeyPatch, *mutants: Callable[[pytest.MonkeyPatch], None]) -> list[str]:
    """While the index is walked, a file's chunks get another name on a page that was read, and lose the old one."""
    with monkeypatch.context() as patch:
        patch.setattr(collector, "MANIFESTS", 1)
        for mutant in mutants:
            mutant(patch)
        stage = Collected(patch, trash_days=0)
        for n in range(14):  # inodes of records 2 to f, read after those of 10 and more
            stage.ok("put", (f"f{n}",), bytes([n]) * 50)
        stage.ok("put", ("first",), SMALL)
        stage.ok("put", ("second",), SMALL)
        stage.ok("put", ("f8",), BODY)
        stage.wait(AGE_S)
        stage.ok("get", ("f8",))
        patch.setattr(pace, "LEAST_S", 0.3)
        run = stage.begin_run()
        (holder,) = stage.nodes["node-1"].holdings.holders()
        reports = stage.nodes["node-1"].collector.reports
        assert stage.loop.run_until(lambda: any(report.step == "scan" for report in reports().values()), 10)
        stage.wait(1.0)  # three pages
        stage.ok("copy", ("f8",), ("copy",), False)
        stage.ok("delete", ("f8",))
        process = stage.nodes["node-1"].process
        assert process is not None
        process.start(trash.empty(holder), "empty")
        assert stage.loop.run_until(lambda: bool(run), 60)
        assert isinstance(run[0], Report)
        return stage.loop.failures


def test_a_name_that_moves_behind_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    assert renamed_behind_the_scan(monkeypatch) == []
    found = renamed_behind_the_scan(monkeypatch, forgets_what_is_named_meanwhile)
    assert any("invariant 6" in failure for failure in found)


def test_random_histories_with_the_collector_at_work() -> None:
    collected = 0.0
    for seed in range(SEEDS):
        verdict = Simulation(seed, steps=60, troubles=Troubles(every_s=4.0)).run()
        assert not verdict.failures, f"seed {seed}: {verdict.failures}"
        collected += verdict.figures["collected"]
    assert collected > 3 * SEEDS, "too little was collected"
