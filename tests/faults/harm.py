"""What faults do to the files of a node, and how what became of them is told: flipped bytes in chunks and databases."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

CHUNK_HEADER = 16
PAGE = 4096
CHUNKS_AT_MOST = 12
PAGES_AT_MOST = 6
DIGEST_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Flip:
    """A copy of a chunk that was made wrong: by one byte, or cut short."""

    node: int
    path: Path


def chunk_files(data: Path) -> list[Path]:
    """The copies of chunks that a node offers (not those that it has set aside)."""
    found = []
    for folder in sorted((data / "chunks").glob("*/??")):
        try:
            found += [path for path in folder.iterdir() if len(path.name) == DIGEST_LENGTH]
        except OSError:
            continue
    return sorted(found)


def flip_chunks(node: int, data: Path, draw: random.Random) -> list[Flip]:
    """Flip a bit in some copies, cut some short."""
    flips = []
    there = chunk_files(data)
    for path in draw.sample(there, min(CHUNKS_AT_MOST, len(there))):
        try:
            size = path.stat().st_size
            with path.open("r+b") as file:
                if draw.random() < 0.2:
                    file.truncate(draw.randrange(size))
                else:
                    file.seek(at := draw.randrange(size))
                    byte = file.read(1)[0]
                    file.seek(at)
                    file.write(bytes([byte ^ 1 << draw.randrange(8)]))
        except OSError:  # collected meanwhile
            continue
        flips.append(Flip(node, path))
    return flips


def is_whole(path: Path) -> bool:
    """Whether a copy of a chunk is what its name says. A copy that is not there is not wrong."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return True
    magic, length, body = whole[:8], whole[8:CHUNK_HEADER], whole[CHUNK_HEADER:]
    return magic == b"DVCHUNK1" and length == len(body).to_bytes(8) and blake3(body).hexdigest() == path.name


def databases(data: Path) -> list[Path]:
    """The databases of a node's volume replicas."""
    return sorted((data / "volumes").glob("*.sqlite"))


def journals(data: Path) -> list[Path]:
    """The database of Raft's journal."""
    return sorted((data / "raft").glob("*.db"))


def flip_database(path: Path, draw: random.Random) -> list[int]:
    """Damage some pages of a database that nobody has open: one byte of each page's head, by which SQLite finds its way.
    Page 1 stays, for a file that is none is too easy to notice."""
    pages = path.stat().st_size // PAGE
    chosen = draw.sample(range(1, pages), min(PAGES_AT_MOST, pages - 1))
    with path.open("r+b") as file:
        for page in chosen:
            file.seek(page * PAGE + draw.choice((0, 3, 4, 5, 6)))
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1 << draw.randrange(8)]))
    return sorted(chosen)


def remove_databases(data: Path) -> None:
    """What an administrator does with a database that is damaged."""
    for path in databases(data):
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)


def wipe(data: Path) -> None:
    """A new disk: nothing is left. The directory itself stays (it may be a mount)."""
    for path in sorted(data.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
