"""Other nodes keep a volume's records while people write and the holder is killed; then the old node is removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.support.cluster import DAVFS, DevCluster
from tests.support.newcomer import Newcomer, admitted, token_of
from tests.support.writes import Writer, judge

SMALL = {f"small-{number}": f"content {number}".encode() * 50 for number in range(60)}


def shown(cluster: DevCluster, number: int = 1) -> dict[str, Any]:
    done = cluster.command("volume", "show", "demo", "--json", number=number)
    assert done.returncode == 0, cluster.story(done.stderr)
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def begin(cluster: DevCluster, *words: str, number: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(DAVFS), "volume", "replace-replica", "demo", *words, "--config", str(cluster.config(number))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def keeps(cluster: DevCluster, name: str) -> bool:
    """Whether a node has a replica of a volume on its disk."""
    return bool(list((cluster.directory / name / "data" / "volumes").glob("*.sqlite*")))


def _writer(cluster: DevCluster, fourth: Newcomer) -> Writer:
    urls = [*(cluster.url(number) for number in (1, 2, 3)), f"http://127.0.0.1:{fourth.port}/demo/"]
    writer = Writer(urls, 1, largest=100_000)
    writer.start()
    return writer


def test_replicas_are_replaced_under_load_and_the_holder_dies(make_drive: Callable[..., DevCluster]) -> None:
    cluster = make_drive(options=("--ttl", "2"))
    cluster.start()
    with cluster.client(1) as client:
        assert all(client.put(name, data).ok for name, data in SMALL.items())
    fourth = admitted(cluster, "fourth", token_of(cluster), 1)
    writer = _writer(cluster, fourth)
    holder = cluster.holder()
    leader = cluster.status()["leader"]  # is not the one that is stopped for a while
    first, second = sorted((n for n in (1, 2, 3) if n != holder), key=lambda number: leader == f"node-{number}")

    began = time.monotonic()
    done = cluster.command("volume", "replace-replica", "demo", f"node-{first}", "fourth", number=second)
    assert done.returncode == 0, cluster.story(done.stderr)
    print(f"a replica replaced under load in {time.monotonic() - began:.1f} s\n{done.stderr}")
    assert set(shown(cluster)["replicas"]) == {"fourth", f"node-{holder}", f"node-{second}"}

    os.kill(cluster.pid(first), signal.SIGSTOP)  # so that the change cannot end before the holder does
    changing = begin(cluster, f"node-{holder}", f"node-{first}", number=second)
    cluster.until("the change to begin", lambda: shown(cluster, second)["change"], 30)
    killed = cluster.kill(holder)
    os.kill(cluster.pid(first), signal.SIGCONT)
    _, told = changing.communicate(timeout=60)
    assert changing.returncode == 0, cluster.story(told)
    print(f"the holder, whose place is taken, killed meanwhile: done {time.monotonic() - killed:.1f} s later\n{told}")
    volume = shown(cluster, second)
    assert set(volume["replicas"]) == {"fourth", f"node-{first}", f"node-{second}"} and volume["change"] is None
    writer.await_ack(20)
    writer.finish()

    cluster.serve(holder)
    cluster.until("the old replica to go", lambda: not keeps(cluster, f"node-{holder}"), 40)
    removed = cluster.command("node", "remove", f"node-{holder}", number=second, limit=60)
    assert removed.returncode == 0, cluster.story(removed.stderr)
    with cluster.client(first) as client:
        assert judge(client, [writer], tuple(SMALL)) > 0
    with cluster.client(second) as client:
        assert all(client.get(name).body == data for name, data in SMALL.items())


def test_a_change_is_cancelled_and_a_node_that_goes_hands_its_volumes_over(make_drive: Callable[..., DevCluster]) -> None:
    cluster = make_drive(options=("--ttl", "2"))
    cluster.start()
    with cluster.client(1) as client:
        assert all(client.put(name, data).ok for name, data in SMALL.items())
    fourth = admitted(cluster, "fourth", token_of(cluster), 1)
    assert fourth.process is not None
    fourth.process.kill()
    fourth.process.wait(10)
    assert cluster.command("volume", "replace-replica", "demo", "--add", "fourth", "--no-wait").returncode == 0
    words = cluster.command("volume", "show", "demo").stdout
    assert "change of demo: fourth as one more" in words and "version 2 of the set" in words
    for wrong in (["node-1"], ["--remove", "fourth"]):
        assert cluster.command("volume", "replace-replica", "demo", *wrong).returncode == 1
    assert cluster.command("volume", "replace-replica", "demo", "--cancel").returncode == 0
    volume = shown(cluster)
    assert volume["change"] is None and len(volume["replicas"]) == 3
    assert cluster.command("volume", "replace-replica", "demo", "--remove", "node-2").returncode == 0

    fourth.serve()
    cluster.until("the fourth again", lambda: fourth.state()["up"], 30)
    assert cluster.command("volume", "replace-replica", "demo", "--add", "fourth").returncode == 0
    removed = cluster.command("node", "remove", "node-3", limit=60)
    assert removed.returncode == 0, cluster.story(removed.stderr)
    assert "node-2 in place of node-3" in removed.stderr and "is removed" in removed.stdout
    assert set(shown(cluster)["replicas"]) == {"node-1", "node-2", "fourth"}
    with cluster.client(2) as client:
        assert all(client.get(name).body == data for name, data in SMALL.items())
