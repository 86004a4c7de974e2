"""What one change costs below WebDAV, in one process: delta, index, durable. Milliseconds, sorted per kind of change."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from io import BytesIO
from typing import TypeAlias

from davfs.cluster.api import Caller
from davfs.cluster.volume import HeldVolume
from davfs.core.model import Entry, Path
from tests.scale.table import middle
from tests.scale.volume import Plan, directory_path, file_path

CALLER = Caller()

Step: TypeAlias = Callable[[], object]


def anything(entry: Entry | None) -> None:
    """The condition that always holds."""


class Changes:
    """Changes of a built volume at places chosen by a seed. Each method prepares one and gives the step that makes it."""

    def __init__(self, held: HeldVolume, plan: Plan, seed: int = 1) -> None:
        self._held = held
        self._plan = plan
        self._random = random.Random(seed)
        self._gone = iter(self._random.sample(range(plan.files // 2), min(plan.files // 2, 20_000)))
        self._number = 0
        self._top = "all"

    @property
    def kinds(self) -> dict[str, Callable[[], Step]]:
        """Name of a kind of change -> what prepares one."""
        return {
            "new file": self.create,
            "file written again": self.overwrite,
            "file renamed": self.rename,
            "file deleted": self.delete,
            "new directory": self.mkcol,
            "rename of the directory that holds everything": self.rename_all,
        }

    def create(self) -> Step:
        return self._put((*self._directory(), f"new {self._next()}.txt"))

    def overwrite(self) -> Step:
        return self._put(self._here(file_path(self._plan, self._random.randrange(self._plan.files // 2, self._plan.files))))

    def rename(self) -> Step:
        source = self._file()
        return self._move(source, (*source[:-1], f"renamed {self._next()}.txt"))

    def delete(self) -> Step:
        path = self._file()
        return lambda: self._held.delete(path, condition=anything, caller=CALLER)

    def mkcol(self) -> Step:
        path = (*self._directory(), f"new folder {self._next()}")
        return lambda: self._held.mkcol(path, condition=anything, caller=CALLER)

    def rename_all(self) -> Step:
        """To another name, and back the next time."""
        before, self._top = self._top, "everything" if self._top == "all" else "all"
        return self._move((before,), (self._top,))

    def _move(self, source: Path, target: Path) -> Step:
        return lambda: self._held.move(source, target, overwrite=False, condition=anything, caller=CALLER)

    def _put(self, path: Path) -> Step:
        data = f"content {self._next()}".encode()
        body = BytesIO(data)
        return lambda: self._held.put(path, body.read, len(data), mtime_ns=None, condition=anything, caller=CALLER)

    def _directory(self) -> Path:
        return self._here(directory_path(self._random.randrange(1, self._plan.directories), self._plan.fan_out))

    def _file(self) -> Path:
        """One that is then no longer under its name, so each once."""
        return self._here(file_path(self._plan, next(self._gone)))

    def _here(self, path: Path) -> Path:
        return (self._top, *path[1:])

    def _next(self) -> int:
        self._number += 1
        return self._number


class Taken:
    """What steps took, in milliseconds: by the clock, and of CPU by all threads, which a busy machine changes less."""

    def __init__(self) -> None:
        self._wall: list[float] = []
        self._cpu: list[float] = []

    def more(self, prepare: Callable[[], Step], count: int) -> None:
        """Take so many such steps."""
        for _ in range(count):
            step = prepare()
            cpu, wall = time.process_time(), time.perf_counter()
            step()
            self._wall.append((time.perf_counter() - wall) * 1e3)
            self._cpu.append((time.process_time() - cpu) * 1e3)

    @property
    def wall(self) -> list[float]:
        """Sorted."""
        return sorted(self._wall)

    @property
    def cpu(self) -> list[float]:
        """Sorted."""
        return sorted(self._cpu)

    def __str__(self) -> str:
        wall = self.wall
        tail = f"p5 {wall[len(wall) // 20]:.2f}, p95 {wall[int(len(wall) * 0.95)]:.1f}"
        return f"{middle(wall):.2f} ms ({tail}); CPU {middle(self.cpu):.2f} ms"
