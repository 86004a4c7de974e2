"""Open files as their readers take them, and the memory that all readers of a node share.

A reader that takes its time is idle between two blocks, for minutes if it likes. What it has in memory then may be taken
from it, and is read again when it comes back; all that it keeps for sure is the block that is on its way to it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING

from davfs.cluster import files
from davfs.core.chunking import Span, spans
from davfs.core.digests import Digests
from davfs.core.model import Entry

if TYPE_CHECKING:
    from davfs.cluster.threads import ThreadRuntime

READ_AHEAD = 2
"""Chunks that are fetched while an earlier one is sent."""
PIECE = 128 << 10
"""Bytes that are copied out of a chunk for a reader that cannot have it as it is."""
BUDGET = 96 << 20
"""Bytes of chunks in memory for all readers of a node."""
LENT = 48 << 20
"""Bytes of these that may be in the hands of readers as they are, without a copy: nobody can take them back."""
PATIENCE = 5.0  # seconds that a reader waits for memory before it takes more than there should be
IDLE = 1.0  # seconds without a sign of its client after which a reader loses its memory to another's read-ahead


class ReadMemory:
    """What the readers of a node may keep in memory. Thread-safe."""

    def __init__(self, budget: int = BUDGET, lent: int = LENT, patience: float = PATIENCE) -> None:
        self._budget = budget
        self._most_lent = lent
        self._patience = patience
        self._changed = threading.Condition()
        self._idle: dict[Reading, float] = {}  # since when; the longest first
        self.used = 0
        self.lent = 0

    def take(self, size: int) -> None:
        """For a chunk that is needed now. Readers that are idle lose theirs; then it waits for others, not for long."""
        with self._changed:
            self._changed.wait_for(lambda: self._room(size, 0.0), self._patience)
            self.used += size

    def take_ahead(self, size: int) -> bool:
        """For a chunk that will be needed, if that hinders nobody."""
        with self._changed:
            room = self._room(size, IDLE)
            self.used += size if room else 0
            return room

    def give(self, size: int) -> None:
        """Let others have it."""
        with self._changed:
            self.used -= size
            self._changed.notify_all()

    def lend(self, size: int) -> bool:
        """Whether a chunk, taken before, may go out as it is."""
        with self._changed:
            free = self.lent + size <= self._most_lent
            self.lent += size if free else 0
            return free

    def returned(self, size: int) -> None:
        """What was lent is in nobody's hands any more."""
        with self._changed:
            self.lent -= size
            self.give(size)

    def idle(self, reading: Reading) -> None:
        """From now on this reader may lose what it has."""
        with self._changed:
            self._idle[reading] = time.monotonic()
            self._changed.notify_all()

    def busy(self, reading: Reading) -> None:
        """Its reader is back."""
        with self._changed:
            self._idle.pop(reading, None)

    def _room(self, size: int, idle: float) -> bool:
        """Whether so much is free, once readers that have been idle for so many seconds have lost what they keep."""
        before = time.monotonic() - idle
        while self.used and self.used + size > self._budget:
            longest = next(iter(self._idle), None)
            if longest is None or self._idle[longest] > before:
                return False
            del self._idle[longest]
            longest.lose()
        return True


class Reading:
    """One reader's way through a part of a file: the chunk it is in, and those read ahead of it."""

    def __init__(self, runtime: ThreadRuntime, file: files.OpenFile, stop: int) -> None:
        self._runtime = runtime
        self._memory = runtime.read_memory
        self._file = file
        self._stop = stop
        self._start = 0  # where the data of the chunk that it has begins
        self._data: memoryview | None = None
        self._size = 0  # what that costs
        self._lent = 0
        self._ahead: deque[tuple[Span, int, Future[memoryview]]] = deque()

    def block(self, at: int) -> memoryview:
        """The next bytes, from position ``at`` on; all before them have been taken."""
        self._memory.busy(self)
        self._take_back()
        if self._data is None or not self._start <= at < self._start + len(self._data):
            self._fetch(at)
        assert self._data is not None  # noqa: S101
        rest = self._data[at - self._start :]
        if self._size <= PIECE:
            self._drop()
        elif self._memory.lend(self._size):
            self._data, self._lent, self._size = None, self._size, 0
        else:
            rest = memoryview(bytes(rest[:PIECE]))
            self._memory.idle(self)
            return rest
        if self._ahead:
            self._memory.idle(self)
        return rest

    def close(self) -> None:
        """Its reader is gone."""
        self._memory.busy(self)
        self._take_back()
        self.lose()

    def lose(self) -> None:
        """Keep nothing but what is lent."""
        self._drop()
        while self._ahead:
            self._forget(*self._ahead.popleft())

    def _take_back(self) -> None:
        lent, self._lent = self._lent, 0
        if lent:
            self._memory.returned(lent)

    def _drop(self) -> None:
        size, self._data, self._size = self._size, None, 0
        if size:
            self._memory.give(size)

    def _forget(self, span: Span, size: int, future: Future[memoryview]) -> None:
        future.cancel()
        future.add_done_callback(lambda _: self._memory.give(size))  # at once, unless it is being read

    def _fetch(self, at: int) -> None:
        """Make the chunk at that position the present one, and have the next ones read."""
        self._drop()
        todo = spans(at, self._stop, self._file.chunk_size)
        span = next(todo)
        while self._ahead and self._ahead[0][0].number != span.number:
            self._forget(*self._ahead.popleft())
        future = None
        if self._ahead:
            span, self._size, future = self._ahead.popleft()
        else:
            self._size = self._cost(span)
            self._memory.take(self._size)
        self._read_ahead(todo)
        self._data = future.result() if future else self._runtime.run(self._file.read_span(span))
        self._start = span.number * self._file.chunk_size + span.start

    def _read_ahead(self, todo: Iterator[Span]) -> None:
        begun = {span.number for span, _, _ in self._ahead}
        for span, _ in zip(todo, range(READ_AHEAD), strict=False):
            if span.number in begun:
                continue
            size = self._cost(span)
            if not self._memory.take_ahead(size):
                return
            self._ahead.append((span, size, self._runtime.ahead(self._file.read_span(span))))

    def _cost(self, span: Span) -> int:
        """A span keeps its whole chunk in memory."""
        return min(self._file.chunk_size, self._file.entry.size - span.number * self._file.chunk_size)


class HeldContent:
    """An open file (``api.Content``)."""

    def __init__(self, runtime: ThreadRuntime, file: files.OpenFile) -> None:
        self._runtime = runtime
        self._file = file

    @property
    def entry(self) -> Entry:
        return self._file.entry

    @property
    def digests(self) -> Digests:
        return self._file.digests

    def read(self, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes [start, stop), a chunk or part of one at a time; READ_AHEAD chunks more are fetched meanwhile."""
        stop = min(stop, self._file.entry.size)
        if start >= stop:
            return
        reading = Reading(self._runtime, self._file, stop)
        try:
            while start < stop:
                block = reading.block(start)
                start += len(block)
                yield block
                del block
        finally:
            reading.close()
