"""Gives inputs to a parser and notes what must not happen: another error than it may raise, a hang, memory that stays."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import Make, Mutator

HANG_S = 1.0
ABANDON_S = 20.0  # an input that takes so long is broken off
GROWTH = 48 << 20  # bytes of resident memory that a run may end with more than it had after its first fifth
KINDS = 20  # different findings of one parser; then it is left
PAGE = os.sysconf("SC_PAGE_SIZE")


class Failed(Exception):
    """A parser took an input in a way that it must not."""


@dataclass(frozen=True)
class Parser:
    """``begin`` prepares and gives the function that is tried; what it raises beside ``allowed`` is a finding."""

    name: str
    begin: Callable[[ExitStack], Callable[[bytes], object]]
    good: Make | Sequence[bytes]
    allowed: tuple[type[BaseException], ...] = ()
    tokens: Sequence[bytes] = ()
    limit: int = 64 * 1024
    intact: float = 0.05  # of the inputs are good ones
    share: float = 1.0  # of the inputs that others get: some parsers stand behind a disk


@dataclass
class Finding:
    """What went wrong, where, how often, and an input that shows it."""

    what: str
    where: str
    data: bytes
    count: int = 1


@dataclass
class Report:
    """One parser's run. Bytes of memory, seconds."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    growth: int = 0
    refused: int = 0
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.inputs / self.seconds if self.seconds else 0.0

    def add(self, what: str, where: str, data: bytes) -> None:
        """Note a finding; of several of one kind the shortest input is kept."""
        known = self.findings.setdefault((re.sub(r"\d+|'.*?'", "_", what)[:60], where), Finding(what, where, data, 0))
        known.count += 1
        if len(data) < len(known.data):
            known.what, known.data = what, data


class Hang(BaseException):
    """Not an Exception: nobody is to take it for a bad input."""


def run(parser: Parser, seed: int, inputs: int, seconds: float = float("inf"), kinds: int = KINDS) -> Report:
    """Try so many inputs, or for so long, or until there are so many kinds of findings."""
    report = Report(parser.name)
    mutator = Mutator(seed, parser.good, parser.tokens, parser.limit, parser.intact)
    began = time.perf_counter()
    base: int | None = None
    with ExitStack() as stack:
        stack.enter_context(_watched())
        attempt = parser.begin(stack)
        while report.inputs < inputs and len(report.findings) < kinds:
            report.seconds = time.perf_counter() - began
            if report.seconds > seconds:
                break
            if base is None and (report.inputs >= inputs // 5 or report.seconds > seconds / 5):
                base = resident()
            data = mutator.next()
            report.inputs += 1
            _try(parser, attempt, data, report)
        report.growth = max(0, resident() - base) if base is not None else 0
    report.seconds = time.perf_counter() - began
    if report.growth > GROWTH and report.inputs > 1000:
        report.add(f"memory grew by {report.growth >> 20} MiB", "", b"")
    return report


def _try(parser: Parser, attempt: Callable[[bytes], object], data: bytes, report: Report) -> None:
    start = time.thread_time()
    try:
        signal.setitimer(signal.ITIMER_REAL, ABANDON_S)
        attempt(data)
    except parser.allowed:
        report.refused += 1
    except Hang:
        report.add(f"no end within {ABANDON_S:.0f} s", _place(), data)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        report.add(f"{type(error).__name__}: {error}"[:300], _place(), data)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.thread_time() - start
    report.slowest = max(report.slowest, took)
    if took > HANG_S:
        report.add(f"took {took:.1f} s", "", data)


def _place() -> str:
    """Where in davfs the present exception was raised, else where at all."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    own = [frame for frame in frames if "/davfs/" in frame.filename and "site-packages" not in frame.filename]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"


def resident() -> int:
    """Bytes of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """SIGALRM breaks an input off, also inside a regular expression."""

    def alarm(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, alarm)
    logger, silent = logging.getLogger("davfs"), logging.NullHandler()
    passes, logger.propagate = logger.propagate, False  # a refusal that is worth a line is worth a thousand here
    logger.addHandler(silent)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.removeHandler(silent)
        logger.propagate = passes
        signal.signal(signal.SIGALRM, before)


def table(reports: Sequence[Report]) -> str:
    """Parser, inputs, rate, the slowest input, memory and findings, a line each."""
    head = f"{'parser':<18} {'inputs':>9} {'refused':>8} {'a second':>9} {'slowest':>9} {'memory':>9}  findings"
    lines = [head, "-" * len(head)]
    for one in reports:
        lines.append(
            f"{one.name:<18} {one.inputs:>9} {one.refused / max(1, one.inputs):>7.0%} {one.rate:>9.0f} "
            f"{one.slowest * 1000:>6.1f} ms {one.growth >> 10:>+5d} KiB  {len(one.findings) or '-'}"
        )
    total = sum(one.inputs for one in reports)
    spent = sum(one.seconds for one in reports)
    lines.append(f"{'all':<18} {total:>9} {'':>8} {total / spent if spent else 0:>9.0f}")
    for one in reports:
        for finding in one.findings.values():
            lines.append(f"\n{one.name}: {finding.what} ({finding.count} times) {finding.where}\n    {finding.data[:400]!r}")
            if len(finding.data) > 400:
                lines.append(f"    ... {len(finding.data)} bytes")
    return "\n".join(lines)
