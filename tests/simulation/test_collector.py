"""The collector: what goes, what stays, who may be down; invariant 6 watched at each removal (``davfs/sim/collected.py``)."""

from __future__ import annotations

from typing import Any

import pytest

from davfs.cluster import collecting, collector_runs, copying, files, trash
from davfs.cluster.api import Caller
from davfs.core.errors import DavfsError, IncompleteBody
from davfs.core.model import TRASH
from davfs.sim.cluster import TIMING, VOLUME_ID
from tests.simulation.collected import AGE_S, BODY, OTHER, SMALL, Collected
from tests.simulation.stage import Stage


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
