"""The checkers of what is left at the end, on good states and on such as must not be (invariants 3, 5 and 9)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from davfs.core.model import DIRECTORY, FILE, ROOT, TRASH
from davfs.core.values import NameEntry
from davfs.sim.checkers import check_kept, check_names, check_replicas
from davfs.sim.cluster import VOLUME_ID
from davfs.sim.footprint import check_growth, footprint
from tests.simulation.stage import Stage


def names(**entries: tuple[str, str, str]) -> dict[str, list[tuple[str, NameEntry]]]:
    """inode -> its one name entry (parent, name, kind)."""
    version = "0001.00000001.000000000001"
    return {inode: [(version, NameEntry(parent, name, kind, 0))] for inode, (parent, name, kind) in entries.items()}


def test_a_tree_is_one() -> None:
    assert list(check_names(names(d=(ROOT, "d", DIRECTORY), f=("d", "f", FILE), gone=(TRASH, "gone", FILE)))) == []


def test_what_is_no_tree() -> None:
    def found(**entries: tuple[str, str, str]) -> str:
        return "\n".join(check_names(names(**entries)))

    assert "cycle" in found(a=("b", "x", DIRECTORY), b=("a", "x", DIRECTORY))
    assert "orphan" in found(f=("nowhere", "f", FILE))
    assert "two entries are named 'f'" in found(f=(ROOT, "f", FILE), g=(ROOT, "f", FILE))
    assert "stands in a file" in found(f=(ROOT, "f", FILE), g=("f", "g", FILE))
    twice = names(f=(ROOT, "f", FILE))
    twice["f"] += names(f=(ROOT, "g", FILE))["f"]
    assert "has 2 names" in "\n".join(check_names(twice))


def drive() -> Stage:
    """Two files in a directory, on three replicas that are the same."""
    stage = Stage()
    for op in (("mkcol", ("d",)), ("put", ("d", "a"), b"one"), ("put", ("b",), b"x" * 100)):
        assert stage.ask("node-1", op).outcome == ("ok", True)
    stage.wait(3.0)
    return stage


def damaged(statement: str, *values: Any) -> list[str]:
    """What is found once one replica's database was changed behind its back."""
    stage = drive()
    stores = {name: node.stores[VOLUME_ID] for name, node in stage.cluster.nodes.items()}
    db = stores["node-2"]._db
    assert db.execute(statement, values).rowcount > 0
    return list(check_replicas(stores))


def test_replicas_that_differ() -> None:
    assert list(check_replicas({name: node.stores[VOLUME_ID] for name, node in drive().cluster.nodes.items()})) == []
    for statement in (
        "DELETE FROM document_change WHERE seq = (SELECT max(seq) FROM document_change)",
        "UPDATE entry SET name = 'other' WHERE name = 'b'",
        "DELETE FROM entry WHERE name = 'a'",
        "UPDATE state SET files = files + 1",
    ):
        assert any(failure.startswith("invariant 5:") for failure in damaged(statement)), statement


def test_what_was_acknowledged_by_an_available_volume_is_nowhere() -> None:
    stage = drive()
    stores = {name: node.stores[VOLUME_ID] for name, node in stage.cluster.nodes.items()}
    assert list(check_kept(stage.history, stores)) == []
    lost = stage.history.begin("c", ("put", ("lost",), b"nobody has it"))
    stage.history.end(lost, True, None)
    assert any("is nowhere" in failure for failure in check_kept(stage.history, stores))
    stage.history.end(stage.history.begin("c", ("delete", ("lost",))), True, None)
    assert list(check_kept(stage.history, stores)) == []


def test_chunks_that_are_referenced_and_removed_and_such_that_nothing_refers_to() -> None:
    stage = drive()
    nodes, collected = list(stage.cluster.nodes.values()), stage.cluster.collected
    assert collected.orphans() == []
    volume, digest = nodes[0].chunks.list()[0]
    nodes[0].chunks.remove(volume, [digest], 1 << 62)
    assert stage.loop.failures == []  # two copies are left
    nodes[1].chunks.remove(volume, [digest], 1 << 62)
    assert any(failure.startswith("invariant 6:") for failure in stage.loop.failures)
    stage.ask("node-1", ("delete", ("b",)))
    stage.cluster.nodes["node-3"].crash()
    assert stage.loop.run_until(lambda: bool(collected.orphans()), 20)


def test_what_grows() -> None:
    stage = drive()
    node = stage.cluster.nodes["node-1"]
    counts = footprint(node)
    assert counts["ClusterState.nodes"] == 3
    assert list(check_growth(counts, footprint(node), node)) == []
    grown = counts + Counter({"Service.forgotten": 60})
    assert list(check_growth(counts, grown, node)) == [
        "invariant 9: Service.forgotten of node-1 grew from 0 to 60 entries"
    ]
