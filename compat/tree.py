"""A made tree of files that looks like people's: names, depths and sizes as real drives have them, from a seed.

Sizes are log-normal (median about 4 KiB, a tail to some MiB, as file-size studies find: Agrawal et al., FAST 2007),
and the sizes that break stores are always present: 0, 1, one chunk less one, one chunk, one chunk and one byte. The same
seed always makes the same tree, so that a run can be repeated. Must not import: davfs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 4 << 20
"""davfs's default chunk size in bytes; the sizes around it are always in the tree."""
MAX_SIZE = 12 << 20
MEDIAN_SIZE = 4096
SIGMA = 1.9
FIRST_TIME = 1_400_000_000
LAST_TIME = 1_750_000_000

_WORDS = (
    "invoice report draft final photo scan notes budget meeting holiday backup src lib test data config index main "
    "readme letter contract summary minutes plan sketch render export import cache module service handler"
).split()
_ODD_NAMES = (
    *(
        "Übersicht Größen",
        "résumé",
        "日本語 ファイル",
        "Отчёт за год",
        "naïve café",
        "emoji 🚀 plan",
        "e\u0301 decomposed",
    ),
    *("100% done", "a+b=c", "semi;colon", "amp & ersand", "hash # tag", "quo'te", "[brackets] (round)", "comma, dot."),
    *("tilde~", "at@home", "equal=sign", "two  spaces", "$dollar", "exclamation!", "x" * 120),
)
_SUFFIXES = (*".txt .jpg .pdf .docx .py .c .h .json .md .tar.gz .log .XLSX .svg .ini".split(), "")


@dataclass(frozen=True)
class TreeFile:
    """One file: path relative to the root with slashes, size in bytes, mtime in whole seconds, seed of its bytes."""

    path: str
    size: int
    mtime: int
    seed: int


def plan(count: int, seed: int, chunk: int = CHUNK) -> list[TreeFile]:
    """`count` files in folders up to 10 deep, no two paths equal even when case is ignored; pure."""
    source = random.Random(seed)
    folders = _folders(source, max(3, count // 12))
    special = [0, 1, chunk - 1, chunk, chunk + 1][: max(2, min(5, count // 4))]
    files: list[TreeFile] = []
    taken = {folder.lower() for folder in folders}
    while len(files) < count:
        number = len(files)
        name = _file_name(source, number)
        folder = source.choice(folders)
        path = f"{folder}/{name}" if folder else name
        if path.lower() in taken:
            continue
        taken.add(path.lower())
        size = special[number] if number < len(special) else _size(source)
        files.append(TreeFile(path, size, source.randrange(FIRST_TIME, LAST_TIME), source.getrandbits(48)))
    return files


def content(file: TreeFile) -> bytes:
    """The bytes of a file: incompressible for most, text-like runs for some, always those of its seed."""
    source = random.Random(file.seed)
    if file.seed % 4 == 0:
        line = (" ".join(source.choices(_WORDS, k=9)) + "\n").encode()
        return (line * (file.size // len(line) + 1))[: file.size]
    return source.randbytes(file.size)


def write(root: Path, files: list[TreeFile]) -> int:
    """Write the files below `root` (made if missing) with their mtimes; returns the bytes written."""
    total = 0
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(file))
        os.utime(path, (file.mtime, file.mtime))
        total += file.size
    return total


def change(root: Path, files: list[TreeFile], seed: int, share: float = 0.04) -> tuple[list[str], list[str], list[str]]:
    """Change a tree on disk as a day's work does: (rewritten with the same size, added, removed) paths.

    The rewritten ones keep their size on purpose: only a kept modification time lets a client see them.
    """
    source = random.Random(seed)
    number = max(2, int(len(files) * share))
    chosen = source.sample([file for file in files if 0 < file.size < CHUNK], number * 2)
    rewritten, removed = chosen[:number], chosen[number:]
    for file in rewritten:
        path = root / file.path
        path.write_bytes(content(TreeFile(file.path, file.size, 0, file.seed + 1)))
        os.utime(path, (LAST_TIME + 1000, LAST_TIME + 1000))
    for file in removed:
        (root / file.path).unlink()
    added = [f"new this day/{number} added.txt" for number in range(number)]
    write(root, [TreeFile(path, 100 + index, LAST_TIME + 2000, seed + index) for index, path in enumerate(added)])
    return [file.path for file in rewritten], added, [file.path for file in removed]


def digests(root: Path) -> dict[str, str]:
    """Relative path to SHA-256 of every file below a directory."""
    return {path.relative_to(root).as_posix(): _sha256(path) for path in _walk(root)}


def _walk(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield Path(folder) / name


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _folders(source: random.Random, count: int) -> list[str]:
    folders = [""]
    while len(folders) < count:
        # Mostly from the newest: real trees have some deep chains, not only wide roots.
        parent = folders[-1] if source.random() < 0.3 else source.choice(folders)
        if parent.count("/") >= 9 or len(parent.encode()) > 500:
            continue
        name = _folder_name(source)
        path = f"{parent}/{name}" if parent else name
        if path.lower() not in {folder.lower() for folder in folders}:
            folders.append(path)
    return folders


def _folder_name(source: random.Random) -> str:
    if source.random() < 0.12:
        return source.choice(_ODD_NAMES)[:60].strip()
    if source.random() < 0.08:
        return "." + source.choice(_WORDS)
    return source.choice(_WORDS) + source.choice(("", " ", "-", "_", ".")) + str(source.randrange(2000, 2030))


def _file_name(source: random.Random, number: int) -> str:
    kind = source.random()
    if kind < 0.10:
        return f"{source.choice(_ODD_NAMES)} {number}{source.choice(_SUFFIXES)}"
    if kind < 0.14:
        return f".{source.choice(_WORDS)}{number}"
    joint = source.choice((" ", "_", "-", "."))
    return f"{source.choice(_WORDS)}{joint}{source.choice(_WORDS)}{joint}{number}{source.choice(_SUFFIXES)}"


def _size(source: random.Random) -> int:
    if source.random() < 0.02:
        return 0
    return min(MAX_SIZE, int(source.lognormvariate(0.0, SIGMA) * MEDIAN_SIZE))


def main(argv: list[str] | None = None) -> int:
    """``python -m compat.tree DIR --files N --seed S``: write a tree and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    files = plan(arguments.files, arguments.seed)
    total = write(arguments.directory, files)
    print(f"{len(files)} files, {total / 2**20:.1f} MiB, largest {max(file.size for file in files)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
