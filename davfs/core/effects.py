"""What a protocol may ask of the world.

Protocols (assign, seal, commit, quorum write and read, catch-up) are generators: they yield one of these effects and
are sent its result, or have its error thrown into them. Threads drive them in production (``cluster/threads.py``), a
seeded loop in the simulator, so the same code runs in both. Nothing here does anything by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from davfs.core.errors import DavfsError

Result = TypeVar("Result")
Blob: TypeAlias = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Reply:
    """A node's answer: a plain value and raw bytes."""

    value: Any
    blob: bytes = b""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one node (itself included). Result: :class:`Reply`; error: any :class:`DavfsError`."""

    node: str
    method: str
    args: Mapping[str, Any]
    blob: Blob = b""
    timeout: float = 5.0


Outcome: TypeAlias = Reply | DavfsError
Outcomes: TypeAlias = dict[str, Outcome]


@dataclass(frozen=True, slots=True)
class Gather:
    """Requests to several nodes at once, at most one a node.

    Result: node -> :class:`Reply` or error, as soon as ``enough`` says so of what has come, or all have answered.
    Calls that are still on their way then go on; ``late`` is told of each that ends afterwards (from any thread).
    """

    calls: Sequence[Call]
    enough: Callable[[Outcomes], bool] = lambda outcomes: False
    late: Callable[[str, Outcome], None] | None = None


@dataclass(frozen=True, slots=True)
class Submit:
    """A command for Raft, idempotent by its request id. Result: what the state machine returned."""

    command: tuple[Any, ...]
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Put Raft's membership ``after`` in the place of ``before``, as its leader (``consensus/membership.py``).

    Result: whether it is committed; False: it was refused, look again later. Error: unknown.
    """

    before: Any
    after: Any
    timeout: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass. Result: None."""

    seconds: float


class Signal(Protocol):
    """Something that tasks wait for: a condition that others announce."""

    def notify(self) -> None:
        """Let everyone who waits look again."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until ``ready()`` is true, looking again whenever ``signal`` is notified. Result: False on time-out."""

    signal: Signal
    ready: Callable[[], bool]
    timeout: float


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a protocol of its own that goes on in the background. Result: None. Its errors are logged."""

    task: Generator[Any, Any, Any]
    name: str = field(default="task")


Effect: TypeAlias = Call | Gather | Submit | Reconfigure | Sleep | Wait | Spawn
Protocol_: TypeAlias = Generator[Effect, Any, Result]
