"""The collector against what races it: invariant 6, watched at each removal (``davfs/sim/collected.py``).

Each race is also played with its safeguard taken out, and is then found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from davfs.cluster import collecting, collector, collector_runs, copying, files, pace, trash
from davfs.cluster.api import Caller
from davfs.cluster.chunk_write import Upload
from davfs.cluster.collecting import Collecting
from davfs.cluster.collector import Report
from davfs.cluster.in_use import InUse
from davfs.core import keys, values
from davfs.core.chunking import digest_of
from davfs.core.effects import Protocol_
from davfs.core.errors import DavfsError, IncompleteBody
from davfs.core.model import TRASH, ChunkRef, Epoch, Manifest, Position
from davfs.core.record import OPERATION, DocumentChange, Record, encode
from davfs.sim import cluster as sim_cluster
from davfs.sim.cluster import TIMING, VOLUME_ID
from davfs.sim.faults import Troubles
from davfs.sim.memory_chunks import MemoryChunkStore
from davfs.sim.replica_store import WatchedStore
from davfs.sim.simulation import Simulation
from davfs.storage.index_view import SqliteIndexView
from tests.simulation.stage import Stage

SEEDS = 6
BODY = b"x" * 100  # three chunks of 40, 40 and 20 bytes
OTHER = bytes(range(100))
SMALL = b"small"
AGE_S = TIMING.grace + 1


class Collected(Stage):
    """A calm cluster whose collector runs only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int = 1, trash_days: int = 7) -> None:
        monkeypatch.setattr(sim_cluster, "COLLECT_EVERY_S", 1e9)
        monkeypatch.setattr(sim_cluster, "TRASH_DAYS", trash_days)
        super().__init__(seed)
        self.nodes = self.cluster.nodes

    def ok(self, *op: Any, node: str = "node-1") -> Any:
        outcome = self.ask(node, op).outcome
        assert outcome is not None
        assert outcome[0] == "ok", outcome
        return outcome[1]

    def wait(self, seconds: float) -> None:
        self.loop.run_until(lambda: False, seconds)

    def begin_run(self, node: str = "node-1", dry_run: bool = False) -> list[Report | BaseException]:
        """Start a run by the holder; the list gets its report or its error."""
        if not self.nodes[node].holdings.holders():
            self.ask(node, ("get", ("a",)))  # it takes the volume
        simulated = self.nodes[node]
        ended: list[Report | BaseException] = []
        (holder,) = simulated.holdings.holders()
        assert simulated.process is not None
        simulated.process.run(
            simulated.collector.collect(holder, dry_run),
            lambda report, error: ended.append(report if error is None else error),
            ("collect",),
        )
        return ended

    def run_collector(self, node: str = "node-1", dry_run: bool = False) -> Report:
        ended = self.begin_run(node, dry_run)
        assert self.loop.run_until(lambda: bool(ended), 60)
        assert isinstance(ended[0], Report), ended[0]
        return ended[0]

    def copies(self, body: bytes) -> int:
        return min(self.cluster.collected.copies(digest_of(body[at : at + 40])) for at in range(0, len(body), 40))

    def delay(self, method: str, seconds: float) -> None:
        self.cluster.network.extra_delay = lambda node, called: seconds if called == method else 0.0


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Collected:
    return Collected(monkeypatch)


def test_what_was_overwritten_goes_everywhere_and_the_rest_stays(stage: Collected) -> None:
    stage.ok("put", ("a",), BODY)
    stage.ok("put", ("s",), SMALL)
    stage.ok("put", ("a",), OTHER)
    stage.ok("put", ("s",), b"other")
    assert stage.run_collector().unused == 0  # too young
    stage.wait(AGE_S)
    dry = stage.run_collector(dry_run=True)
    assert (dry.unused, stage.copies(BODY), stage.copies(SMALL)) == (9, 3, 3)  # "x"*40 is one chunk, "x"*20, "small"
    report = stage.run_collector()
    assert report.unused == sum(found.removed for found in report.nodes.values()) == 9
    assert sum(found.removed_bytes for found in report.nodes.values()) == 3 * (40 + 20 + 5)
    assert (stage.copies(BODY), stage.copies(SMALL), stage.copies(OTHER), stage.copies(b"other")) == (0, 0, 3, 3)
    assert stage.run_collector().unused == 0
    assert stage.ok("get", ("a",)) == OTHER
    stage.wait(TIMING.quarantine + 70)
    assert all(node.chunks._aside == {} for node in stage.nodes.values())
    assert not stage.loop.failures


def test_the_trash_and_copies_are_references(stage: Collected) -> None:
    stage.ok("put", ("a",), BODY)
    stage.ok("put", ("b",), OTHER)
    stage.ok("copy", ("a",), ("c",), False)
    stage.ok("delete", ("a",))
    stage.ok("delete", ("b",))
    stage.wait(AGE_S)
    assert stage.run_collector().unused == 0
    assert stage.ok("get", ("c",)) == BODY
    assert stage.copies(OTHER) == 3


def _below_the_trash(stage: Collected) -> list[Any]:
    with stage.nodes["node-2"].stores[VOLUME_ID].view() as view:
        return view.children(TRASH)


def test_the_trash_is_emptied_tree_by_tree_and_its_chunks_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trash, "AT_ONCE", 3)
    stage = Collected(monkeypatch, trash_days=0)
    for top in ("t", "kept"):
        stage.ok("mkcol", (top,))
        stage.ok("mkcol", (top, "d"))
        for n in range(5):
            stage.ok("put", (top, "d", f"f{n}"), bytes([n]) * 100)
    stage.ok("put", ("t", "only"), BODY)
    stage.ok("delete", ("t",))
    stage.ok("put", ("a",), b"a")
    stage.wait(AGE_S)
    report = stage.run_collector()
    assert report.emptied == 8  # t, t/d and six files
    assert report.unused == 6  # BODY's two chunks on each node: the others are in kept, too
    stage.wait(1)
    assert _below_the_trash(stage) == []
    assert stage.ok("get", ("kept", "d", "f4")) == bytes([4]) * 100
    assert (stage.copies(BODY), stage.loop.failures) == (0, [])


def test_a_copy_that_is_being_made_under_the_trash_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "BATCH_BYTES", 300)  # an entry or two in a record
    stage = Collected(monkeypatch, trash_days=0)
    stage.ok("mkcol", ("d",))
    for n in range(6):
        stage.ok("put", ("d", f"f{n}"), bytes([n]) * 100)
    copy = stage.begin("node-1", ("copy", ("d",), ("e",), False))
    assert stage.loop.run_until(lambda: bool(_below_the_trash(stage)), 10)
    stage.run_collector()
    assert stage.loop.run_until(lambda: bool(copy), 30)
    assert list(stage.ok("list", ("e",))) == [f"f{n}" for n in range(6)]
    assert stage.ok("get", ("e", "f5")) == bytes([5]) * 100


def test_segments_that_no_file_names_are_dropped_and_then_their_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_runs, "LEAST_PATIENCE_S", 1.0)
    stage = Collected(monkeypatch)
    old = b"".join(b"%040d" % n for n in range(300))  # 300 chunks of 40 bytes: two segments
    new = b"".join(b"%040d" % n for n in range(1000, 1300))
    stage.ok("put", ("a",), old)
    stage.ok("copy", ("a",), ("copy",), False)  # names the same segments
    stage.ok("put", ("a",), new)
    stage.wait(AGE_S)
    assert stage.run_collector().superseded == []
    stage.ok("put", ("copy",), b"small")
    stage.wait(AGE_S)
    seen = stage.run_collector()
    assert (len(seen.superseded), seen.dropped, seen.unused) == (2, 0, 0)
    stage.wait(TIMING.quarantine * 1.1)  # its clock may run slower
    assert stage.run_collector().dropped == 2
    stage.wait(1)
    with stage.nodes["node-2"].stores[VOLUME_ID].view() as view:
        assert len(view.segments(("", -1), 100)) == 2
    report = stage.run_collector()
    assert (report.superseded, report.unused) == ([], 900)
    assert stage.ok("get", ("a",)) == new
    assert not stage.loop.failures


def test_one_node_down_for_good_does_not_keep_the_others_from_it(stage: Collected) -> None:
    stage.ok("put", ("a",), BODY)
    stage.ok("put", ("a",), OTHER)
    stage.nodes["node-3"].crash()
    stage.wait(AGE_S)
    report = stage.run_collector()
    assert list(report.skipped) == ["node-3"]
    assert report.unused == 4
    stage.nodes["node-3"].start()
    stage.wait(AGE_S)
    assert stage.run_collector().unused == 2
    assert (stage.copies(BODY), stage.copies(OTHER)) == (0, 3)


def test_a_run_that_takes_long_is_a_use_of_the_volume(stage: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes with many chunks, and nobody who asks for the volume meanwhile: it is not given back under the run's feet."""
    monkeypatch.setattr(collecting, "PAGE", 1)
    stage.ok("put", ("a",), BODY)
    stage.delay("chunk.collect_page", TIMING.call)
    began = stage.loop.now
    report = stage.run_collector()
    assert stage.loop.now - began > 2 * TIMING.idle
    assert (report.skipped, report.step) == ({}, "done")
    assert [found.seen for found in report.nodes.values()] == [2, 2, 2]


def test_too_few_replicas_collect_nothing(stage: Collected) -> None:
    stage.ok("put", ("a",), BODY)
    stage.ok("put", ("a",), OTHER)
    stage.wait(AGE_S)
    stage.ok("get", ("a",))
    for name in ("node-2", "node-3"):
        stage.nodes[name].crash()
    ended = stage.begin_run()
    assert stage.loop.run_until(lambda: bool(ended), 60)
    assert isinstance(ended[0], DavfsError)
    assert stage.cluster.collected.removed == 0


def _upload_that_breaks_off(stage: Stage) -> None:
    """A client announces 200 bytes and goes away after 100."""
    (holder,) = stage.cluster.nodes["node-1"].holdings.holders()
    process, blocks, ended = stage.cluster.nodes["node-1"].process, iter([bytes(100), b""]), []
    assert process is not None
    work = files.put(holder, ("b",), lambda size: next(blocks), 200, 1, lambda entry: None, Caller("c"), lambda: None)
    process.run(work, lambda value, error: ended.append(error), ("put",))
    assert stage.loop.run_until(lambda: bool(ended), 10)
    assert isinstance(ended[0], IncompleteBody)


@pytest.mark.parametrize("held", [True, False])
def test_what_a_failed_upload_has_left_goes_although_nothing_changes_any_more(held: bool) -> None:
    stage = Stage()
    assert stage.ask("node-1", ("put", ("a",), BODY)).outcome == ("ok", True)
    for _ in range(12):  # runs have come to their end, and a holder that is idle would have freed the volume
        stage.wait(1.0)
        assert stage.ask("node-1", ("get", ("a",))).outcome == ("ok", BODY)
    _upload_that_breaks_off(stage)
    assert stage.cluster.collected.orphans()
    for _ in range(24):
        stage.wait(1.0)
        assert not held or stage.ask("node-1", ("get", ("a",))).outcome == ("ok", BODY)
    assert stage.cluster.collected.orphans() == []


# --- races, each also with its safeguards taken out -------------------------------------------------------------------


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
    assert named_by_a_late_record(monkeypatch, forgets_late_records) == 0


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
