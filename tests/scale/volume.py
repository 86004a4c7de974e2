"""The big volume: what it holds, and how it is built, many entries a record, by whatever commits records.

    /all                         everything below it, in a tree of directories
    /all/.../folder-N/           files / directories of them in each
    /all/thousand/               1,000 files that were made at 1,000 different times
    /all/wide/                   one directory with many files

All files share 1,000 small chunks that are really stored, unless more are asked for: metadata is what grows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from davfs.cluster.holder import RECORD_ROOM
from davfs.cluster.tail import Attachment
from davfs.core.chunking import digest_of, etag_of
from davfs.core.model import DIRECTORY, FILE, MIB, ROOT, ChunkRef, Manifest, Path
from davfs.core.namespace import Edits

SIZE_OF_EDITS = RECORD_ROOM - 4096  # what the last file of a record may take
CHUNKS = 1_000  # as many at most travel with one record
CHUNK_SIZE = 4 * MIB
THOUSAND = 1_000
FAN_OUT = 10
MADE_BEFORE_NS = 3600 * 10**9  # all files are older than the minute in which no earlier content is kept

Build: TypeAlias = Callable[[Edits], Any]
Commit: TypeAlias = Callable[[Build, Sequence[Attachment]], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many files and directories; ``wide``: files of the one directory, besides ``files``. ``fan_out``: directories in
    each directory of the tree; volumes that are compared are equally deep. ``chunks``: that all files share."""

    files: int = 1_000_000
    directories: int = 50_000
    wide: int = 100_000
    fan_out: int = FAN_OUT
    chunks: int = CHUNKS

    @property
    def total(self) -> int:
        return self.files + self.wide


@dataclass(frozen=True, slots=True)
class Item:
    """A file or directory to make: its parent's number and, for a directory, its own."""

    parent: int
    name: str
    directory: int | None = None


ALL, WIDE, SCATTERED = 0, -1, -2
_TOP = -3


def items(plan: Plan) -> Iterator[Item]:
    """Everything, parents first."""
    yield Item(_TOP, "all", ALL)
    yield Item(ALL, "wide", WIDE)
    yield Item(ALL, "thousand", SCATTERED)
    scattered = min(THOUSAND, plan.files // 2)
    every = plan.files // scattered
    made = 0
    for number in range(1, plan.directories):
        yield Item((number - 1) // plan.fan_out, f"folder-{number:05d}", number)
        for _ in range(made, plan.files * number // (plan.directories - 1)):
            yield Item(SCATTERED if made % every == 0 and made // every < scattered else number, f"report {made:07d}.pdf")
            made += 1
    for number in range(plan.wide):
        yield Item(WIDE, f"picture {number:06d}.jpeg")


def directory_path(directory: int, fan_out: int = FAN_OUT) -> Path:
    """The path of a numbered directory of the tree."""
    names: list[str] = []
    while directory != ALL:
        names.append(f"folder-{directory:05d}")
        directory = (directory - 1) // fan_out
    return ("all", *reversed(names))


def file_path(plan: Plan, number: int) -> Path:
    """The path of the ``number``-th file of the tree."""
    name = f"report {number:07d}.pdf"
    scattered = min(THOUSAND, plan.files // 2)
    every = plan.files // scattered
    if number % every == 0 and number // every < scattered:
        return ("all", "thousand", name)
    return (*directory_path(-(-(number + 1) * (plan.directories - 1) // plan.files), plan.fan_out), name)


def build(plan: Plan, nodes: tuple[str, ...], commit: Commit, writers: int, say: Callable[[str], None]) -> int:
    """Commit the whole volume, ``writers`` records at a time; how many records it took. Says every few seconds how far."""
    site = _Building(plan, nodes, say)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not site.finished and not failures:
                commit(site.next_record, site.take_attachments())
        except BaseException as error:  # told by the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=work, name=f"writer-{n}") for n in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return site.records


class _Building:
    """What is still to be made. ``next_record`` is called by the holder, under its lock, record after record."""

    def __init__(self, plan: Plan, nodes: tuple[str, ...], say: Callable[[str], None]) -> None:
        self.finished = False
        self.records = 0
        self._items = items(plan)
        self._inodes = {_TOP: ROOT}
        self._nodes, self._chunks = nodes, plan.chunks
        self._lock = threading.Lock()
        self._refs: list[ChunkRef] = []  # those that were given to a record to bring
        self._say = say
        self._made = 0
        self._total = plan.total + plan.directories
        self._began = self._said = time.monotonic()

    def take_attachments(self) -> Sequence[Attachment]:
        with self._lock:
            first = len(self._refs)
            data = [f"content number {n}".encode() * 20 for n in range(first, min(first + CHUNKS, self._chunks))]
            taken = [Attachment(digest_of(d), d) for d in data]
            self._refs += [ChunkRef(a.digest, len(a.data), self._nodes) for a in taken]
        return taken

    def next_record(self, edits: Edits) -> None:
        now = time.time_ns() - MADE_BEFORE_NS
        self.records += 1
        while edits.size < SIZE_OF_EDITS:
            item = next(self._items, None)
            if item is None:
                self.finished = True
                break
            self._make(edits, item, now)
        if time.monotonic() - self._said > 5:
            self._said = time.monotonic()
            self._say(f"  {self._made:,} of {self._total:,} in {self._said - self._began:.0f} s")

    def _make(self, edits: Edits, item: Item, now: int) -> None:
        kind = FILE if item.directory is None else DIRECTORY
        inode = edits.create(self._inodes[item.parent], item.name, kind, now)
        if item.directory is not None:
            self._inodes[item.directory] = inode
        else:
            chunk = self._refs[self._made % len(self._refs)]
            edits.write(inode, Manifest(chunk.size, now, etag_of(CHUNK_SIZE, [chunk]), CHUNK_SIZE, (chunk,)), None)
        self._made += 1
