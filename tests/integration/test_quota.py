"""Quota and free space of a real drive, through a node that is not the holder."""

from __future__ import annotations

import re
import shutil

from compat.client import DavClient
from tests.support.cluster import DevCluster

MIB = 1 << 20
ASK = (
    '<?xml version="1.0"?><D:propfind xmlns:D="DAV:"><D:prop>'
    "<D:quota-used-bytes/><D:quota-available-bytes/></D:prop></D:propfind>"
)


def _quota(client: DavClient) -> tuple[int, int]:
    body = client.request("PROPFIND", "", ASK.encode(), {"Depth": "0"}).body.decode()
    used, available = (re.search(rf"<D:quota-{what}-bytes>(\d+)<", body) for what in ("used", "available"))
    assert used is not None, body
    assert available is not None, body
    return int(used[1]), int(available[1])


def test_a_quota_holds_and_is_told(drive: DevCluster) -> None:
    assert drive.command("volume", "create", "small", "--quota", "20M").returncode == 0
    with drive.client(1, "small") as client:
        drive.until("the new volume", lambda: client.request("MKCOL", "d").status == 201, 20)
    with drive.client(drive.holder("small") % 3 + 1, "small") as client:
        used, available = _quota(client)
        assert (used + available, used < MIB) == (20 * MIB, True)
        assert client.put("d/one", bytes(12 * MIB)).status == 201
        full = client.put("d/two", bytes(9 * MIB))
        assert full.status == 507
        assert b"quota-not-exceeded" in full.body
        assert client.get("d/two").status == 404
        assert _quota(client) == (used + 12 * MIB, available - 12 * MIB)
        done = drive.command("volume", "set-quota", "small", "30M", number=2)
        assert (done.returncode, done.stdout) == (0, f"volume small may hold {30 * MIB} bytes\n"), done.stderr
        drive.until("the new quota", lambda: _quota(client)[1] == available - 2 * MIB, 10)
        assert client.put("d/two", bytes(9 * MIB)).status == 201
        assert drive.command("volume", "set-quota", "small", "22M").returncode == 0
        drive.until("the smaller quota", lambda: _quota(client)[1] < 2 * MIB, 10)
        assert client.request("DELETE", "d/one").status == 204
        assert client.put("d/three", bytes(9 * MIB)).status == 507  # the trash counts
        collected = drive.command("gc", "run", "small", number=3)
        assert "taken out of the trash" in collected.stdout, collected.stderr
        assert client.put("d/three", bytes(9 * MIB)).status == 201
        assert client.get("d/two").status == 200
        assert drive.command("volume", "set-quota", "small", "lots").returncode == 2
        assert drive.command("volume", "set-quota", "small", "none").returncode == 0
        free = shutil.disk_usage(drive.directory).free  # all nodes share it here, and each would take a copy of everything
        drive.until("no quota", lambda: abs(_quota(client)[1] - free) < max(free // 10, 256 * MIB), 15)
