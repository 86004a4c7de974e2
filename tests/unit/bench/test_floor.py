"""The floor of compat.bench: its two processes answer what the run asks, and store what they answer for."""

from contextlib import ExitStack
from pathlib import Path

from compat.bench.load import Payload, Target, operations
from compat.bench.peers import floor
from compat.bench.site import Site

SIZES = [1024, 1 << 20]


def test_the_floor_answers_each_row_that_it_measures(tmp_path: Path) -> None:
    rows = operations(SIZES)
    with ExitStack() as stack:
        running = floor.start(Site(tmp_path, stack))
        target = Target("floor", running.url, Payload(1 << 20))
        stack.callback(target.finish)
        target.prepare(SIZES)  # reads each size back and compares its digest
        target.wake()
        for row in rows:
            if floor.measures(row) or row.key.startswith("put-"):
                target.turn(row, 0)  # raises when an answer is not the one wanted
        target.after_round(SIZES, 0)
    written = (tmp_path / "floor-data/own.log").read_bytes()
    assert written == (tmp_path / "floor-data/replica.log").read_bytes()
    assert written.startswith(bytes(4096))
    unmeasured = [row.key for row in rows if not floor.measures(row)]
    assert unmeasured == [f"put-{1 << 20}", "propfind-0", "propfind-0-again", "propfind-1"]
