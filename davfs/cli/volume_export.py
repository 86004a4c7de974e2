"""``davfs volume export``: a whole volume as one tar archive, as it was at one moment, while it stays in use.

First the tree is read, in one committed state, into a temporary file; then the content, from any node that has it, some
chunks ahead. Memory does not grow with the volume. A file gets its name when it is whole.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import msgpack
from blake3 import blake3

from davfs.cli.archive import Member, Writer
from davfs.cli.looks import Look, open_current
from davfs.cli.progress import Progress, size
from davfs.cli.remote import Remote, add_config, connect
from davfs.core.errors import ChunkLost, ConfigError, DavfsError, NoSpace, Unavailable
from davfs.core.model import FILE

AHEAD_BYTES = 32 << 20
AHEAD_PARTS = 256
WORKERS = 8
ROUNDS = 3
FETCH_TIMEOUT = 20.0


def register(actions: Any) -> None:
    """Add the action to ``davfs volume``."""
    text = "write a volume to a tar archive: files, directories, times and properties"
    action = actions.add_parser("export", help=text, description=__doc__)
    action.add_argument("name", metavar="VOLUME")
    action.add_argument("file", metavar="FILE", help="- for standard output")
    add_config(action)
    action.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    action.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Export; the last line on standard error says what was written."""
    target = None if arguments.file == "-" else Path(arguments.file)
    if target is not None and target.exists() and not arguments.overwrite:
        raise ConfigError(f"{target} is there already; name another file, or say --overwrite")
    if target is None and sys.stdout.isatty():
        raise ConfigError("an archive is nothing for a terminal; name a file, or redirect")
    try:
        with connect(arguments.config) as remote, tempfile.TemporaryFile() as spool:
            export = Export(remote, arguments.name, spool)
            export.read_tree()
            if target is None:
                export.write(sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                _write_whole(export, target)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NoSpace(f"the archive cannot be written: {error}") from error
    export.progress.end(f"exported {export.files} files and {export.directories} directories, {size(export.done)}")
    return 0


def _write_whole(export: Export, target: Path) -> None:
    """Into a file beside the target, which then takes its name: nobody finds half an archive."""
    with tempfile.NamedTemporaryFile(dir=target.absolute().parent, prefix=f".{target.name}.", delete=False) as part:
        try:
            export.write(part)
            part.flush()
            os.fsync(part.fileno())
            os.replace(part.name, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part.name)
            raise


class Export:
    """One export of one volume."""

    def __init__(self, remote: Remote, volume: str, spool: IO[bytes]) -> None:
        self.progress = Progress()
        self.files = self.directories = self.done = 0
        self._remote = remote
        self._volume = volume
        self._spool = spool
        self._total = 0
        self._position: Any = None
        self._id = ""

    def read_tree(self) -> None:
        """The whole tree in one state, into the spool. If the node that shows it goes away, another one begins anew."""
        self._id = self._remote.ask("admin.volume_show", {"name": self._volume})["id"]
        for last in (False,) * (ROUNDS - 1) + (True,):
            look = open_current(self._remote, self._volume)
            try:
                self._read(look)
                return
            except Unavailable:
                if last:
                    raise
            finally:
                look.close()

    def _read(self, look: Look) -> None:
        self._spool.seek(0)
        self._spool.truncate()
        self.files = self.directories = self._total = 0
        self._position = look.committed
        for page in look.pages("node.look_walk"):
            for item in page["items"]:
                if "path" in item:
                    self.files += item["kind"] == FILE
                    self.directories += item["kind"] != FILE
                    self._total += item["size"]
                self._spool.write(msgpack.packb(item, use_bin_type=True))
            self.progress.show(f"reading the tree: {self.files} files, {size(self._total)}")

    def write(self, out: IO[bytes]) -> None:
        """The archive of what is in the spool."""
        writer = Writer(out.write, self._volume, self._position, self.files + self.directories)
        pool = ThreadPoolExecutor(WORKERS)
        try:
            parts = self._ahead(pool)
            part = next(parts, None)
            while isinstance(part, Member):
                content = _Content(parts)
                writer.add(part, content)
                self.done += part.size
                self.progress.show(f"{size(self.done)} of {size(self._total)}: {'/'.join(part.path)}")
                part = content.following
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        writer.close()

    def _ahead(self, pool: ThreadPoolExecutor) -> Iterator[Member | bytes]:
        """Each entry, then the bytes of its chunks; these are fetched some time before they are asked for."""
        queue: deque[tuple[Member | Future[bytes], int]] = deque()
        waiting = 0
        for item in self._items():
            if "path" in item:
                queue.append((_member(item), 0))
            for digest, length, nodes in item["chunks"] if "path" in item else item["more"]:
                queue.append((pool.submit(self._fetch, digest, length, nodes), length))
                waiting += length
                while waiting > AHEAD_BYTES or len(queue) > AHEAD_PARTS:
                    part, length = queue.popleft()
                    waiting -= length
                    yield part if isinstance(part, Member) else part.result()
        while queue:
            part, _ = queue.popleft()
            yield part if isinstance(part, Member) else part.result()

    def _items(self) -> Iterator[dict[str, Any]]:
        self._spool.seek(0)
        yield from msgpack.Unpacker(self._spool, raw=False, max_buffer_size=64 << 20)

    def _fetch(self, digest: str, length: int, nodes: Sequence[str]) -> bytes:
        """The bytes of a chunk, from whoever has a good copy."""
        troubles: list[str] = []
        for _ in range(ROUNDS):
            troubles = []
            for node in [*nodes, *(name for name in self._remote.nodes if name not in nodes)]:
                try:
                    args = {"volume": self._id, "digest": digest}
                    _, data = self._remote.exchange(node, "chunk.get", args, b"", FETCH_TIMEOUT)
                except (DavfsError, KeyError) as error:
                    troubles.append(f"{node}: {error}")
                    continue
                if len(data) == length and blake3(data).hexdigest() == digest:
                    return data
                troubles.append(f"{node}: it sent something else")
        raise ChunkLost(f"no node has a good copy of chunk {digest} ({'; '.join(troubles)})")


class _Content:
    """The bytes of one entry; what comes behind them is kept."""

    def __init__(self, parts: Iterator[Member | bytes]) -> None:
        self._parts = parts
        self.following: Member | None = None

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, Member):
                self.following = part
                return
            yield part


def _member(item: dict[str, Any]) -> Member:
    times = item["mtime_ns"], item["created_ns"] or None
    return Member(tuple(item["path"]), item["kind"], *times, item["size"], item["properties"], item["digests"])
