"""Prints what a takeover costs, with real processes: ``python tests/integration/fencing/measure.py [ROUNDS]``.

Three nodes of this machine with the default ttl of 5 s, while three clients write.
"""

from __future__ import annotations

import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from davfs.core.errors import DavfsError
from tests.integration.fencing.drive import TTL, Inside, cpu_seconds
from tests.integration.fencing.faults import Takeover, arrange, bring_back, others, strike
from tests.support.cluster import DevCluster


def show(label: str, rounds: list[Takeover], bound: str) -> None:
    first, every, gaps = [r.first for r in rounds], [r.every for r in rounds], [r.gap for r in rounds]
    print(
        f"{label}: first write median {statistics.median(first):.2f} s, worst {max(first):.2f} s; through every node "
        f"median {statistics.median(every):.2f} s, worst {max(every):.2f} s; longest time without median "
        f"{statistics.median(gaps):.2f} s, worst {max(gaps):.2f} s ({len(rounds)} rounds, wanted {bound}; "
        f"{sum(r.acknowledged for r in rounds)} writes acknowledged, {sum(len(r.failed) for r in rounds)} requests failed, "
        f"{sum(len(r.failed_twice) for r in rounds)} also when tried again)",
        flush=True,
    )
    for text in [text for r in rounds for text in r.failed_twice][:5]:
        print("   ", text)


def commits(inside: Inside, count: int = 500) -> None:
    """Latency of a Raft commit, each asked for over node-to-node HTTP, through the leader and through a follower."""
    leader = inside.leader()
    for label, number in (("leader", leader), ("follower", others(inside.cluster, leader)[0])):
        took = []
        for _ in range(count):
            began = time.perf_counter()
            inside.ask(number, "admin.volume_list")
            took.append((time.perf_counter() - began) * 1000)
        took.sort()
        p50, p99 = took[count // 2], took[int(count * 0.99)]
        print(f"Raft commit through the {label}: p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)


def idle(cluster: DevCluster, seconds: float = 20.0) -> None:
    """Share of one core that each node uses while nobody asks anything (the volume is held)."""
    pids = [cluster.pid(number) for number in range(1, cluster.count + 1)]
    before, began = [cpu_seconds(pid) for pid in pids], time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    shares = [100 * (cpu_seconds(pid) - old) / took for pid, old in zip(pids, before, strict=True)]
    print("idle: " + ", ".join(f"{share:.2f} %" for share in shares) + " of a core", flush=True)


def failover(cluster: DevCluster, inside: Inside, rounds: int = 10) -> None:
    """From kill -9 of the node that leads Raft to the next commit, asked for through a node that is left."""
    took = []
    for _ in range(rounds):
        leader = inside.leader()
        cluster.kill(leader)
        began = time.monotonic()
        survivor = others(cluster, leader)[0]
        while True:
            try:
                inside.ask(survivor, "admin.volume_list", 10.0)
                break
            except DavfsError:
                time.sleep(0.01)
        took.append(time.monotonic() - began)
        bring_back(cluster, leader)
        inside.settle()
    print(
        f"kill -9 of the Raft leader: next commit median {statistics.median(took):.2f} s, worst {max(took):.2f} s "
        f"({rounds} rounds, wanted <= 1 s)",
        flush=True,
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    directory = Path(tempfile.mkdtemp(prefix="davfs-measure-"))
    cluster = DevCluster(directory / "drive")
    try:
        cluster.start()
        inside = Inside(cluster)
        inside.settle()
        commits(inside)
        idle(cluster)
        failover(cluster, inside)
        for label, sign, leads, bound in (
            ("SIGTERM of the holder", signal.SIGTERM, False, "< 1 s"),
            ("SIGTERM of the holder that leads Raft", signal.SIGTERM, True, "< 1 s"),
            ("kill -9 of the holder", signal.SIGKILL, False, f"<= {TTL + 2:g} s"),
            ("kill -9 of the holder that leads Raft", signal.SIGKILL, True, f"<= {2 * TTL + 2:g} s"),
            ("SIGSTOP of the holder", signal.SIGSTOP, False, f"<= {TTL + 2:g} s"),
        ):
            done = []
            for _ in range(rounds):
                holder, _leader = arrange(cluster, inside, holder_leads=leads)
                done.append(strike(cluster, holder, sign, 40))
                if sign == signal.SIGSTOP:
                    cluster.kill(holder)
                bring_back(cluster, holder)
            show(label, done, bound)
        inside.close()
        cluster.stop()
    finally:
        cluster.destroy()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
