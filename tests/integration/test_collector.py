"""The collector on a real drive: space comes back, nothing that is named goes, whoever is down or killed meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.cluster import DAVFS, DevCluster

GRACE_S, QUARANTINE_S = 1.5, 2.0
SIZE = 200_000
"""Larger than what travels beside its record: chunks of their own."""


def _drive(make_drive: Callable[..., DevCluster]) -> DevCluster:
    cluster = make_drive(options=("--chunk-grace", str(GRACE_S), "--chunk-quarantine", str(QUARANTINE_S)))
    cluster.start()
    return cluster


def _bytes(drive: DevCluster, number: int) -> int:
    """What one node's chunks take on its disk, set aside or not."""
    folder = drive.directory / f"node-{number}" / "data" / "chunks"
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _write(drive: DevCluster, count: int, number: int = 1) -> dict[str, bytes]:
    """Overwrite so many large and small files with new bytes; what they hold now."""
    files = {f"large-{n}": os.urandom(SIZE) for n in range(count)} | {f"small-{n}": os.urandom(700) for n in range(count)}
    with drive.client(number) as client:
        for name, body in files.items():
            answer = client.put(name, body)
            assert answer.ok, drive.story(f"PUT {name}: {answer.status}")
    return files


def _check(drive: DevCluster, files: dict[str, bytes], number: int = 1) -> None:
    with drive.client(number) as client:
        for name, body in files.items():
            assert client.get(name).body == body, drive.story(f"{name} is not what was written")


def _collect(drive: DevCluster, *words: str, number: int = 1, name: str = "demo") -> dict[str, Any]:
    done = drive.command("gc", "run", name, "--json", *words, number=number, limit=60)
    assert done.returncode == 0, drive.story(done.stdout + done.stderr)
    (report,) = json.loads(done.stdout)
    found: dict[str, Any] = report
    return found


def test_space_comes_back_and_copies_stay(make_drive: Callable[..., DevCluster]) -> None:
    drive = _drive(make_drive)
    _write(drive, 10)
    files = _write(drive, 10)
    drive.until("three copies of all", lambda: all(_bytes(drive, n) > 20 * SIZE for n in (1, 2, 3)), 20)
    with drive.client(2) as client:
        answer = client.request("COPY", "large-0", headers={"Destination": drive.url(2) + "copy", "Overwrite": "T"})
        assert answer.status == 201
        assert client.request("DELETE", "large-0").status == 204
    files["copy"] = files.pop("large-0")
    time.sleep(GRACE_S + 0.5)
    dry = _collect(drive, "--dry-run")
    assert [dry["nodes"][f"node-{n}"]["unused"] for n in (1, 2, 3)] == [20, 20, 20]
    assert _bytes(drive, 1) > 20 * SIZE
    report = _collect(drive)
    assert [report["nodes"][f"node-{n}"]["removed"] for n in (1, 2, 3)] == [20, 20, 20]
    drive.until("the end of the quarantine", lambda: all(_bytes(drive, n) < 10.5 * SIZE for n in (1, 2, 3)), 30)
    _check(drive, files, 3)
    status = drive.command("gc", "status")
    assert "demo: " in status.stdout
    assert "done" in status.stdout

    # What is deleted goes the same way, once the trash is emptied.
    assert drive.command("volume", "create", "bin", "--trash-days", "0").returncode == 0
    before = _bytes(drive, 1)
    with drive.client(1, "bin") as client:
        drive.until("the new volume", lambda: client.request("MKCOL", "d").status == 201, 20)
        for n in range(5):
            assert client.put(f"d/{n}", os.urandom(SIZE)).ok
        assert client.request("DELETE", "d").status == 204
    time.sleep(GRACE_S + 0.5)
    assert _collect(drive, name="bin")["emptied"] == 6
    drive.until("the space of what was deleted", lambda: all(_bytes(drive, n) < before + SIZE for n in (1, 2, 3)), 30)

    # One node is down for good; the others collect all the same.
    drive.kill(3)
    files |= _write(drive, 5)
    _write(drive, 5)
    files |= _write(drive, 5)
    time.sleep(GRACE_S + 0.5)
    drive.until("a run without node-3", lambda: "node-3" in _collect(drive)["skipped"], 20)
    drive.until("space on the others", lambda: all(_bytes(drive, n) < 11.5 * SIZE for n in (1, 2)), 30)
    _check(drive, files)


def test_killed_while_it_collects(make_drive: Callable[..., DevCluster]) -> None:
    drive = _drive(make_drive)
    _write(drive, 15)
    files = _write(drive, 15)
    time.sleep(GRACE_S + 0.5)
    words = [str(DAVFS), "gc", "run", "demo", "--config", str(drive.config(1))]
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stopped = threading.Event()
    reader = threading.Thread(target=_read_all_the_time, args=(drive, files, stopped))
    reader.start()
    time.sleep(0.7)
    stopped.set()
    reader.join()
    drive.kill_everything()
    run.kill()
    run.wait(10)
    drive.start()
    _check(drive, files, 2)
    drive.until("a whole run", lambda: drive.command("gc", "run", "demo").returncode == 0, 30)
    drive.until("the space", lambda: all(_bytes(drive, n) < 15.5 * SIZE for n in (1, 2, 3)), 60)
    _check(drive, files, 3)

    before = drive.command("gc", "status").stdout
    assert "demo: " in before
    drive.kill_everything()
    drive.start()
    assert "demo: " in drive.command("gc", "status").stdout, "what was done last is told over restarts"


def _read_all_the_time(drive: DevCluster, files: dict[str, bytes], stopped: threading.Event) -> None:
    while not stopped.is_set():
        _check(drive, files, 2)
