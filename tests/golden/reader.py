"""A reader of one node's data directory, written from docs/FORMAT.md alone: imports nothing of davfs.

``python tests/golden/reader.py DIR VOLUME-ID [PATH]`` lists a volume's files, or writes one to standard output. The node must
not be running.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import msgpack
from blake3 import blake3


def read_chunk(data: bytes) -> bytes:
    """The content of a chunk's file."""
    magic, length = struct.unpack(">8sQ", data[:16])
    if magic != b"DVCHUNK1" or len(data) != 16 + length:
        raise ValueError("not a whole chunk of format 1")
    return data[16:]


def read_record(data: bytes) -> dict:
    """A record's fields; the changes as they stand in format 2."""
    if data[:2] != b"DR" or data[2] not in (1, 2):
        raise ValueError("not a record of format 1 or 2")
    body = data[19:]
    if blake3(body).digest(16) != data[3:19]:
        raise ValueError("a damaged record")
    names = ("volume", "position", "kind", "request", "changes", "base", "reply", "time", "who")
    return dict(zip(names[: 9 if data[2] == 2 else 8], msgpack.unpackb(body), strict=True))


class Volume:
    """One replica's index, and the chunks of its node."""

    def __init__(self, directory: Path, volume: str) -> None:
        self._chunks = directory / "chunks" / volume
        self._db = sqlite3.connect(directory / "volumes" / f"{volume}.sqlite")
        application, version = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if application != 0x64615663 or version not in (1, 2):
            raise ValueError(f"a database of format {version}")

    def walk(self, parent: str = "root", before: str = "") -> Iterator[tuple[str, str, str]]:
        """(path, inode, kind) of everything below a directory."""
        rows = self._db.execute("SELECT name, inode, kind FROM entry WHERE parent = ? ORDER BY name", (parent,)).fetchall()
        for name, inode, kind in rows:
            yield before + name, inode, kind
            if kind == "d":
                yield from self.walk(inode, f"{before}{name}/")

    def times(self, inode: str) -> tuple[int, int]:
        """(created, modified), ns."""
        return self._db.execute("SELECT created_ns, mtime_ns FROM entry WHERE inode = ?", (inode,)).fetchone()

    def properties(self, inode: str) -> dict[str, str]:
        return dict(self._db.execute("SELECT name, xml FROM property WHERE inode = ?", (inode,)))

    def content(self, inode: str) -> Iterator[bytes]:
        """The pieces of a file."""
        row = self._db.execute("SELECT json FROM manifest WHERE inode = ?", (inode,)).fetchone()
        if row is None:
            return
        manifest = json.loads(row[0])
        lists = [manifest["c"]]
        elsewhere = dict(manifest.get("o", []))
        for number in range(manifest["g"]):
            where = (elsewhere.get(number, manifest["i"]), number)
            segment = self._db.execute("SELECT json FROM segment WHERE inode = ? AND number = ?", where).fetchone()
            lists.append(json.loads(segment[0])["c"])
        for run in lists:
            for digest, size, _ in run:
                data = self._chunk(digest)
                if len(data) != size or blake3(data).hexdigest() != digest:
                    raise ValueError(f"chunk {digest} is damaged")
                yield data

    def _chunk(self, digest: str) -> bytes:
        file = self._chunks / digest[:2] / digest
        if file.exists():
            return read_chunk(file.read_bytes())
        row = self._db.execute("SELECT data FROM chunk WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise ValueError(f"this node has no copy of chunk {digest}")
        return bytes(row[0])

    def close(self) -> None:
        self._db.close()


def main(directory: str, volume: str, path: str = "") -> None:
    source = Volume(Path(directory), volume)
    for name, inode, kind in source.walk():
        if not path:
            print(name + ("/" if kind == "d" else ""))
        elif name == path:
            for piece in source.content(inode):
                sys.stdout.buffer.write(piece)


if __name__ == "__main__":
    main(*sys.argv[1:])
