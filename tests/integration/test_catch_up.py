"""A node that was away while thousands of changes were made and logs were trimmed, and one that lost a replica's database:
both catch up by a snapshot while the volume is in use, also when they are killed half-way, and then count."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.cluster import DevCluster
from tests.support.writes import Writer, judge

MISSED = 1300
LIMITS = "\n[limits]\nlog_thousands = 1\nsnapshot_mib_per_s = 1\n"
"""A thousand records are kept for who is away; a snapshot takes seconds, so that it can be interrupted."""


def test_catching_up_by_snapshots(make_drive: Any) -> None:
    drive: DevCluster = make_drive()
    drive.start()
    drive.stop()
    for number in (1, 2, 3):
        with drive.config(number).open("a") as config:
            config.write(LIMITS)
    drive.start()
    lagging = drive.holder() % 3 + 1
    first, second = (number for number in (1, 2, 3) if number != lagging)
    drive.kill(lagging)
    _change(drive, [first, second])
    drive.until("trimmed logs", lambda: _floor(drive, first, first) > 100, 60)
    writer = Writer([drive.url(first), drive.url(second)], 1, largest=20_000)
    writer.start()

    drive.serve(lagging)
    shown = f"replica on node-{lagging}: catching up by a snapshot, "
    drive.until("it to be shown", lambda: shown in drive.command("volume", "show", "demo", number=first).stdout, 60)
    drive.until("some of it", lambda: (_of(drive, first, lagging).get("catching") or [0])[0] > 0, 60)
    drive.kill(lagging)
    drive.serve(lagging)
    took = _caught_up(drive, first, lagging)
    print(f"caught up {took:.1f} s after it was killed half-way")
    assert _floor(drive, first, lagging) > 100  # by a snapshot: its log begins there

    incarnation = _of(drive, first, lagging)["incarnation"]
    drive.kill(lagging)
    for file in (drive.directory / f"node-{lagging}" / "data" / "volumes").iterdir():
        file.unlink()
    drive.serve(lagging)
    took = _caught_up(drive, first, lagging)
    assert _of(drive, first, lagging)["incarnation"] != incarnation
    drive.until("its new store to vote", lambda: _votes(drive, first, lagging) != incarnation, 60)
    print(f"without its database: caught up after {took:.1f} s")
    writer.await_ack(15)
    writer.finish()

    drive.kill(first)  # what is left needs the one that caught up
    late = Writer([drive.url(lagging), drive.url(second)], 2, largest=20_000)
    late.start()
    late.await_ack(30)
    late.finish()
    others = ["small.txt", *(f"s{n}" for n in range(40)), *(f"d{n}/" for n in range(MISSED))]
    with drive.client(lagging) as client:
        assert judge(client, [writer, late], others) > 0
        assert len(client.members()) >= MISSED
        assert client.get("s24").body == b"024" * 20_000
        assert client.get("small.txt").body == b"small"


def _change(drive: DevCluster, numbers: list[int]) -> None:
    def some(part: int) -> None:
        with drive.client(numbers[0]) as client:
            for number in range(part, MISSED, 4):
                assert client.request("MKCOL", f"d{number}/").status == 201

    with drive.client(numbers[0]) as client:
        assert client.put("small.txt", b"small").ok
        for number in range(40):  # small chunks, which travel with the snapshot
            assert client.put(f"s{number}", b"%03d" % number * 20_000).ok
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(some, range(4)))


def _standing(drive: DevCluster, asked: int) -> dict[str, Any]:
    time.sleep(0.5)  # each question is a process of its own
    shown = drive.command("volume", "show", "demo", "--json", number=asked)
    assert shown.returncode == 0, drive.story(shown.stderr)
    standing: dict[str, Any] = json.loads(shown.stdout)["standing"]
    return standing


def _of(drive: DevCluster, asked: int, number: int) -> dict[str, Any]:
    found: dict[str, Any] = _standing(drive, asked)[f"node-{number}"] or {}
    return found


def _floor(drive: DevCluster, asked: int, number: int) -> int:
    return int((_of(drive, asked, number).get("floor") or [[0, 0], 0])[1])


def _caught_up(drive: DevCluster, asked: int, number: int) -> float:
    def close() -> bool:
        standing = _standing(drive, asked)
        mine, other = standing[f"node-{number}"], standing[f"node-{asked}"]
        return bool(mine and other and not mine["catching"] and other["committed"][1] - mine["committed"][1] < 100)

    return drive.until("the lagging replica to catch up", close, 120)


def _votes(drive: DevCluster, asked: int, number: int) -> str:
    shown = drive.command("volume", "show", "demo", "--json", number=asked)
    return str(json.loads(shown.stdout)["incarnations"][f"node-{number}"])
