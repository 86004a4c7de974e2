"""Prints commit latency, fail-over time and idle CPU of three members: ``python tests/integration/consensus/measure.py``.

All three share this process and its GIL. With ``--http`` they speak HTTP and mutual TLS as in production; without, a network
in memory, so that the figures are Raft's and the journal's own.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.integration.consensus.cluster import Cluster
from tests.integration.consensus.over_http import HttpWires


def latencies(cluster: Cluster, name: str, count: int) -> list[float]:
    node = cluster.nodes[name]
    took = []
    for number in range(count):
        start = time.perf_counter()
        node.submit((f"{name}-{number}", number), 5)
        took.append((time.perf_counter() - start) * 1000)
    return sorted(took)


def show(label: str, took: list[float]) -> None:
    p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
    print(f"{label}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, worst {took[-1]:.2f} ms ({len(took)} commands)")


def burst(cluster: Cluster, threads: int, each: int) -> float:
    """Commands a second from many threads at once."""
    nodes = list(cluster.nodes.values())

    def work(worker: int) -> None:
        for number in range(each):
            nodes[worker % len(nodes)].submit((f"burst-{worker}-{number}", 0), 10)

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(threads)]
    start = time.perf_counter()
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    return threads * each / (time.perf_counter() - start)


def failover(cluster: Cluster, rounds: int) -> list[float]:
    """Seconds from the death of the leader to the next commit through another member."""
    took = []
    for number in range(rounds):
        leader = cluster.leader().name
        cluster.settle([])
        survivor = next(name for name in cluster.names if name != leader)
        cluster.stop(leader)
        start = time.perf_counter()
        cluster.nodes[survivor].submit((f"failover-{number}", 0), 10)
        took.append(time.perf_counter() - start)
        cluster.start(leader)
    return sorted(took)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        http = "--http" in sys.argv
        cluster = Cluster(Path(directory), network=HttpWires(Path(directory) / "ca").port if http else None)
        try:
            leader = cluster.leader().name
            follower = next(name for name in cluster.names if name != leader)
            show("commit at the leader", latencies(cluster, leader, 500))
            show("commit at a follower", latencies(cluster, follower, 500))
            print(f"burst: {burst(cluster, 20, 50):.0f} commands/s from 20 threads")
            cpu, wall = time.process_time(), time.perf_counter()
            time.sleep(5)
            share = (time.process_time() - cpu) / (time.perf_counter() - wall) / 3 * 100
            print(f"idle: {share:.2f} % of a core a member")
            took = failover(cluster, 10)
            print(f"fail-over: median {statistics.median(took):.2f} s, worst {took[-1]:.2f} s (10 rounds)")
        finally:
            cluster.close()


if __name__ == "__main__":
    main()
