"""``davfs volume fsck``: all replicas in one state while clients write, and what is wrong with one of them or with copies."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

from tests.support.cluster import DevCluster


def fsck(drive: DevCluster, volume: str, *options: str, number: int = 1) -> tuple[int, dict[str, Any]]:
    done = drive.command("volume", "fsck", volume, "--json", *options, number=number, limit=60)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def scrubbed(drive: DevCluster) -> set[str]:
    """The nodes whose last pass over the volume is over."""
    passes = json.loads(drive.command("scrub", "status", "--json").stdout)["passes"]
    return {one["node"] for one in passes if one["name"] == "demo" and one["done"]}


def test_a_volume_in_use_is_whole_and_its_replicas_are_the_same(drive: DevCluster) -> None:
    assert drive.command("volume", "create", "checked").returncode == 0
    ended = threading.Event()
    written = [0]

    def write() -> None:
        with drive.client(2, "checked") as client:
            drive.until("the new volume", lambda: client.put("big.bin", os.urandom(300_000)).ok, 20)
            while not ended.is_set():
                assert client.put(f"{written[0] % 50}.txt", b"%d" % written[0]).ok
                written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        drive.until("some writes", lambda: written[0] > 20, 20)
        before = written[0]
        for options in ((), ("--quick",)):
            code, report = fsck(drive, "checked", *options, number=3)
            assert (code, report["ok"], report["problems"]) == (0, True, [])
            assert sorted(report["replicas"]) == ["node-1", "node-2", "node-3"]
            assert len(set(report["replicas"].values())) == 1
            assert report["files"] > 20
            assert report["chunks"]["chunks"] > 20
        assert written[0] > before, "clients were not served while the volume was checked"
    finally:
        ended.set()
        writer.join(30)


def test_what_is_wrong_with_one_replica_or_with_copies_is_told(fresh: DevCluster) -> None:
    with fresh.client(1) as client:
        assert client.put("big.bin", os.urandom(300_000)).ok
        assert client.put("other.bin", os.urandom(300_000)).ok
    holder = fresh.holder()
    first, second = (n for n in (1, 2, 3) if n != holder)
    data = [fresh.directory / f"node-{number}" / "data" for number in (first, second)]

    def chunks(folder: Path) -> list[Path]:
        return sorted(path for path in (folder / "chunks").rglob("*") if len(path.name) == 64)

    fresh.until("the third copies", lambda: [len(chunks(folder)) for folder in data] == [2, 2], 20)
    # What nodes do by themselves would mend the harm at once: each has looked once after its start, and not again today.
    fresh.until("the first scrub of every node", lambda: scrubbed(fresh) == {"node-1", "node-2", "node-3"}, 40)
    assert fsck(fresh, "demo")[0] == 0
    gone = chunks(data[0])[0]
    gone.unlink()
    code, report = fsck(fresh, "demo")
    assert (code, report["chunks"]["short"]) == (0, 0), "two good copies are what the volume promises"
    assert report["notes"]
    (data[1] / gone.relative_to(data[0])).write_bytes(b"DVCHUNK1 but not what it was")
    code, report = fsck(fresh, "demo")
    assert (code, report["chunks"]["short"]) == (1, 1)
    (found,) = report["problems"]
    assert found["kind"] == "chunk" and gone.name in found["text"] and f"node-{first}" in found["text"]

    with fresh.client(1) as client:  # a read repairs it
        assert client.get("big.bin").status == client.get("other.bin").status == 200
    database = next((data[0] / "volumes").glob("*.sqlite"))
    db = sqlite3.connect(database, timeout=10)
    db.execute("UPDATE entry SET name = 'wrong.bin' WHERE name = 'big.bin'")
    db.commit()
    db.close()
    code, report = fsck(fresh, "demo")
    assert code == 1
    kinds = {(problem["kind"], problem["node"]) for problem in report["problems"]}
    assert {("index", f"node-{first}"), ("replicas", "")} <= kinds
    fresh.kill(second)
    code, report = fsck(fresh, "demo", "--quick")
    assert code == 1
    assert ("replica", f"node-{second}") in {(problem["kind"], problem["node"]) for problem in report["problems"]}
