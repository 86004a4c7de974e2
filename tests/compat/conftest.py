"""A three-node drive for the real clients."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import DevCluster


@pytest.fixture(scope="session")
def drive() -> Iterator[DevCluster]:
    """One drive for the whole run."""
    directory = Path(tempfile.mkdtemp(prefix="davfs-compat-"))
    cluster = DevCluster(directory / "drive")
    try:
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        cluster.destroy()
        shutil.rmtree(directory, ignore_errors=True)
