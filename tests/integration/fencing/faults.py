"""One round of each fault: a holder killed, told to stop, or paused while people write; how long nobody could, and what broke.

Used by the tests with few rounds and by ``measure.py`` with many.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException

from tests.integration.fencing.drive import Counter, Inside
from tests.support.cluster import DevCluster


@dataclass(frozen=True)
class Takeover:
    """Seconds from the fault to the end of the first acknowledged PUT that began after it: through any node left, and
    through each of them. ``gap``: the longest that any node left went without an acknowledgement (a holder that is told to
    stop goes on for a moment, so that the first write says little). ``failed_twice``: requests whose one retry failed too."""

    first: float
    every: float
    gap: float
    failed: list[str]
    failed_twice: list[str]
    acknowledged: int


def arrange(cluster: DevCluster, inside: Inside, *, holder_leads: bool) -> tuple[int, int]:
    """Make the Raft leader the holder of the volume, or another node; (holder, leader)."""
    for _ in range(6):
        inside.settle()
        leader = inside.leader()
        holder = inside.holder(leader)
        if (holder == leader) == holder_leads:
            return holder, leader
        cluster.kill(holder, signal.SIGTERM)
        leader = inside.leader()
        inside.holder(leader if holder_leads else next(n for n in others(cluster, holder) if n != leader))
        cluster.serve(holder)
    raise AssertionError(cluster.story("holder and leader could not be brought to the wanted places"))


def others(cluster: DevCluster, number: int) -> list[int]:
    """All nodes but one."""
    return [n for n in range(1, cluster.count + 1) if n != number]


def bring_back(cluster: DevCluster, number: int) -> None:
    """Start a node again that was killed or told to stop."""
    cluster.until(f"the end of node {number}", lambda: cluster.living_pid(number) is None, 20)
    cluster.serve(number)


def strike(cluster: DevCluster, holder: int, sign: signal.Signals, limit: float) -> Takeover:
    """Send a signal to the holder in the middle of writes, and go on until every other node takes writes again.

    Checks that the first request through each node left shows everything that was acknowledged, and that at the end
    everything acknowledged is there. SIGKILL and SIGTERM leave the node down, SIGSTOP leaves it stopped.
    """
    left = others(cluster, holder)
    label = f"{sign.name.lower()}-{time.monotonic_ns()}"
    counters = {number: Counter(cluster, [number], f"{label}-{number}") for number in left}
    roaming = Counter(cluster, [holder, *left], f"{label}-roaming", timeout=5.0 if sign == signal.SIGSTOP else 30.0)
    everyone = [*counters.values(), roaming]
    for counter in everyone:
        counter.start()
    wrong: list[str] = []
    try:
        cluster.until("writes before the fault", lambda: all(len(c.acknowledged) >= 5 for c in everyone), 20)
        moment = time.monotonic()
        os.kill(cluster.pid(holder), sign)
        lookers = [
            threading.Thread(target=_look, args=(cluster, number, [*counters.values(), roaming], wrong), daemon=True)
            for number in left
        ]
        for looker in lookers:
            looker.start()
        cluster.until(
            f"a write through each of {left} after {sign.name} of node {holder}",
            lambda: all(counter.first_after(moment) for counter in counters.values()),
            limit,
        )
        if sign == signal.SIGTERM:
            cluster.until("the end of the holder", lambda: cluster.living_pid(holder) is None, 20)
            time.sleep(0.5)
        for looker in lookers:
            looker.join(30)
    finally:
        for counter in everyone:
            counter.finish()
    assert not wrong, "\n".join(wrong)
    for number in left:
        for counter in everyone:
            counter.judge(number)
    times = [counter.first_after(moment) or 0.0 for counter in counters.values()]
    return Takeover(
        min(times),
        max(times),
        max(counter.longest_gap(moment) for counter in counters.values()),
        [text for counter in everyone for text in counter.failed],
        [text for counter in everyone for text in counter.failed_twice],
        sum(len(counter.acknowledged) for counter in everyone),
    )


def _look(cluster: DevCluster, number: int, counters: list[Counter], wrong: list[str]) -> None:
    """What the first requests through a node after the fault show."""
    with cluster.client(number, timeout=30) as client:
        for counter in counters:
            try:
                problem = counter.look(client)
            except (OSError, HTTPException) as error:
                problem = f"a read through node {number} failed: {error!r}"
            if problem:
                wrong.append(f"node {number}: {problem}")
