"""``python -m tests.scale``: build a volume of a million files on three real nodes and measure what it costs.

``--dir DIR`` keeps what was built there, for measuring again; otherwise everything is removed at the end. The table goes to
the screen and to ``--out FILE``. Full size takes some minutes and about 6 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

from tests.scale.commits import Changes, Taken
from tests.scale.large_file import GIB, LargeFile
from tests.scale.local import NODE, Alone, alone
from tests.scale.nodes import VOLUME, build_on, collected, databases, missed, serving, walked
from tests.scale.table import Table, middle
from tests.scale.volume import CHUNKS, THOUSAND, Plan, build
from tests.support.cluster import DevCluster

SMALL = Plan(1_000, 50, 100, 2)
GOAL_COMMIT_MS = 3.0
GOAL_RATIO = 1.5
GOAL_MS = 5.0
MIB = 1 << 20


def commits(database: Path, plan: Plan, table: Table, count: int) -> None:
    """Changes of the big volume and of a small one, in one process: a node's replica and its holder."""
    folder = Path(tempfile.mkdtemp(prefix="davfs-scale-", dir=database.parent))
    try:
        shutil.copy(database, folder / database.name)
        with alone(folder / database.name, database.stem) as big, _small(folder) as small:
            _compare(big, small, plan, table, count)
            taken = Taken()
            taken.more(lambda: lambda: big.held.children(("all", "thousand")), 100)
            name = f"list {min(THOUSAND, plan.files // 2):,} files made at as many times"
            table.add(name, str(taken), f"{GOAL_MS:.0f} ms", middle(taken.wall) <= GOAL_MS)
    finally:
        shutil.rmtree(folder)


def _small(folder: Path) -> AbstractContextManager[Alone]:
    (folder / "small").mkdir()
    return alone(folder / "small" / "v.sqlite", "cd" * 16)


def _compare(big: Alone, small: Alone, plan: Plan, table: Table, count: int) -> None:
    build(SMALL, (NODE,), lambda make, chunks: small.runtime.run(small.holder.commit(make, "", chunks)), 1, print)
    few, many = Changes(small.held, SMALL), Changes(big.held, plan)
    for name in many.kinds:
        # By turns, so that a machine that grows slower meanwhile does so for both.
        taken = {"small": Taken(), "big": Taken()}
        for _ in range(5):
            taken["small"].more(few.kinds[name], count // 5)
            taken["big"].more(many.kinds[name], count // 5)
        value, before = taken["big"].wall, taken["small"].wall
        goal = GOAL_MS if name.startswith("rename of") else GOAL_COMMIT_MS
        table.add(f"commit: {name}", str(taken["big"]), f"{goal:.0f} ms", middle(value) <= goal)
        table.add(f"... among {SMALL.files:,} files", str(taken["small"]))
        ratio, of_cpu = middle(value) / middle(before), middle(taken["big"].cpu) / middle(taken["small"].cpu)
        table.add("... how many times as long", f"{ratio:.2f}; CPU {of_cpu:.2f}", f"{GOAL_RATIO}", ratio <= GOAL_RATIO)


def large_file(folder: Path, table: Table) -> None:
    """A file of 100 GiB, alone in a volume."""
    folder.mkdir()
    try:
        with alone(folder / "v.sqlite", "ef" * 16) as drive:
            file = LargeFile(drive, ("large",))
            made = file.resize(100 * GIB)
            table.add("100 GiB, 25,600 chunks made: records", f"{made.records}, {made.size / MIB:.1f} MiB, one manifest")
            for name, position in (("append 10 bytes", None), ("write 10 bytes in the middle", 50 * GIB + 5)):
                began = time.perf_counter()
                cost = file.write(position, b"ten bytes!")
                table.add(
                    f"100 GiB: {name}",
                    f"{cost.segments} of 101 segments, {cost.size / 1024:.0f} KiB of records,"
                    f" {(time.perf_counter() - began) * 1e3:.0f} ms with its chunk of 4 MiB",
                    "not the whole list", cost.segments == 1,
                )  # fmt: skip
    finally:
        shutil.rmtree(folder)


def main() -> int:
    options = _options()
    plan = Plan(options.files, options.directories, options.wide, chunks=options.chunks)
    directory = options.dir or Path(tempfile.mkdtemp(prefix="davfs-scale-"))
    directory.mkdir(parents=True, exist_ok=True)
    built = directory / "built"
    table, load = Table(), os.getloadavg()[0]
    drive = DevCluster(directory / "drive", options.nodes, (VOLUME,), options=("--session-idle", "2"))
    try:
        if not built.exists():
            print(f"building {plan.total:,} files in {plan.directories:,} directories on {options.nodes} nodes", flush=True)
            drive.start()
            began = time.monotonic()
            build_on(drive, plan, lambda text: print(text, flush=True))
            table.add("building it", f"{time.monotonic() - began:.0f} s")
            drive.stop()
            built.write_text(repr(plan))
        assert built.read_text() == repr(plan), f"{directory} holds {built.read_text()}"
        database = databases(drive)[0]
        table.add("a node's database", f"{database.stat().st_size / MIB:.0f} MiB")
        serving(drive, plan, table)
        walked(drive, plan, table)
        collected(drive, plan, table)
        missed(drive, plan, table)
        drive.stop()
        commits(database, plan, table, options.count)
        large_file(directory / "large", table)
    finally:
        drive.destroy()
        if options.dir is None:
            shutil.rmtree(directory)
    page = _page(plan, load, table)
    print(page)
    if options.out:
        options.out.write_text(page, "utf-8")
    return 0 if all(row.met is not False for row in table.rows) else 1


def _page(plan: Plan, load: float, table: Table) -> str:
    head = (
        f"{plan.files:,} files in {plan.directories:,} directories, and one directory of {plan.wide:,} files\n\n"
        f"- {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {os.cpu_count()} CPUs, {platform.system()}"
        f" {platform.release()}, Python {platform.python_version()}; load average {load:.1f} before,"
        f" {os.getloadavg()[0]:.1f} after\n\n"
    )
    return head + table.markdown()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--directories", type=int, default=50_000)
    parser.add_argument("--wide", type=int, default=100_000, help="files in one directory, besides --files")
    parser.add_argument("--chunks", type=int, default=CHUNKS, help="that all files share; each takes half a KiB on each node")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--count", type=int, default=200, help="changes of each kind, 250 at most")
    parser.add_argument("--dir", type=Path, help="keep what is built here, and use what is there")
    parser.add_argument("--out", type=Path, help="write the table here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
