"""What clients did and saw, from many threads: the history for the judge, every request for the picture, what was wrong."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from davfs.sim.history import Operation

Component: TypeAlias = tuple[str, str]
"""(volume, top directory): histories of different ones are judged by themselves."""

OK, REFUSED, UNKNOWN = "ok", "refused", "unknown"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: seconds since the begin of the run, node, method, and whether it was answered, refused for want of
    nodes or room, or nothing is known."""

    began: float
    ended: float
    node: int
    method: str
    fate: str


@dataclass(frozen=True, slots=True)
class Grant:
    """A DAV lock that was granted: when that was asked and answered, for how many seconds it was granted."""

    component: Component
    name: str
    token: str
    asked: float
    granted: float
    seconds: float


@dataclass(slots=True)
class LockStory:
    """What became of a lock: ``given_up``: when its owner first asked for its end; ``lost``: when it was answered that there
    is no such lock although its owner had not given it up, as (asked, words)."""

    grant: Grant
    given_up: float | None = None
    lost: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class Naked:
    """A change of a file, acknowledged, that submitted no lock token."""

    component: Component
    name: str
    asked: float
    answered: float
    who: str


@dataclass
class Record:
    """All of it. Thread-safe; times are those of time.monotonic(), but those of ``requests``."""

    zero: float = field(default_factory=time.monotonic)
    requests: list[Asked] = field(default_factory=list)
    histories: dict[Component, list[Operation]] = field(default_factory=dict)
    locks: list[LockStory] = field(default_factory=list)
    naked: list[Naked] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self.zero

    def asked(self, began: float, node: int, method: str, status: int, fate: str) -> None:
        """A request is over. ``began``: time.monotonic() then; status 0: no answer came."""
        ended = time.monotonic()
        with self._lock:
            self.requests.append(Asked(began - self.zero, ended - self.zero, node, method, fate))
            self.answers[method, status] += 1

    def happened(self, component: Component, operation: Operation) -> None:
        """An operation for the judge."""
        with self._lock:
            self.histories.setdefault(component, []).append(operation)

    def granted(self, grant: Grant) -> LockStory:
        """A lock."""
        story = LockStory(grant)
        with self._lock:
            self.locks.append(story)
        return story

    def changed_without_token(self, naked: Naked) -> None:
        """A change of a file that somebody might have locked."""
        with self._lock:
            self.naked.append(naked)

    def wrong(self, what: str) -> None:
        """Something that must not be."""
        with self._lock:
            self.problems.append(f"{time.monotonic() - self.zero:.1f} s: {what}")

    def counts(self) -> dict[str, Any]:
        """Requests by fate, and operations, for the page."""
        fates = Counter(asked.fate for asked in self.requests)
        return {**fates, "requests": len(self.requests), "operations": sum(map(len, self.histories.values()))}
