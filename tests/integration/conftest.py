"""Real drives for integration tests: one shared by tests that harm nothing, fresh ones for those that kill."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import DevCluster


@pytest.fixture(scope="session")
def drive() -> Iterator[DevCluster]:
    """A three-node drive with the volumes demo and second, for the whole run. Tests leave it as healthy as they found it."""
    directory = Path(tempfile.mkdtemp(prefix="davfs-drive-"))
    cluster = DevCluster(directory / "drive", volumes=("demo", "second"))
    try:
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        cluster.destroy()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def make_drive() -> Iterator[Callable[..., DevCluster]]:
    """Makes drives of a test's own (not started yet); all are destroyed at the end."""
    made: list[tuple[DevCluster, Path | None]] = []

    def make(directory: Path | None = None, **options: Any) -> DevCluster:
        own = Path(tempfile.mkdtemp(prefix="davfs-drive-")) if directory is None else None
        cluster = DevCluster((own or directory or Path()) / "drive", **options)
        made.append((cluster, own))
        return cluster

    yield make
    for cluster, own in made:
        cluster.destroy()
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


@pytest.fixture
def fresh(make_drive: Callable[..., DevCluster]) -> DevCluster:
    """A started three-node drive for one test alone."""
    cluster = make_drive()
    cluster.start()
    return cluster
