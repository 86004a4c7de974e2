"""A journal store in memory that keeps exactly what was saved: what a power loss would leave."""

from __future__ import annotations

from davfs.core.raft_log import HardState, LogChange, LogEntry, LogImage, LogSnapshot


class MemoryStore:
    def __init__(self) -> None:
        self.boot = 0
        self.hard = HardState()
        self.log: dict[int, LogEntry] = {}
        self.snapshot: LogSnapshot | None = None
        self.saves: list[LogChange] = []
        self.error: Exception | None = None

    def load(self) -> LogImage:
        self.boot += 1
        return LogImage(self.boot, self.hard, tuple(self.log[index] for index in sorted(self.log)), self.snapshot)

    def save(self, change: LogChange) -> None:
        if self.error is not None:
            raise self.error
        self.saves.append(change)
        self.hard = change.hard
        if change.cut_from is not None:
            self.log = {index: entry for index, entry in self.log.items() if index < change.cut_from}
        for entry in change.append:
            assert entry.index not in self.log, "an entry was written twice without a cut"
            self.log[entry.index] = entry
        self.snapshot = change.snapshot or self.snapshot
        if change.trim_before is not None:
            self.log = {index: entry for index, entry in self.log.items() if index >= change.trim_before}

    def close(self) -> None:
        pass
