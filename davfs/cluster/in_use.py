"""What is in use on this node beside what the index names: running uploads, open files; and what is named just now.

The collector takes these as references (design, section 3). A use lives for as long as whoever began it keeps it: an upload
until the fate of its record is known, a file until it is read no longer. A watch collects what records name while the
collector looks through the index, so that nothing slips from a page it has not read to one it has. Memory alone: what
another holder had in use is protected by the grace of its chunks.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from threading import Lock

from davfs.core import references
from davfs.core.ports import AppliedRecord


class Use:
    """The names (``core/references.py``) that one upload or open file uses, for as long as this is kept."""

    def __init__(self, volume: str, lock: Lock) -> None:
        self.volume = volume
        self.names: set[str] = set()
        self._lock = lock

    def add(self, names: Iterable[str]) -> None:
        with self._lock:
            self.names.update(names)

    def end(self) -> None:
        """For who knows that it is over; otherwise it ends with the last who keeps it."""
        with self._lock:
            self.names.clear()


class Watch:
    """What the records name that were applied since it began."""

    def __init__(self, volume: str) -> None:
        self.volume = volume
        self.named: set[str] = set()


class InUse:
    """The table of one node. Thread-safe; never waits."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._uses: weakref.WeakSet[Use] = weakref.WeakSet()
        self._watches: dict[Watch, None] = {}
        self._uploads: Counter[str] = Counter()

    def begin(self, volume: str) -> Use:
        use = Use(volume, self._lock)
        with self._lock:
            self._uses.add(use)
        return use

    def upload(self, volume: str) -> Use:
        """The same for an upload, which may leave chunks that nothing names."""
        with self._lock:
            self._uploads[volume] += 1
        return self.begin(volume)

    def uploads(self, volume: str) -> int:
        """How many uploads have begun here."""
        return self._uploads[volume]

    def names(self, volume: str) -> set[str]:
        """All names in use."""
        with self._lock:
            return {name for use in self._uses if use.volume == volume for name in use.names}

    def among(self, volume: str, names: set[str]) -> set[str]:
        """Those of the names that are in use."""
        with self._lock:
            return {name for use in self._uses if use.volume == volume for name in names & use.names}

    # --- watches ----------------------------------------------------------------------------------------------------

    def watch(self, volume: str) -> Watch:
        watch = Watch(volume)
        with self._lock:
            self._watches[watch] = None
        return watch

    def unwatch(self, watch: Watch) -> None:
        with self._lock:
            self._watches.pop(watch, None)

    def take(self, watch: Watch) -> set[str]:
        """What was named since the last time."""
        with self._lock:
            named, watch.named = watch.named, set()
            return named

    def applied(self, volume: str, records: Sequence[AppliedRecord]) -> None:
        """Records were entered into the index of this node; told before anyone is answered."""
        if not any(watch.volume == volume for watch in list(self._watches)):
            return
        updates = [update for record in records for update in record.updates]
        named = {name for update in updates for name in references.of_entry(update.key, update.value)}
        with self._lock:
            for watch in self._watches:
                if watch.volume == volume:
                    watch.named |= named
