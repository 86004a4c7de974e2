"""Full disks: 507, the old file stays, reading goes on, no node dies, and the drive starts again."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import DevCluster
from tests.support.tools import require_root

SIZE_MIB = 220
ATTEMPTS = 6


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A tmpfs of its own; all three nodes live on it."""
    require_root("mounts a small tmpfs")
    directory = Path(tempfile.mkdtemp(prefix="davfs-small-"))
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(directory)], check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False, capture_output=True)
        directory.rmdir()


@pytest.mark.root
def test_a_full_disk_is_answered_507_and_keeps_the_old_file(
    small_disk: Path, make_drive: Callable[..., DevCluster], tmp_path: Path
) -> None:
    cluster = make_drive(directory=small_disk)
    # Logs must not be what fills the disk.
    cluster.log = tmp_path / "dev.log"
    cluster.start()
    old = secrets.token_bytes(5 << 20)
    too_much = secrets.token_bytes(SIZE_MIB << 20)
    with cluster.client(1, timeout=60) as client:
        assert client.put("old.bin", old).status == 201
        for attempt in range(ATTEMPTS):
            answer = client.put("old.bin", too_much)
            assert answer.status == 507, cluster.story(f"attempt {attempt} was answered {answer.status}")
            assert client.get("old.bin").body == old
        assert client.put("new.bin", too_much).status == 507
        assert "new.bin" not in client.members()
    stored: dict[int, int] = {}
    for number in (1, 2, 3):
        assert cluster.living_pid(number) is not None, cluster.story(f"node {number} died of a full disk")
        with cluster.client(number) as client:
            assert client.get("old.bin").body == old
            # Chunks of refused uploads may still fill the disk until they are collected: refused again, or stored.
            stored[number] = client.put(f"small {number}.txt", b"small").status
            assert stored[number] in (201, 507), cluster.story(f"a small PUT was answered {stored[number]}")
    assert cluster.stop() == 0
    cluster.start()
    with cluster.client(2) as client:
        assert client.get("old.bin").body == old
        for number, status in stored.items():
            answer = client.get(f"small {number}.txt")
            assert (answer.status, answer.body[:5]) == ((200, b"small") if status == 201 else (404, answer.body[:5]))
    assert cluster.stop() == 0
