"""The big volume on real nodes: built through the client library, then served over WebDAV."""

from __future__ import annotations

import http.client
import json
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compat.memory import resident_peak
from compat.rclone import Rclone, binary
from compat.target import Target
from davfs.client import connect
from davfs.cluster.tail import Attachment
from davfs.core.errors import QuorumLost
from tests.scale.table import Table, middle
from tests.scale.volume import THOUSAND, Build, Plan, build, directory_path
from tests.support.cluster import DevCluster

VOLUME = "big"
TTL_S = 60.0
COMMIT_S = 60.0
WRITERS = 2
BLOCK = 1 << 20
MIB = 1 << 20
START_LIMIT_S = 300.0
GOAL_START_S = 15.0
GOAL_MIB = 400.0
PUTS = 200
GOAL_MISSED_MIB = 32.0
"""What a node writes in its first seconds whatever it missed, the room of its logs above all; a snapshot is far more."""

WALK_FILES = 250_000
"""A volume of more files is walked by rclone below one of its ten folders only: it asks for each directory."""

WALK_LIMIT_S = 1200.0
COLLECT_LIMIT_S = 1200.0


def build_on(drive: DevCluster, plan: Plan, say: Callable[[str], None]) -> None:
    """Make the volume's files in a new drive that runs, and wait until every node has applied all of them."""
    folder = drive.directory / "program"
    if not folder.exists():
        done = drive.command("cert", "program", "builder", "--out", str(folder))
        assert done.returncode == 0, done.stderr
    nodes = tuple(f"node-{number}" for number in range(1, drive.count + 1))
    with connect(folder) as cluster, cluster.assign(VOLUME, ttl=TTL_S, wait=90) as volume:
        session = volume._session
        session.site.timing = replace(session.site.timing, commit=COMMIT_S)  # nobody waits for these answers

        def commit(make: Build, chunks: Sequence[Attachment]) -> Any:
            ends = time.monotonic() + COMMIT_S
            while True:
                try:
                    return session.runtime.run(session.holder.commit(make, "", chunks))
                except QuorumLost:  # nothing was changed: on a busy machine nodes may be silent for a moment
                    if time.monotonic() > ends:
                        raise
                    time.sleep(0.5)

        records = build(plan, nodes, commit, WRITERS, say)
        last = session.holder.log.last.seq
    say(f"  {records} records; waiting for every node to apply them")
    drive.until("every node has applied it", lambda: all(_applied(db) >= last for db in databases(drive)), 900)


def databases(drive: DevCluster) -> list[Path]:
    """Each node's database of the volume."""
    return [next((drive.directory / f"node-{n}").rglob("volumes/*.sqlite")) for n in range(1, drive.count + 1)]


def _applied(database: Path) -> int:
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        return int(db.execute("SELECT committed_seq FROM state").fetchone()[0])
    finally:
        db.close()


def serving(drive: DevCluster, plan: Plan, table: Table) -> None:
    """Start all nodes over the built volume, ask for much through WebDAV, and see what it takes."""
    drive.ready.unlink(missing_ok=True)  # of a run that was killed
    seconds = drive.start(START_LIMIT_S)
    table.add(
        f"{drive.count} nodes at once on one machine: start until each has served the volume",
        f"{seconds:.1f} s", f"{GOAL_START_S:.0f} s", seconds <= GOAL_START_S,
    )  # fmt: skip
    for number in range(1, drive.count + 1):
        answer = listing(drive, number, ("all", "wide"))
        assert answer.members == plan.wide + 1, answer
        table.add(
            f"PROPFIND of {plan.wide:,} files through node {number}",
            f"{answer.seconds:.1f} s, first byte after {answer.first_s:.2f} s, {answer.size / MIB:.0f} MiB",
        )
    taken = sorted(listing(drive, 1, ("all", "thousand")).seconds * 1e3 for _ in range(9))
    table.add(f"PROPFIND of {min(THOUSAND, plan.files // 2):,} files", f"{middle(taken):.1f} ms")
    table.add("PUT of a new small file through WebDAV, three nodes", f"{middle(_puts(drive, plan)):.1f} ms")
    for number in range(1, drive.count + 1):
        peak = resident_peak(drive.pid(number)) / MIB
        table.add(f"resident peak of node {number}", f"{peak:.0f} MiB", f"{GOAL_MIB:.0f} MiB", peak <= GOAL_MIB)


def walked(drive: DevCluster, plan: Plan, table: Table) -> None:
    """``rclone lsf -R`` through a node: how long, and the node's memory."""
    top = ("all",) if plan.total <= WALK_FILES else directory_path(1, plan.fan_out)
    home = drive.directory.parent / "rclone"
    home.mkdir(exist_ok=True)
    rclone = Rclone(binary("debian"), Target(f"http://127.0.0.1:{drive.port}/{VOLUME}/"), home, WALK_LIMIT_S)
    before, began = resident_peak(drive.pid(1)), time.perf_counter()
    names = rclone.run("lsf", "-R", "dav:" + "/".join(top)).require("rclone lsf -R").out.splitlines()
    seconds = time.perf_counter() - began
    folders = sum(name.endswith("/") for name in names)
    if top == ("all",):
        assert (len(names) - folders, folders) == (plan.total + PUTS, plan.directories + 1), (len(names), folders)
    peak = resident_peak(drive.pid(1))
    table.add(
        f"rclone lsf -R: {len(names) - folders:,} files in {folders:,} directories",
        f"{seconds:.1f} s; node 1 at {peak / MIB:.0f} MiB, {before / MIB:.0f} before",
        f"{GOAL_MIB:.0f} MiB", peak <= GOAL_MIB * MIB,
    )  # fmt: skip


def missed(drive: DevCluster, plan: Plan, table: Table) -> None:
    """One change while the last node is away: what it takes until that has it, and how much its process has written by then."""
    away = drive.count
    drive.kill(away)
    with drive.client(1) as client:
        assert client.put("all/wide/picture 000000.jpeg", b"some bytes").status == 204
    last = _applied(databases(drive)[0])
    began = time.perf_counter()
    drive.serve(away)
    drive.until("it has what it missed", lambda: _applied(databases(drive)[away - 1]) >= last, COLLECT_LIMIT_S)
    seconds = time.perf_counter() - began
    counted = dict(line.split(": ") for line in Path(f"/proc/{drive.pid(away)}/io").read_text().splitlines())
    written = int(counted["wchar"]) / MIB
    limit = GOAL_MISSED_MIB
    table.add(
        f"a node that missed one change among {plan.total:,} files has it: from its start",
        f"{seconds:.1f} s; {written:.1f} MiB written, to the disk and to others", f"{limit:.0f} MiB", written <= limit,
    )  # fmt: skip


def collected(drive: DevCluster, plan: Plan, table: Table) -> None:
    """A run of the collector over the whole volume: how long, and the memory of the node that needed most."""
    began = time.perf_counter()
    done = drive.command("gc", "run", "--dry-run", "--json", limit=COLLECT_LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = time.perf_counter() - began
    report = json.loads(done.stdout)[0]
    seen = min(found["seen"] for found in report["nodes"].values())
    assert len(report["nodes"]) == drive.count and seen >= plan.chunks, report
    peak = max(resident_peak(drive.pid(n)) for n in range(1, drive.count + 1))
    table.add(
        f"collector, dry run: {report['names']:,} names, {seen:,} chunks a node",
        f"{seconds:.1f} s; {peak / MIB:.0f} MiB", f"{GOAL_MIB:.0f} MiB", peak <= GOAL_MIB * MIB,
    )  # fmt: skip


def _puts(drive: DevCluster, plan: Plan, count: int = PUTS) -> list[float]:
    taken = []
    with drive.client(1) as client:
        for number in range(count):
            folder = "/".join(directory_path(1 + number * (plan.directories - 2) // count))
            began = time.perf_counter()
            answer = client.put(f"{folder}/put {number}", b"some bytes")
            taken.append((time.perf_counter() - began) * 1e3)
            assert answer.status in (201, 204), answer
    return sorted(taken)


class Listing:
    """What a PROPFIND gave: its members (the collection itself too), bytes, seconds until the first and the last."""

    def __init__(self, members: int, size: int, first_s: float, seconds: float) -> None:
        self.members = members
        self.size = size
        self.first_s = first_s
        self.seconds = seconds


def listing(drive: DevCluster, number: int, path: tuple[str, ...]) -> Listing:
    """PROPFIND with Depth 1, read block by block."""
    connection = http.client.HTTPConnection("127.0.0.1", drive.port + number - 1, timeout=120)
    began = time.perf_counter()
    connection.request("PROPFIND", f"/{VOLUME}/" + "/".join(path) + "/", headers={"Depth": "1"})
    response = connection.getresponse()
    assert response.status == 207, response.status
    members = size = 0
    first_s = time.perf_counter() - began
    rest = b""
    while block := response.read(BLOCK):
        size += len(block)
        text = rest + block
        members += len(re.findall(b"<D:response>", text))
        rest = text[-11:]  # one byte less than what is counted
    connection.close()
    return Listing(members, size, first_s, time.perf_counter() - began)
