"""A node is removed while people write: refused as long as anything depends on it, and for good."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.support.cluster import DevCluster
from tests.support.newcomer import Newcomer, admitted, token_of
from tests.support.writes import Writer, digest, judge

FILES = {f"large-{number}.bin": random.Random(number).randbytes(5_000_000) for number in range(6)}


def test_a_node_goes_when_nothing_depends_on_it_and_does_not_come_back(make_drive: Callable[..., DevCluster]) -> None:
    cluster = make_drive(options=("--ttl", "2"))
    cluster.start()
    refused = cluster.command("node", "remove", "node-2", limit=60)
    assert refused.returncode == 1 and "keeps the records of demo, and so does every other" in refused.stderr
    assert cluster.command("node", "remove", "nobody", limit=60).returncode == 1

    fourth = admitted(cluster, "fourth", token_of(cluster), 1)
    with fourth.client("demo") as client:
        for name, data in FILES.items():
            assert client.put(name, data).ok
    cluster.until("chunks on the fourth", fourth.chunks, 15)
    _refused_while_copies_are_missing(cluster)

    writers = [Writer([cluster.url(number), cluster.url(number % 3 + 1)], number) for number in (1, 2)]
    for writer in writers:
        writer.start()
    done = cluster.command("node", "remove", "fourth", limit=60)
    assert done.returncode == 0, cluster.story(done.stderr)
    print(done.stdout.strip())
    assert fourth.process is not None
    assert fourth.process.wait(20) == 1, "a removed node ends by itself"
    cluster.until("three voters", lambda: _names(cluster) == {"node-1": True, "node-2": True, "node-3": True}, 10)
    for writer in writers:
        writer.await_ack(10)
        writer.finish()
    for number in (1, 2, 3):
        with cluster.client(number) as client:
            assert judge(client, writers, tuple(FILES)) > 0
            assert all(digest(client.get(name).body) == digest(data) for name, data in FILES.items())

    _does_not_come_back(cluster, fourth)


def _refused_while_copies_are_missing(cluster: DevCluster) -> None:
    """Two disks lose their chunks: what the fourth has of them is needed. With the disks back, it is not."""
    folders = [cluster.directory / f"node-{number}" / "data" / "chunks" for number in (2, 3)]
    for folder in folders:
        _swap(folder, folder.with_name("aside"))
    refused = cluster.command("node", "remove", "fourth", limit=60)
    assert refused.returncode == 1 and "fewer than 2 copies" in refused.stderr, refused.stderr
    for folder in folders:
        _swap(folder.with_name("aside"), folder)


def _swap(source: Path, target: Path) -> None:
    """Move what is in a folder, not the folder."""
    target.mkdir(exist_ok=True)
    for item in source.iterdir():
        item.rename(target / item.name)


def _names(cluster: DevCluster) -> dict[str, bool]:
    return {node["name"]: node["votes"] for node in cluster.status()["nodes"]}


def _does_not_come_back(cluster: DevCluster, gone: Newcomer) -> None:
    again = cluster.serve_file(gone.folder / "davfs.toml", "node-again")
    assert again.wait(20) == 1
    assert "removed from the cluster" in cluster.log.with_name(f"{cluster.directory.name}.node-again.log").read_text()
    namesake = Newcomer(cluster, gone.name)
    namesake.folder = gone.folder.with_name("namesake")
    refused = namesake.join(token_of(cluster))
    assert refused.returncode == 1 and "its name is not used again" in refused.stderr
