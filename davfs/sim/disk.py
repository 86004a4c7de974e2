"""A simulated node's disk: chunks, replica databases and the clock that chunks age by; all that outlives its process.

May import storage, core and the simulator's own parts.
"""

from __future__ import annotations

from random import Random

from davfs.sim.loop import Loop, Process
from davfs.sim.memory_chunks import MemoryChunkStore
from davfs.sim.replica_store import BROKEN, FULL, WatchedStore
from davfs.sim.watch import Watch


class SimAge:
    """How long the node has been running, as ``storage/age_clock.py`` keeps it: what was not saved is lost by a crash."""

    def __init__(self) -> None:
        self._saved = self._base = 0
        self._process: Process | None = None
        self._started = 0.0

    def start(self, process: Process) -> None:
        self._base, self._process, self._started = self._saved, process, process.clock()

    def now_ns(self) -> int:
        if self._process is None:
            return self._saved
        return self._base + int((self._process.clock() - self._started) * 1e9)

    def save(self) -> None:
        self._saved = self.now_ns()


class SimDisk:
    """What ``node`` has on its disk. ``id``: random per empty disk (the data directory's incarnation)."""

    def __init__(self, node: str, loop: Loop, watch: Watch) -> None:
        self.node = node
        self.id = loop.random.randbytes(6).hex()
        self.age = SimAge()
        self.stores: dict[str, WatchedStore] = {}
        self.chunks = MemoryChunkStore(age_ns=self.age.now_ns)
        self.chunks.removed = lambda volume, digest: watch.on_removed(node, digest)
        self._watch = watch
        self._full = False
        self._failing = False

    def open_store(self, volume: str) -> WatchedStore:
        """The volume's database, made when it is absent."""
        if volume not in self.stores:
            self.stores[volume] = WatchedStore(self.node, self._watch, self.age.now_ns, self._broken)
        return self.stores[volume]

    def drop_store(self, volume: str) -> None:
        """Remove a volume's database."""
        del self.stores[volume]
        self._watch.dropped(self.node)

    def start_again(self) -> None:
        """A process opens what is here. A disk that failed works again: somebody has seen to it before the restart."""
        self._failing = False
        self.chunks.start_again()
        for store in self.stores.values():
            store.start_again()

    # --- faults -----------------------------------------------------------------------------------------------------

    def lose_power(self, random: Random) -> None:
        """Lose what was not synced, or some of it."""
        self.chunks.lose_power(random)
        for store in self.stores.values():
            store.lose_power(random)

    def fill(self, full: bool) -> None:
        """Nothing that is new fits any more, or everything does again."""
        self._full = full
        self.chunks.fill(full)

    def fail(self) -> None:
        """Every write fails from now on until the node is restarted (EIO)."""
        self._failing = True
        self.chunks.poison()

    @property
    def failing(self) -> bool:
        return self._failing

    def _broken(self) -> str:
        if self._failing:
            return BROKEN
        return FULL if self._full else ""

    # --- copies of chunks -------------------------------------------------------------------------------------------

    def has_good(self, volume: str, digest: str) -> bool:
        """Whether a read would find a whole copy that is not set aside."""
        if self.chunks.has(volume, digest):
            return self.chunks.is_good(volume, digest)
        store = self.stores.get(volume)
        return store is not None and store.has_good_chunk(digest)

    def digests(self, volume: str) -> list[str]:
        """All chunks of a volume that are here and not set aside, whole or not, sorted."""
        files = [digest for of, digest in self.chunks.list() if of == volume]
        small = self.stores[volume].small_chunks() if volume in self.stores else []
        return sorted({*files, *small})
