"""Copies of chunks that rot on a disk: reads never show them, and correct them (design, section 2, Read)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.support.cluster import DevCluster

SIZE = 300_000
"""Large enough to be stored as a chunk of its own, not beside its record."""


@pytest.fixture
def volume(drive: DevCluster, request: pytest.FixtureRequest) -> str:
    """A volume of its own, whose reads ask as many copies, and confirm as the test's parameter says."""
    name = f"rot-{request.param.replace('=', '-')}"
    options = ["--read-quorum", "3", "--reads", "confirmed"] if request.param == "R=3" else []
    made = drive.command("volume", "create", name, *options)
    assert made.returncode == 0, made.stderr
    return name


def _chunk_files(drive: DevCluster, number: int, known: set[Path]) -> list[Path]:
    folder = drive.directory / f"node-{number}" / "data" / "chunks"
    return [path for path in folder.rglob("*") if path.is_file() and path not in known and len(path.name) == 64]


def _flip(path: Path) -> bytes:
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(whole) // 2)
        file.write(bytes([whole[len(whole) // 2] ^ 0x40]))
    return whole


def _all_known(drive: DevCluster) -> set[Path]:
    return {path for number in (1, 2, 3) for path in _chunk_files(drive, number, set())}


@pytest.mark.parametrize("volume", ["R=3"], indirect=True)
def test_every_copy_is_compared_and_repaired_when_the_read_quorum_is_all(drive: DevCluster, volume: str) -> None:
    known, body = _all_known(drive), os.urandom(SIZE)
    with drive.client(1, volume) as client:
        drive.until("the new volume", lambda: client.put("file.bin", body).ok, 20)
        holder = drive.holder(volume)
        other = holder % 3 + 1
        drive.until("the third copy", lambda: len(_chunk_files(drive, other, known)) == 1, 20)
        (path,) = _chunk_files(drive, other, known)
        whole = _flip(path)
        assert client.get("file.bin").body == body
        drive.until("the repair of a copy that was not the first", lambda: path.exists() and path.read_bytes() == whole, 20)


@pytest.mark.parametrize("volume", ["R=1"], indirect=True)
def test_the_holders_own_rotten_copy_is_never_shown_and_repaired(drive: DevCluster, volume: str) -> None:
    known, body = _all_known(drive), os.urandom(SIZE)
    with drive.client(1, volume) as client:
        drive.until("the new volume", lambda: client.put("file.bin", body).ok, 20)
        holder = drive.holder(volume)
        drive.until("the holder's copy", lambda: len(_chunk_files(drive, holder, known)) == 1, 20)
        (path,) = _chunk_files(drive, holder, known)
        whole = _flip(path)
        assert client.get("file.bin").body == body
        drive.until("the repair", lambda: path.exists() and path.read_bytes() == whole, 20)


@pytest.mark.parametrize("volume", ["scrubbed"], indirect=True)
def test_one_scrub_finds_and_repairs_a_flip_a_truncation_and_a_loss(drive: DevCluster, volume: str) -> None:
    known = _all_known(drive)
    bodies = {f"{n}.bin": os.urandom(SIZE) for n in range(6)}
    with drive.client(1, volume) as client:
        drive.until("the new volume", lambda: client.put("0.bin", bodies["0.bin"]).ok, 20)
        assert all(client.put(name, body).ok for name, body in bodies.items())
    drive.until("all copies", lambda: all(len(_chunk_files(drive, n, known)) == 6 for n in (1, 2, 3)), 20)
    time.sleep(3)  # who applied the records has looked for its copies by then, and will not again
    harmed: dict[Path, bytes] = {}
    for number in (1, 2):  # other chunks on each: one good copy is enough
        files = sorted(_chunk_files(drive, number, known))[3 * number - 3 : 3 * number]
        harmed.update({path: path.read_bytes() for path in files})
        _flip(files[0])
        os.truncate(files[1], 1000)
        files[2].unlink()
    done = drive.command("scrub", "run", volume, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    passes = {one["node"]: one["found"] for one in json.loads(done.stdout)["passes"]}
    assert {node: (found["bad"], found["repaired"]) for node, found in passes.items()} == {
        "node-1": (3, 3), "node-2": (3, 3), "node-3": (0, 0)
    }  # fmt: skip
    assert all(path.read_bytes() == whole for path, whole in harmed.items())
    assert drive.command("scrub", "status").returncode == 0
