"""Crash points, the small version: one recording of a new node's first minute, and some of its points."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash import points, scenarios
from tests.crash.careless import CARELESS
from tests.crash.points import Point
from tests.crash.record import Recording
from tests.crash.restart import Restarter, restarters
from tests.support.tools import require_tool

SAMPLE = 20
PLAIN = ("all", "synced", "names")
TELLING = ("answer", "rename")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    require_tool("strace")
    scratch = tmp_path_factory.mktemp("crash")
    return scenarios.short(scratch / "cluster", scratch)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """In memory, if there is such a file system: nothing of it is to survive a real crash."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="davfs-crash-", dir=memory if os.access(memory, os.W_OK) else None
    ) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Restarter]]:
    with restarters(2) as found:
        yield found


def _wrong(found: Iterator[Point], workers: list[Restarter], scratch: Path, stop_at: int = 0) -> list[str]:
    rows = points.run(found, workers, scratch, stop_at=stop_at)
    return [text for row in rows.values() for text in row.wrong]


def test_what_was_acknowledged_survives_and_nothing_is_half(
    recording: Recording, workers: list[Restarter], scratch: Path
) -> None:
    count = sum(1 for _ in points.points(recording, widest=2))
    assert count > 1000
    chosen = set(random.Random(5).sample(range(count), SAMPLE))
    found = (point for number, point in enumerate(points.points(recording, widest=2)) if number in chosen)
    assert _wrong(found, workers, scratch) == []


@pytest.mark.parametrize("careless", CARELESS)
def test_a_careless_davfs_is_found(
    careless: str, recording: Recording, workers: list[Restarter], scratch: Path
) -> None:
    edited = replace(recording, calls=CARELESS[careless](recording.calls))
    found = (
        point
        for point in points.points(edited, widest=0)
        if point.left.keep.name in PLAIN and edited.calls[point.number].kind in TELLING
    )
    wrong = _wrong(found, workers, scratch, stop_at=1)
    print(wrong)
    assert wrong


@pytest.mark.parametrize("name", ["renewal", "install"])
def test_programs_leave_the_old_or_the_new(name: str, workers: list[Restarter], scratch: Path) -> None:
    require_tool("strace")
    recording = scenarios.RECORDINGS[name](scratch / "cluster", scratch)
    renamed = [number for number, call in enumerate(recording.calls) if call.kind in ("rename", "mark")]
    found = (
        point
        for point in points.points(recording, widest=3)
        if point.number in renamed[-3:] and point.left.keep.name in ("synced", "names", "one lost", "one kept")
    )
    assert _wrong(found, workers, scratch / "states") == []
