"""``python -m tests.crash``: records, restarts from every crash point, and prints the tables of docs/TESTING.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.crash import points, real, scenarios
from tests.crash.broken import BREAKS
from tests.crash.points import Point, Row
from tests.crash.restart import Restarter, restarters

MEMORY = Path("/dev/shm")


def main() -> int:
    """0 if nothing wrong was found and each careless davfs was."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--recording", action="append", choices=scenarios.RECORDINGS, help="this one only; repeatable")
    parser.add_argument("--scenario", action="append", default=[], metavar="NAME", help="its points only; repeatable")
    parser.add_argument(
        "--widest", type=int, default=8, help="of so many changes that may be lost, each is (default 8)"
    )
    parser.add_argument(
        "--real", type=int, default=2, metavar="N", help="real node processes for each scenario (default 2)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--broken", action="store_true", help="only show that broken davfs is found")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="davfs-crash-", dir=memory) as scratch,
        restarters(arguments.jobs) as workers,
    ):
        good = _broken(Path(scratch), workers) if arguments.broken else _whole(arguments, Path(scratch), workers)
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if good else 1


def _whole(arguments: argparse.Namespace, scratch: Path, workers: list[Restarter]) -> bool:
    good = True
    print(
        "| scenario | prefixes | points | states restarted | real processes | wrong |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name in arguments.recording or scenarios.RECORDINGS:
        folder = scratch / name
        folder.mkdir()
        recording = scenarios.RECORDINGS[name](folder / "cluster", folder)
        sample = real.Sample(arguments.real, arguments.seed)

        def looked_at(found: Iterator[Point], sample: real.Sample = sample, folder: Path = folder) -> Iterator[Point]:
            for point in found:
                sample.offer(point, folder)
                yield point

        found = points.points(recording, arguments.scenario, arguments.widest, arguments.seed)
        rows = points.run(looked_at(found), workers, folder / "states", tell=_progress)
        sample.run(rows, folder)
        for scenario, row in rows.items():
            print(
                f"| {scenario} | {row.prefixes} | {row.points} | {row.states} | {row.processes} | {len(row.wrong)} |",
                flush=True,
            )
            for text in row.wrong[:10]:
                print(f"{scenario}: {text}", file=sys.stderr)
            good = good and not row.wrong
    return good


def _progress(rows: dict[str, Row]) -> None:
    if sys.stderr.isatty():
        last = list(rows)[-1]
        print(f"\r{last}: {rows[last].states} states   ", end="", file=sys.stderr)


def _broken(scratch: Path, workers: list[Restarter]) -> bool:
    """Record davfs broken in each way, and look until a crash shows it."""
    good = True
    print("| broken | found after states | by |\n| --- | --- | --- |")
    for number, name in enumerate(BREAKS):
        folder = scratch / str(number)
        folder.mkdir()
        recording = scenarios.short(folder / "cluster", folder, broken=name)
        found = (p for p in points.points(recording, widest=0) if p.left.keep.name in ("all", "synced", "names"))
        rows = points.run(found, workers, folder / "states", stop_at=1)
        wrong = [text for row in rows.values() for text in row.wrong]
        good = good and bool(wrong)
        print(
            f"| {name} | {sum(row.states for row in rows.values())} | {wrong[0] if wrong else 'NOTHING'} |", flush=True
        )
    return good


if __name__ == "__main__":
    sys.exit(main())
