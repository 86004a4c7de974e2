"""A small version of ``python -m tests.growth``: what is left is what is there, in every table that could grow."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.growth.__main__ import Growth
from tests.growth.one_node import VOLUME_ID, OneNode

LOOK_ALL_S = 1.0


def test_overwrites_creates_and_deletes_leave_nothing_behind(tmp_path: Path) -> None:
    with OneNode(tmp_path, LOOK_ALL_S) as node:
        growth = Growth(node, LOOK_ALL_S, stay=500, overwrites=1200, files_=3000)
        assert growth.run()
        store = node.holder().replica.store
        assert store.floor.seq > 100
        with store.view() as view:
            assert view.usage()[0] == 501
        sizes = dict(store.document_sizes("", 10_000))
        assert node.compaction.compacted > 20
    database = sqlite3.connect(tmp_path / "volumes" / f"{VOLUME_ID}.sqlite")
    count, size = database.execute("SELECT count(*), sum(length(record)) FROM log").fetchone()
    assert count <= 1200 and size < 3 << 20
    assert database.execute("SELECT count(*) FROM document_change").fetchone()[0] < 64 * len(sizes)
    stays = database.execute("SELECT sum(length(json)) FROM manifest").fetchone()[0]
    assert sum(sizes.values()) < 2 * stays
    assert len(sizes) < 40  # of hundreds that came and went
    database.close()
