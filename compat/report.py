"""The table of operations that every compat runner prints, and its exit code.

Must not import: davfs, or anything that talks to a server.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_TOOL_MISSING = 3
"""The client program (or the right to use it) is missing: nothing was tested."""


class CompatError(Exception):
    """An operation of a client went wrong; the text says what was expected and what came."""


class ToolMissing(Exception):
    """A client program is not installed, or needs rights that this user lacks."""


@dataclass(frozen=True)
class Step:
    """One operation: its name, whether it did what it must, seconds taken, and the reason of a failure."""

    name: str
    ok: bool
    seconds: float
    detail: str = ""


@dataclass
class Report:
    """The operations of one run of one client, in order."""

    title: str
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run one operation; a CompatError, OSError or AssertionError inside it becomes a failed row, later ones still run."""
        began = time.monotonic()
        try:
            yield
        except (CompatError, OSError, AssertionError) as error:
            detail = str(error) or type(error).__name__
            self.add(name, False, time.monotonic() - began, detail)
        else:
            self.add(name, True, time.monotonic() - began)

    def add(self, name: str, ok: bool, seconds: float = 0.0, detail: str = "") -> None:
        """Add a row whose outcome is known already."""
        self.steps.append(Step(name, ok, seconds, detail))

    @property
    def failed(self) -> list[Step]:
        """The rows that were not ok."""
        return [step for step in self.steps if not step.ok]

    @property
    def exit_code(self) -> int:
        """0 when there were rows and every one was ok, else 1."""
        return EXIT_OK if self.steps and not self.failed else EXIT_FAILED

    def text(self) -> str:
        """The table, one row per operation, the reasons of failures below their row."""
        width = max([len(step.name) for step in self.steps] + [9])
        lines = [self.title, f"{'operation':<{width}}  result   seconds"]
        for step in self.steps:
            lines.append(f"{step.name:<{width}}  {'ok' if step.ok else 'FAILED':<7} {step.seconds:8.2f}")
            lines.extend("    " + line for line in step.detail.splitlines() if line.strip())
        lines.append(f"{len(self.steps) - len(self.failed)} ok, {len(self.failed)} failed")
        return "\n".join(lines)

    def finish(self) -> int:
        """Print the table and return the exit code."""
        print(self.text(), flush=True)
        return self.exit_code


def missing(tool: ToolMissing) -> int:
    """Say what is missing; the exit code that tells it apart from a failure."""
    print(f"not run: {tool}", file=sys.stderr, flush=True)
    return EXIT_TOOL_MISSING


def same(got: object, wanted: object) -> None:
    """:class:`CompatError`, with the beginnings of both, if they differ."""
    if got != wanted:
        raise CompatError(f"expected {wanted!r}"[:200] + f", got {got!r}"[:200])
