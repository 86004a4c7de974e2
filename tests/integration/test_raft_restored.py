"""Raft's state comes back from an older copy, beside replicas that are newer: no epoch is granted a second time."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from tests.support.cluster import DevCluster


def test_no_epoch_is_granted_again_after_raft_was_restored(make_drive: Callable[..., DevCluster]) -> None:
    cluster = make_drive(nodes=1, options=("--ttl", "2"))
    raft = cluster.directory / "node-1" / "data" / "raft"
    old = cluster.directory / "older copy"
    granted: list[tuple[int, int]] = []

    def write(name: str) -> None:
        with cluster.client(1) as client:
            cluster.until(f"PUT {name}", lambda: client.put(name, name.encode()).ok, 20)
        volume = cluster.volume()
        granted.append((volume["incarnation"], volume["epoch"]))

    cluster.start()
    write("before the copy")
    refused = cluster.command("node", "restored")
    assert refused.returncode == 1 and "stop that node" in refused.stderr, "it runs"
    cluster.stop()
    shutil.copytree(raft, old)
    cluster.start()
    write("after the copy")
    cluster.stop()

    shutil.rmtree(raft)
    shutil.copytree(old, raft)
    done = cluster.command("node", "restored")
    assert done.returncode == 0 and "1 volumes on node-1" in done.stdout, done.stderr
    cluster.start()
    write("after the restore")
    assert granted == sorted(set(granted)), f"epochs as they were granted: {granted}"
    assert granted[-1][0] > granted[0][0], "another incarnation of the cluster"
    with cluster.client(1) as client:
        assert client.members() == ["after the copy", "after the restore", "before the copy"]
        assert client.get("after the copy").body == b"after the copy"
    assert cluster.stop() == 0
