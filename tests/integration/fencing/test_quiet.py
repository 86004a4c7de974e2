"""Load on all nodes does not look like a dead leader, and one node of five that is slow or paused stops nobody."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path

import pytest

from compat.client import PROPFIND_NAMES
from tests.integration.fencing.conftest import TTL
from tests.integration.fencing.drive import Counter, Inside, number_of, stopped
from tests.support.cluster import DevCluster
from tests.support.tools import full_size

LOAD_S = 60.0 if full_size() else 15.0
PAUSE_S = 10.0 if full_size() else 3.0


# A process that only sleeps and syncs a byte: how long this machine keeps anybody waiting, whatever davfs does.
CANARY = """
import os, select, sys, time
slept = synced = 0.0
with open(sys.argv[1], "wb", buffering=0) as file:
    while True:
        began = time.monotonic()
        if select.select([sys.stdin], [], [], 0.01)[0]:
            break
        slept = max(slept, time.monotonic() - began)
        began = time.monotonic()
        file.write(b"x")
        os.fdatasync(file.fileno())
        synced = max(synced, time.monotonic() - began)
print(slept, synced)
"""
LONG_SLEEP_S, LONG_SYNC_S = 0.2, 0.3  # beyond these a leader may look dead although nothing is wrong with it


class _Load(threading.Thread):
    """PUTs of several sizes and PROPFINDs to one node, one behind the other, as fast as they are answered."""

    def __init__(self, cluster: DevCluster, node: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.done = 0
        self.failed: list[str] = []
        self._cluster = cluster
        self._node = node
        self._source = random.Random(seed)
        self._seed = seed

    def run(self) -> None:
        with self._cluster.client(self._node) as client:
            while not self.ended.is_set():
                try:
                    if self.done % 3 == 0:
                        answer = client.request("PROPFIND", "", PROPFIND_NAMES, {"Depth": "1"})
                    else:
                        size = self._source.choice((100, 10_000, 60_000, 300_000, 5_000_000))
                        answer = client.put(f"load-{self._seed}-{self.done % 20}.bin", self._source.randbytes(size))
                    if not answer.ok:
                        self.failed.append(f"{answer.status} {answer.body[:100]!r}")
                except (OSError, HTTPException) as error:
                    self.failed.append(repr(error))
                self.done += 1


@pytest.mark.timeout(LOAD_S + 120)
def test_full_load_through_all_nodes_causes_no_election(cluster: DevCluster, inside: Inside) -> None:
    inside.settle()
    inside.holder(1)
    before = inside.terms()
    assert len(before) == 1
    loads = [_Load(cluster, node, 10 * node + n) for node in (1, 2, 3) for n in range(3)]
    canary = subprocess.Popen(
        [sys.executable, "-c", CANARY, str(cluster.directory / "canary")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    for load in loads:
        load.start()
    time.sleep(LOAD_S)
    said, _ = canary.communicate(timeout=30)  # closes its stdin
    slept, synced = map(float, said.split())
    for load in loads:
        load.ended.set()
    for load in loads:
        load.join(40)
        assert not load.is_alive(), "a request hangs"
    failed = [text for load in loads for text in load.failed]
    done = sum(load.done for load in loads)
    print(f"{done} requests in {LOAD_S:.0f} s, {len(failed)} failed {failed[:3]}; term {before}, then {inside.terms()}")
    print(f"the longest that another process was kept from running: {slept:.2f} s, and from the disk: {synced:.2f} s")
    assert not failed
    starved = slept > LONG_SLEEP_S or synced > LONG_SYNC_S
    assert inside.terms() == before or starved, "an election, on a machine that kept nobody waiting"


@pytest.fixture
def five() -> Iterator[DevCluster]:
    directory = Path(tempfile.mkdtemp(prefix="davfs-five-"))
    made = DevCluster(directory / "drive", nodes=5, options=("--ttl", f"{TTL:g}"))
    try:
        made.start()
        yield made
        made.stop()
    finally:
        made.destroy()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.timeout(200)
def test_one_of_five_paused_or_slow_stops_nobody(five: DevCluster) -> None:
    inside = Inside(five)
    inside.settle()
    holder, leader = inside.holder(1), inside.leader()
    (volume,) = inside.ask(1, "admin.status")["volumes"]
    replica = next(n for name in volume["replicas"] if (n := number_of(name)) not in (holder, leader))
    for victim, slow in ((replica, False), (replica, True), *([(leader, False)] if leader != holder else [])):
        left = [n for n in range(1, 6) if n != victim]
        counters = [Counter(five, [n], f"five-{n}-{time.monotonic_ns()}") for n in left]
        for counter in counters:
            counter.start()
        for counter in counters:
            five.until("writes", partial(_writes, counter), 20)
        began = time.monotonic()
        if slow:
            _limp(five.pid(victim), PAUSE_S)
        else:
            with stopped(five, victim):
                time.sleep(PAUSE_S)
        ended = time.monotonic()
        for counter in counters:
            counter.finish()
            assert not counter.failed, counter.failed[:3]
            counter.judge(left[0])
        gap = max(counter.longest_gap(began, ended) for counter in counters)
        what = "slow" if slow else "paused"
        role = "leads Raft" if victim == leader else "keeps a replica"
        print(f"a node that {role} was {what} for {PAUSE_S:g} s: longest time without an acknowledgement {gap:.2f} s")
        assert gap < PAUSE_S - 0.5, "writes went on meanwhile"
        five.until("the node to serve", partial(inside.ask, victim, "node.status"), 15)
    assert inside.holder(1) == holder, "the holder was not disturbed"
    inside.close()


def _writes(counter: Counter) -> bool:
    return len(counter.acknowledged) > 2


def _limp(pid: int, seconds: float) -> None:
    """Let a process run for a fifth of the time only."""
    ends = time.monotonic() + seconds
    with suppress(ProcessLookupError):
        try:
            while time.monotonic() < ends:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.2)
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.05)
        finally:
            os.kill(pid, signal.SIGCONT)
