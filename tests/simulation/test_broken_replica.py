"""A replica whose database is damaged: its node stops serving the volume, others do, and it is no hindrance to anybody."""

import sqlite3

import pytest

from davfs.sim.cluster import VOLUME_ID
from tests.simulation.stage import Stage


def damage(stage: Stage, node: str, table: str) -> None:
    """What SQLite meets on a bad page: the root of a table is not where its schema says."""
    store = stage.cluster.nodes[node].stores[VOLUME_ID]
    db: sqlite3.Connection = store._db
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET rootpage = 999999 WHERE name = ?", (table,))
    db.execute("PRAGMA writable_schema = RESET")


@pytest.mark.parametrize("table", ["entry", "log"])
@pytest.mark.parametrize("nodes", [3, 5])
def test_a_holder_with_a_damaged_replica_gives_the_volume_up(table: str, nodes: int) -> None:
    stage = Stage(0, nodes)
    cluster, loop = stage.cluster, stage.loop
    replicas = cluster.nodes["node-1"].state.volumes[VOLUME_ID].replicas
    first = replicas[0]
    asking = [first, next(name for name in reversed(cluster.names) if name != first)]
    assert stage.ask(first, ("put", ("a",), b"one")).outcome == ("ok", True)
    damage(stage, first, table)
    began = loop.now
    for number, node in enumerate(asking * 2):
        while stage.ask(node, ("put", ("b",), b"%d" % number)).ended is None:
            assert loop.now - began < 10, "it must be served again within two ttl"
            loop.run_until(lambda: False, 0.2)
        assert stage.ask(node, ("get", ("a",))).outcome == ("ok", b"one")
        assert stage.ask(node, ("get", ("b",))).outcome == ("ok", b"%d" % number)
    assert cluster.nodes[first].holdings.held() == []
    assert not loop.failures
