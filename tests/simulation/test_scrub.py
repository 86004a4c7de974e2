"""The scrub over the simulated cluster: lost and rotten copies are found and repaired (invariant 7)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from davfs.cluster.scrub import START_DELAY_S, Findings, Scrub, _Page
from davfs.sim.cluster import VOLUME_ID
from tests.simulation.stage import Stage


class Scrubbed(Stage):
    """A calm cluster with some files, each with a copy on every node."""

    def __init__(self) -> None:
        super().__init__(3)
        self.digests: set[str] = set()
        for number in range(3):
            body = bytes([65 + number]) * 100
            assert self.ask("node-1", ("put", (f"f{number}",), body)).outcome == ("ok", True)
        self.loop.run_until(lambda: False, 5)
        self.chunks = self.cluster.nodes["node-2"].chunks
        self.digests = {digest for volume, digest in self.chunks.list() if volume == VOLUME_ID}
        assert self.digests

    def scrub(self, verify: bool) -> Findings:
        node = self.cluster.nodes["node-2"]
        found: list[Findings] = []

        def work():
            replica = node.replicas.get(VOLUME_ID)
            found.append((yield from Scrub(node.site, node.replicas).volume(VOLUME_ID, replica.store, verify)))

        assert node.process is not None
        node.process.start(work(), "scrub")
        assert self.loop.run_until(lambda: bool(found), 600)
        return found[0]


@pytest.mark.parametrize("verify", [False, True])
def test_nothing_is_found_where_nothing_is_wrong(verify: bool) -> None:
    stage = Scrubbed()
    found = stage.scrub(verify)
    assert (found.bad, found.repaired) == (0, 0)
    assert found.copies >= len(stage.digests)


@pytest.mark.parametrize("verify", [False, True])
def test_a_lost_copy_is_fetched(verify: bool) -> None:
    stage = Scrubbed()
    lost = sorted(stage.digests)[0]
    stage.chunks.lose(VOLUME_ID, lost)
    found = stage.scrub(verify)
    assert found.bad == found.repaired >= 1
    assert stage.chunks.has(VOLUME_ID, lost)


def test_a_rotten_copy_is_repaired() -> None:
    stage = Scrubbed()
    rotten = sorted(stage.digests)[0]
    stage.chunks.damage(VOLUME_ID, rotten)
    found = stage.scrub(verify=True)
    assert found.bad == found.repaired >= 1
    assert len(stage.chunks.get(VOLUME_ID, rotten)) > 0


def test_a_look_alone_does_not_see_rot() -> None:
    stage = Scrubbed()
    stage.chunks.damage(VOLUME_ID, sorted(stage.digests)[0])
    assert stage.scrub(verify=False).bad == 0


def test_a_copy_that_was_wrongly_collected_comes_back() -> None:
    stage = Scrubbed()
    gone = sorted(stage.digests)[0]
    stage.chunks.remove(VOLUME_ID, [gone], 1 << 62)
    assert not stage.chunks.has(VOLUME_ID, gone)
    found = stage.scrub(verify=True)
    assert found.bad == found.repaired >= 1
    assert stage.chunks.has(VOLUME_ID, gone)


def test_too_few_copies_are_reported_while_their_nodes_are_away() -> None:
    stage = Scrubbed()
    lost = sorted(stage.digests)[0]
    stage.cluster.nodes["node-1"].crash()  # node-2 leads now
    assert stage.scrub(verify=False).short == 0
    stage.cluster.nodes["node-3"].chunks.lose(VOLUME_ID, lost)
    found = stage.scrub(verify=False)
    assert found.short >= 1
    assert any(lost in example and "on node-2 of" in example for example in found.examples)


def test_a_pass_that_was_asked_for_stays_to_be_seen_when_a_node_looks_by_itself() -> None:
    stage = Scrubbed()
    node = stage.cluster.nodes["node-2"]
    scrub = Scrub(node.site, node.replicas, rate=10)  # it takes a while
    assert node.process is not None
    node.process.start(scrub.run(), "by itself")
    asked = scrub.begin(VOLUME_ID, verify=True)
    node.process.start(scrub.go(asked, node.replicas.get(VOLUME_ID).store), "asked for")
    assert stage.loop.run_until(lambda: asked.done, 600)
    assert stage.loop.now > START_DELAY_S
    assert scrub.passes[VOLUME_ID] is asked


@pytest.mark.parametrize(("table", "column"), [("entry", "name"), ("manifest", "json"), ("manifest", "version")])
def test_a_flip_inside_a_value_of_the_replica_is_told(table: str, column: str) -> None:
    stage = Scrubbed()
    db = stage.cluster.nodes["node-2"].stores[VOLUME_ID]._db
    before = db.execute(f"SELECT {column} FROM {table} ORDER BY inode LIMIT 1").fetchone()[0]
    flipped = before[:-2] + chr(ord(before[-2]) ^ 1) + before[-1]
    db.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (flipped, before))
    db.commit()
    found = stage.scrub(verify=True)
    assert found.damage == 1
    assert any("the replica on node-2: index" in example for example in found.examples)
    assert stage.scrub(verify=False).damage == 0  # a quick pass looks at copies alone


class Kept:
    """A book in memory."""

    def __init__(self) -> None:
        self.passes: list[dict[str, Any]] = []

    def load(self) -> list[dict[str, Any]]:
        return self.passes

    def save(self, passes: Sequence[Mapping[str, Any]]) -> None:
        self.passes = [dict(one) for one in passes]


def test_a_node_that_is_restarted_again_and_again_verifies_in_time() -> None:
    stage, book = Scrubbed(), Kept()
    node = stage.cluster.nodes["node-2"]
    assert node.process is not None
    verified = []
    for _ in range(5):  # 100 s each time, and a pass is due every 250 s
        scrub = Scrub(node.site, node.replicas, 250.0, book=book)
        node.process.start(scrub.run(), "scrub")
        stage.loop.run_until(lambda: False, 100)
        scrub.stop()
        verified.append(scrub.passes[VOLUME_ID].verify)
    assert verified == [False, False, False, True, False]
    assert Scrub(node.site, node.replicas, book=book).passes[VOLUME_ID].done


def test_a_kept_pass_that_is_none_is_passed_over() -> None:
    stage, book = Scrubbed(), Kept()
    timeless = {"volume": VOLUME_ID, "verify": True, "began_ns": "never", "found": {}}
    book.save([{"volume": VOLUME_ID}, {"found": {}}, {"volume": VOLUME_ID, "strange": 1, "found": {}}, timeless])
    node = stage.cluster.nodes["node-2"]
    assert Scrub(node.site, node.replicas, book=book).passes == {}


def test_what_is_overwritten_while_a_pass_is_under_way_is_not_brought_back() -> None:
    stage = Scrubbed()
    store = stage.cluster.nodes["node-2"].replicas.get(VOLUME_ID).store
    with store.view() as view:
        held = view.manifests("", 3)
    page, chunks = _Page(store, "", held[-1][0]), [manifest.chunks[0] for _, manifest in held]
    assert all(map(page.names, chunks))
    for number in (0, 1):
        assert stage.ask("node-1", ("put", (f"f{number}",), b"new")).outcome == ("ok", False)
    stage.loop.run_until(lambda: False, 1)
    assert sum(map(page.names, chunks)) == 1
