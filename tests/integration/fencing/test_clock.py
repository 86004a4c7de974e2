"""Wall clocks that jump by hours under running nodes: nothing is granted, expired, refused or lost for it."""

from __future__ import annotations

import glob
import signal
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.integration.fencing.drive import Counter, Inside, is_served
from tests.support.cluster import DevCluster
from tests.support.tools import full_size, refuse

LOCK = (
    b'<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
    b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
)
JUMPS = ("+18000", "-25200", "+72000")  # seconds: 5 h ahead, 7 h behind, 20 h ahead

# What Python shows as wall-clock time, moved by what a file says. Monotonic and boot-time clocks stay the machine's.
SHIFT = """
import os, time
_now, _now_ns, _monotonic, _gmtime = time.time, time.time_ns, time.monotonic, time.gmtime
_file, _seen = os.environ["TEST_CLOCK"], [-1.0, 0]

def _offset():
    if _monotonic() - _seen[0] > 0.1:
        with open(_file) as stream:
            _seen[:] = [_monotonic(), int(stream.read())]
    return _seen[1]

time.time = lambda: _now() + _offset()
time.time_ns = lambda: _now_ns() + _offset() * 1_000_000_000
time.gmtime = lambda seconds=None: _gmtime(time.time() if seconds is None else seconds)
"""

# libfaketime 0.9.10 fails every clock_nanosleep that Python 3.11 makes for time.sleep (EINVAL); select is left alone.
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class Clocks:
    """The offset of each node's wall clock, in a file of its own."""

    def __init__(self, cluster: DevCluster) -> None:
        self.cluster = cluster

    def _file(self, number: int) -> Path:
        return self.cluster.directory / f"clock-{number}"

    def jump(self, number: int, offset: str) -> None:
        fresh = self._file(number).with_suffix(".new")
        fresh.write_text(offset)
        fresh.replace(self._file(number))  # never seen half-written

    def restart(self, number: int, code: str, environment: dict[str, str], sign: signal.Signals) -> None:
        """Let a node run with ``code`` in its interpreter before anything else. ``sign`` ends the old process."""
        site = self.cluster.directory / f"site-{number}"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(code)
        self.cluster.kill(number, sign)
        clock = {"TEST_CLOCK": str(self._file(number)), "FAKETIME_TIMESTAMP_FILE": str(self._file(number))}
        self.cluster.serve(number, {"PYTHONPATH": str(site), **clock, **environment})
        self.cluster.until(f"node {number} to serve", lambda: is_served(self.cluster, number), 30)

    def offset(self, number: int) -> float:
        """Hours that a node's wall clock, as it shows it in Date, is ahead of this machine's."""
        with self.cluster.client(number) as client:
            date = client.request("OPTIONS", "").headers["date"]
        return round((parsedate_to_datetime(date).timestamp() - time.time()) / 3600, 1)


@pytest.fixture
def clocks(cluster: DevCluster) -> Iterator[Clocks]:
    made = Clocks(cluster)
    for number in range(1, cluster.count + 1):
        made.jump(number, "+0")
    yield made
    for number in range(1, cluster.count + 1):
        made.jump(number, "+0")


@pytest.mark.timeout(150)
def test_clocks_that_jump_by_hours_break_nothing(cluster: DevCluster, inside: Inside, clocks: Clocks) -> None:
    numbers = list(range(1, cluster.count + 1))
    for number in numbers:
        clocks.restart(number, SHIFT, {}, signal.SIGTERM)
    inside.settle()
    holder, leader = inside.holder(1), inside.leader()
    with cluster.client(numbers[-1]) as client:
        assert client.put("locked.txt", b"mine").ok
        granted = client.request("LOCK", "locked.txt", LOCK, {"Timeout": "Second-600", "Depth": "0"})
        assert granted.status == 200, granted.body
    before = (inside.ask(1, "admin.status")["volumes"], inside.terms())
    counters = [Counter(cluster, [number], f"clock-{number}-{time.monotonic_ns()}") for number in numbers]
    for counter in counters:
        counter.start()
    seen = set()
    try:
        # The holder's clock first, then the leader's, then a third node's, so that each is far from the others'.
        for turn, number in enumerate(dict.fromkeys([holder, leader, *numbers])):
            for offset in JUMPS[turn:] + JUMPS[:turn]:
                clocks.jump(number, offset)
                time.sleep(0.4)
                with cluster.client(number) as client:  # a fresh connection, forwarded over whatever there is
                    assert client.get("locked.txt").body == b"mine"
                    assert client.put("locked.txt", b"no").status == 423, "the lock of ten minutes stands"
                seen.add(clocks.offset(number))
        at_the_end = [clocks.offset(number) for number in numbers]
    finally:
        for counter in counters:
            counter.finish()
    print(f"hours ahead at the end: {at_the_end}; writes: {[len(counter.acknowledged) for counter in counters]}")
    assert {round(int(offset) / 3600, 1) for offset in JUMPS} <= seen, "the clocks did jump"
    assert not [text for counter in counters for text in counter.failed_twice]
    after = (inside.ask(1, "admin.status")["volumes"], inside.terms())
    assert after == before, cluster.story("holder, epoch or term are not as they were")
    for number in numbers:
        for counter in counters:
            counter.judge(number)


@pytest.mark.timeout(150)
def test_a_node_whose_clock_is_hours_off_joins_in(cluster: DevCluster, inside: Inside, clocks: Clocks) -> None:
    """With libfaketime, which also moves what TLS takes for now, and disturbs Python's locks too much for anything timed."""
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        refuse("libfaketime is not installed (package faketime)")
    inside.settle()
    other = inside.holder(1) % 3 + 1
    environment = {"LD_PRELOAD": found[0], "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_CACHE_DURATION": "1"}
    for offset in ("-7h", "+20h") if full_size() else ("-7h",):  # certificates are younger than 7 hours
        clocks.jump(other, offset)
        clocks.restart(other, SLEEP, environment, signal.SIGKILL)  # no signal wakes the main thread under libfaketime
        assert clocks.offset(other) == float(offset.rstrip("h"))
        with cluster.client(other) as client:
            assert client.put("from afar.txt", offset.encode()).ok
        with cluster.client(other % 3 + 1) as client:
            assert client.get("from afar.txt").body == offset.encode()
    cluster.kill(other)
    cluster.serve(other)
    inside.settle()
