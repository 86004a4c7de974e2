"""``davfs volume import``: the entries of a tar archive into a volume, through whichever node holds it.

Small files travel many at a time and appear together, a large one appears when it is whole. What is in the way stops the import
unless it is told to be kept or replaced. If the volume's holder is lost meanwhile, the next goes on. Memory is bounded.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgpack

from davfs.cli.archive import Member, Reader
from davfs.cli.at_holder import AtHolder
from davfs.cli.progress import Progress, size
from davfs.cli.remote import Remote, add_config, connect
from davfs.core.errors import ConfigError, CorruptData, DavfsError, InvalidInput
from davfs.core.model import DIRECTORY
from davfs.core.names import check_path

SMALL_BYTES = 256 << 10
"""Larger files are cut into chunks here."""

BATCH_BYTES = 4 << 20
BATCH_WEIGHT = 200 << 10
"""About how large a record of one batch may become."""

BATCH_ITEMS = 200
WINDOW = 4
PUT_TIMEOUT = 120.0
CHUNK_TIMEOUT = 30.0


def register(actions: Any) -> None:
    """Add the action to ``davfs volume``."""
    text = "make the files and directories of a tar archive in a volume, with times and properties"
    action = actions.add_parser("import", help=text, description=__doc__)
    action.add_argument("name", metavar="VOLUME")
    action.add_argument("file", metavar="FILE", help="- for standard input; may be compressed (gzip, bzip2, xz)")
    add_config(action)
    choice = action.add_mutually_exclusive_group()
    choice.add_argument("--overwrite", action="store_true", help="replace files that are there")
    choice.add_argument("--keep", action="store_true", help="leave files as they are that are there: goes on with an import")
    action.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Import; exit code 1 if something of the archive could not be made."""
    mode = "replace" if arguments.overwrite else "keep" if arguments.keep else "refuse"
    with _opened(arguments.file) as stream, connect(arguments.config) as remote, tempfile.TemporaryFile() as spool:
        work = Import(remote, arguments.name, mode, spool)
        try:
            work.run(Reader(stream))
        except DavfsError as error:
            work.progress.end(f"imported: {work.told()}")
            hint = "What was imported stays: --keep goes on and leaves what is there, --overwrite replaces it"
            raise type(error)(f"{error.message}. {hint}") from error
    work.progress.end(f"imported: {work.told()}")
    for text in work.skipped:
        print(f"davfs: not imported: {text}", file=sys.stderr)
    return 1 if work.skipped else 0


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        if sys.stdin.isatty():
            raise ConfigError("an archive is expected on standard input")
        yield sys.stdin.buffer
        return
    if not Path(name).is_file():
        raise ConfigError(f"{name} is no file")
    with Path(name).open("rb") as stream:
        yield stream


class Import:
    """One import into one volume. ``skipped``: what was left out, and why."""

    def __init__(self, remote: Remote, volume: str, mode: str, spool: IO[bytes]) -> None:
        self.progress = Progress()
        self.skipped: list[str] = []
        self._counts = {"created": 0, "replaced": 0, "kept": 0}
        self._bytes = 0
        self._volume = volume
        self._mode = mode
        self._at = AtHolder(remote, volume)
        self._chunk_size = int(self._at.shown["policy"]["chunk_size"])
        self._batch: list[dict[str, Any]] = []
        self._paths: set[tuple[str, ...]] = set()
        self._weight = self._batched = 0
        self._directories = spool
        self._by_depth: dict[int, array[int]] = {}  # where in the spool the directories of each depth are

    def told(self) -> str:
        """What was done, for people."""
        return ", ".join(f"{count} {what}" for what, count in self._counts.items() if count or what == "created")

    def run(self, reader: Reader) -> None:
        """All entries. Times of directories come last: what is made inside would change them."""
        for member, read in reader.members():
            if isinstance(member, str):
                self.skipped.append(member)
                continue
            try:
                check_path(member.path)
                if not member.path and member.kind != DIRECTORY:
                    raise InvalidInput("a file without a name")
            except InvalidInput as error:
                self.skipped.append(f"{'/'.join(member.path)!r}: {error.message}")
                continue
            self._add(member, read)
            self.progress.show(f"{size(self._bytes)}: {'/'.join(member.path)}")
        self._flush()
        self._set_times()

    def _add(self, member: Member, read: Callable[[int], bytes]) -> None:
        entry: dict[str, Any] = {
            "path": list(member.path), "kind": member.kind, "mtime_ns": member.mtime_ns, "created_ns": member.created_ns,
            "properties": dict(member.properties), "digests": dict(member.digests),
        }  # fmt: skip
        if member.size > min(SMALL_BYTES, self._chunk_size):
            self._flush()
            entry["chunks"] = self._chunks(member, read)
            self._put([entry], self._mode)
        else:
            if member.path in self._paths:
                self._flush()
            if member.kind != DIRECTORY:
                entry["data"] = _exactly(member, read, member.size)
            self._paths.add(member.path)
            self._batch.append(entry)
            self._batched += member.size
            self._weight += 1000 + 4 * sum(map(len, member.path)) + 2 * sum(map(len, member.properties.values()))
            if self._batched > BATCH_BYTES or self._weight > BATCH_WEIGHT or len(self._batch) >= BATCH_ITEMS:
                self._flush()
        self._bytes += member.size

    def _flush(self) -> None:
        batch, self._batch, self._batched, self._weight = self._batch, [], 0, 0
        self._paths.clear()
        if batch:
            done = self._put(batch, self._mode)
            for entry, what in zip(batch, done, strict=True):
                if entry["kind"] == DIRECTORY and entry["path"] and (what != "kept" or self._mode == "keep"):
                    self._remember(entry)

    def _remember(self, directory: dict[str, Any]) -> None:
        """Note the time of a directory for later; on disk, there may be many."""
        offset = self._directories.seek(0, os.SEEK_END)
        times = {key: directory[key] for key in ("path", "kind", "mtime_ns")}
        self._directories.write(msgpack.packb({**times, "properties": None}))
        self._by_depth.setdefault(len(directory["path"]), array("Q")).append(offset)

    def _set_times(self) -> None:
        """Give directories the times of the archive, the deepest first: a change inside is a change of what is above."""
        for depth in sorted(self._by_depth, reverse=True):
            offsets = self._by_depth[depth]
            for start in range(0, len(offsets), BATCH_ITEMS):
                entries = []
                for offset in offsets[start : start + BATCH_ITEMS]:
                    self._directories.seek(offset)
                    entries.append(next(msgpack.Unpacker(self._directories, raw=False)))
                self._put(entries, "replace", counted=False)
                self.progress.show("setting the times of directories")

    # --- talking to the holder --------------------------------------------------------------------------------------

    def _chunks(self, member: Member, read: Callable[[int], bytes]) -> list[Any]:
        """Store the chunks of a large file, a few at a time; what its entry is to name."""
        seed, left = secrets.token_hex(8), member.size
        made: list[Any] = []
        waiting: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(WINDOW) as pool:
            while left:
                data = _exactly(member, read, min(left, self._chunk_size))
                left -= len(data)
                args = {"volume": self._volume, "seed": seed, "number": len(made) + len(waiting)}
                waiting.append(pool.submit(self._at.ask, "node.import_chunk", args, data, CHUNK_TIMEOUT))
                while len(waiting) >= WINDOW or (waiting and not left):
                    made.append(waiting.popleft().result()["chunk"])
                    self.progress.show(f"{size(self._bytes + member.size - left)}: {'/'.join(member.path)}")
        return made

    def _put(self, entries: list[dict[str, Any]], mode: str, counted: bool = True) -> list[str]:
        args = {"volume": self._volume, "mode": mode, "request_id": secrets.token_hex(16)}
        blob = msgpack.packb(entries, use_bin_type=True)
        done: list[str] = self._at.ask("node.import_put", args, blob, PUT_TIMEOUT)["done"]
        if counted:
            for what in done:
                self._counts[what] += 1
        return done


def _exactly(member: Member, read: Callable[[int], bytes], length: int) -> bytes:
    parts: list[bytes] = []
    while length and (part := read(length)):
        parts.append(part)
        length -= len(part)
    if length:
        raise CorruptData(f"the archive is cut within /{'/'.join(member.path)}")
    return b"".join(parts)
