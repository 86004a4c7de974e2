"""The members of a directory, read at once from one committed state and handed out at the pace of whoever asked.

A client may take minutes for a large directory, and a view that stays open keeps the write-ahead log growing; a list in
memory grows with the directory (invariant 9). So what is more than ``KEPT`` rows waits in a temporary file without a name,
which the system removes whatever happens. May import only core.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeAlias

import msgpack

from davfs.core.model import Entry

KEPT = 2_000
"""Rows that stay in memory."""

BLOCK = 500
"""Rows that are written and read back at once."""

Row: TypeAlias = tuple[Any, ...]
"""The columns of an Entry, then a dead property's name and XML, both None where it has none."""

_log = logging.getLogger(__name__)


def members(rows: Iterator[Row], directory: Path | None) -> Iterator[tuple[Entry, Mapping[str, str]]]:
    """Each entry with its dead properties (Clark name -> XML). ``rows`` are read to their end before this returns.

    The rows of one entry come one behind the other. ``directory``: where the temporary file is, None: in memory.
    """
    first = list(islice(rows, KEPT))
    aside = _Aside(directory)
    if len(first) == KEPT:
        aside.fill(rows)
    return _grouped(_chained(first, aside))


def _grouped(rows: Iterator[Row]) -> Iterator[tuple[Entry, Mapping[str, str]]]:
    for _, group in groupby(rows, key=itemgetter(0)):
        same = list(group)
        yield Entry(*same[0][:9]), {row[9]: row[10] for row in same if row[9] is not None}


def _chained(first: list[Row], aside: _Aside) -> Iterator[Row]:
    with aside:
        yield from first
        first.clear()
        yield from aside


class _Aside:
    """Rows in blocks: in a file, or in memory from the first one that the disk has no room for."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._sizes: list[int] = []
        self._kept: list[bytes] = []

    def fill(self, rows: Iterator[Row]) -> None:
        while block := list(islice(rows, BLOCK)):
            data = bytes(msgpack.packb(block))
            if self._directory is None or self._kept or not self._write(self._directory, data):
                self._kept.append(data)

    def _write(self, directory: Path, data: bytes) -> bool:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115  closed by __exit__
            if self._file.write(data) != len(data):
                return False
        except OSError as error:  # a full disk must not hide what there is to delete
            _log.warning("a large directory is listed from memory: %s", error)
            return False
        self._sizes.append(len(data))
        return True

    def __iter__(self) -> Iterator[Row]:
        if self._file is not None:
            self._file.seek(0)
            for size in self._sizes:
                yield from self._rows(self._file.read(size))
        for data in self._kept:
            yield from self._rows(data)

    @staticmethod
    def _rows(data: bytes) -> Iterator[Row]:
        rows: list[Row] = msgpack.unpackb(data, use_list=False)
        return iter(rows)

    def __enter__(self) -> _Aside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
