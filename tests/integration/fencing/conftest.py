"""A drive with a short ttl for the fencing tests: each leaves it with all nodes up."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.fencing.drive import Inside
from tests.support.cluster import DevCluster
from tests.support.tools import full_size

TTL = 5.0 if full_size() else 2.0


@pytest.fixture(scope="package")
def cluster() -> Iterator[DevCluster]:
    """Three nodes, volumes demo and second, token ttl TTL seconds."""
    directory = Path(tempfile.mkdtemp(prefix="davfs-fencing-"))
    made = DevCluster(directory / "drive", volumes=("demo", "second"), options=("--ttl", f"{TTL:g}"))
    try:
        made.start()
        yield made
        made.stop()
    finally:
        made.destroy()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def inside(cluster: DevCluster) -> Iterator[Inside]:
    """The nodes of ``cluster``, asked directly."""
    made = Inside(cluster)
    yield made
    made.close()
