"""``python -m tests.growth``: 100,000 overwrites of one file, 1,000,000 creates and deletes; what is left in the end.

Beside them lies a tree that stays. Disk and memory are measured when only that is there, and again after each part, when
trimming and compaction, which run by themselves, have nothing left to do: they must be back within a factor of two.
Prints a table; exit code 1 when they are not.
"""

from __future__ import annotations

import argparse
import gc
import io
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from davfs.cluster import files, trash
from davfs.cluster.api import Caller
from davfs.core.model import DIRECTORY, FILE, ROOT, ChunkRef, Entry, Manifest
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView
from davfs.node import memory
from tests.growth.one_node import NODE, VOLUME_ID, OneNode

IN_RECORD = 100
WRITERS = 2
SAY_EVERY = 50_000
LOOK_ALL_S = 5.0
SETTLE_LIMIT_S = 3600.0
MIB = 1 << 20
FACTOR = 2.0


@dataclass(frozen=True)
class Measure:
    """One line of the table: bytes on disk and resident, when the work ended and when everything has settled."""

    what: str
    seconds: float
    ended_disk: int
    disk: int
    ended_memory: int
    memory: int
    settled_s: float

    def row(self) -> str:
        figures = (self.ended_disk, self.disk, self.ended_memory, self.memory)
        sizes = "".join(f"{figure / MIB:>12.1f}" for figure in figures)
        return f"{self.what:<34}{self.seconds:>9.1f}{sizes}{self.settled_s:>10.1f}"


HEAD = f"{'':<34}{'seconds':>9}{'disk, MiB':>12}{'settled':>12}{'memory, MiB':>12}{'settled':>12}{'after, s':>10}"


class Growth:
    """The parts, on one node."""

    def __init__(self, node: OneNode, look_all_s: float, stay: int, overwrites: int, files_: int) -> None:
        self._node = node
        self._look_all_s = look_all_s
        self._stay, self._overwrites, self._files = stay, overwrites, files_
        self.measures: list[Measure] = []

    def run(self) -> bool:
        """Whether disk and memory came back within the factor after each part."""
        print(HEAD)
        self._part(f"{self._stay:,} files that stay", self._build)
        self._part(f"{self._overwrites:,} overwrites of one file", self._overwrite)
        self._part(f"{self._files:,} files made and deleted", self._come_and_go)
        first, *others = self.measures
        return all(m.disk <= FACTOR * first.disk and m.memory <= FACTOR * first.memory for m in others)

    def _part(self, what: str, work: Callable[[], None]) -> None:
        began = time.monotonic()
        work()
        took = time.monotonic() - began
        ended = disk(self._node.directory), resident()
        settled = self._settle()
        measure = Measure(what, took, ended[0], disk(self._node.directory), ended[1], resident(), settled)
        self.measures.append(measure)
        print(measure.row(), flush=True)

    def _settle(self) -> float:
        """Wait until trimming and compaction have nothing left to do: nothing changes while all is looked at twice."""
        began = changed = time.monotonic()
        before = self._state()
        quiet = self._node.compaction.quiet
        while time.monotonic() - changed < 2 * self._look_all_s + 3 or self._node.compaction.quiet < quiet + 2:
            assert time.monotonic() - began < SETTLE_LIMIT_S, "it does not come to rest"
            time.sleep(0.5)
            if (now := self._state()) != before:
                before, changed = now, time.monotonic()
        gc.collect()
        return changed - began

    def _state(self) -> tuple[int, int, int]:
        store = self._node.replicas.get(VOLUME_ID).store  # without taking the volume, which compaction would give way to
        return disk(self._node.directory), self._node.compaction.compacted, store.floor.seq

    # --- the parts --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        parent = self._make_directory("stays")
        for first in range(0, self._stay, IN_RECORD):
            self._create(parent, first, min(IN_RECORD, self._stay - first))

    def _overwrite(self) -> None:
        contents = [bytes([n]) * 500 for n in range(10)]
        for number in range(self._overwrites):
            read = io.BytesIO(contents[number % 10]).read
            holder = self._node.holder()
            self._node.run(
                files.put(holder, ("overwritten",), read, 500, None, lambda entry: None, Caller(), lambda: None)
            )

    def _come_and_go(self) -> None:
        """Some clients make a thousand each and delete them, again and again; the trash is emptied behind them."""
        share, over = self._files // WRITERS, threading.Event()
        with ThreadPoolExecutor(WRITERS + 1) as pool:
            writers = [pool.submit(self._turns, f"comes-and-goes-{n}", n * share, (n + 1) * share) for n in range(WRITERS)]
            emptier = pool.submit(self._keep_empty, over)
            try:
                for writer in writers:
                    writer.result()
            finally:
                over.set()
            emptier.result()

    def _turns(self, name: str, first: int, last: int) -> None:
        parent = self._make_directory(name)
        for turn in range(first, last, 10 * IN_RECORD):
            for part in range(turn, min(turn + 10 * IN_RECORD, last), IN_RECORD):
                self._create(parent, part, min(IN_RECORD, last - part))
            for entries in self._members(parent):
                self._delete(entries)
            done = min(turn + 10 * IN_RECORD, last) - first
            if done % SAY_EVERY == 0:
                sizes = f"{disk(self._node.directory) / MIB:.1f} MiB of disk, {resident() / MIB:.1f} MiB of memory"
                print(f"  {name}: {done:,} of {last - first:,}; {sizes}", file=sys.stderr, flush=True)

    def _keep_empty(self, over: threading.Event) -> None:
        while not over.is_set():
            self._node.run(trash.empty(self._node.holder()))
            over.wait(0.05)
        self._node.run(trash.empty(self._node.holder()))

    def _make_directory(self, name: str) -> str:
        made: list[str] = []
        self._commit(lambda edits: made.append(edits.create(ROOT, name, DIRECTORY, 1)))
        return made[0]

    def _create(self, parent: str, first: int, count: int) -> None:
        def build(edits: Edits) -> None:
            for number in range(first, first + count):
                chunk = ChunkRef(f"{number:064x}", 1000, (NODE,))
                inode = edits.create(parent, f"file number {number}.txt", FILE, number)
                edits.write(inode, Manifest(1000, number, f"{number:032x}", 4 * MIB, (chunk,)), None)

        self._commit(build)

    def _members(self, parent: str) -> Iterator[list[Entry]]:
        with self._view() as view:
            entries = view.children(parent)
        for first in range(0, len(entries), IN_RECORD):
            yield entries[first : first + IN_RECORD]

    def _delete(self, entries: list[Entry]) -> None:
        with self._view() as view:
            contents = [held[0] if (held := view.manifest(entry.inode)) is not None else "" for entry in entries]

        def build(edits: Edits) -> None:
            for entry, content in zip(entries, contents, strict=True):
                edits.trash(entry, content)

        self._commit(build)

    def _view(self) -> AbstractContextManager[IndexView]:
        return self._node.holder().replica.store.view()

    def _commit(self, build: Callable[[Edits], object]) -> None:
        self._node.run(self._node.holder().commit(build, ""))


def disk(directory: Path) -> int:
    """Bytes that the files take."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def resident() -> int:
    """This process's resident memory, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmRSS")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.growth", description=__doc__)
    parser.add_argument("--stay", type=int, default=100_000)
    parser.add_argument("--overwrites", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--dir", type=Path, help="where to work; a folder in memory, for one, makes it quicker")
    wanted = parser.parse_args(arguments)
    memory.tune()
    directory = Path(tempfile.mkdtemp(prefix="davfs-growth-", dir=wanted.dir))
    try:
        with OneNode(directory, LOOK_ALL_S) as node:
            small = Growth(node, LOOK_ALL_S, wanted.stay, wanted.overwrites, wanted.files).run()
        return 0 if small else 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
