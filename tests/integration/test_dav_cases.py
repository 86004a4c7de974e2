"""The cases of the DAV side (tests/unit/dav) once more, against a real drive, through a node that is not the holder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.cluster import DevCluster

ROOT = Path(__file__).resolve().parents[2]
CASES = tuple(
    f"test_{name}.py" for name in ("files", "collections", "checksums", "sync", "partial", "uploads", "tus", "properties")
)


def test_dav_cases_through_another_node(make_drive: Callable[..., DevCluster]):
    cluster = make_drive(volumes=("demo", "Other"))
    cluster.start()
    other = cluster.holder("demo") % 3 + 1
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=60", *(f"tests/unit/dav/{name}" for name in CASES)]
    environment = {**os.environ, "DAVFS_DAV_PORT": str(cluster.port + other - 1)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, cluster.story(done.stdout[-6000:])
    assert cluster.volume("demo")["holder"] != f"node-{other}"
