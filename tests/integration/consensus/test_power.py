"""All members lose power at once: what no sync covered is gone from each one's disk, wholly or any part of it. Nothing that was
acknowledged is lost.

The members are processes under ``strace``; their disks are rebuilt from what they really wrote and synced (``tests/crash``).
``DAVFS_POWER_ROUNDS=20`` for the long run; ``DAVFS_POWER_SEED`` repeats the same instants and the same losses.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from functools import partial
from pathlib import Path

from tests.crash import trace
from tests.crash.disk import Change, Disk, Keep
from tests.integration.consensus.processes import NAMES, Members
from tests.support.tools import require_tool

ROUNDS = int(os.environ.get("DAVFS_POWER_ROUNDS", "2"))
SEED = int(os.environ.get("DAVFS_POWER_SEED", str(random.randrange(1_000_000))))


def lose_power(before: Path, recorded: Path, folder: Path, choice: random.Random, *, part: bool) -> tuple[int, int]:
    """Rebuild a member's folder from its trace: (changes that were not synced, how many of them are there all the same)."""
    disk = Disk(before)
    for number, call in enumerate(trace.read(recorded, folder)):
        if call.kind not in ("answer", "mark"):
            disk.apply(number, call)
    contents, names = disk.pending()
    kept = {change.number for change in (*contents, *names) if part and choice.random() < 0.5}

    def there(change: Change) -> bool:
        return change.number in kept

    shutil.rmtree(folder)
    disk.left(Keep("some", there, there)).build(folder)
    return len(contents) + len(names), len(kept)


def _have(members: Members, count: int) -> bool:
    return len(members.acknowledged()) >= count


def test_power_loss_of_all_members_loses_no_acknowledged_command(tmp_path: Path) -> None:
    require_tool("strace")
    choice = random.Random(SEED)
    members = Members(tmp_path)
    unsynced = survived = 0
    try:
        for turn in range(ROUNDS):
            for name in NAMES:
                folder, before = tmp_path / name, tmp_path / f"{name}.before"
                folder.mkdir(exist_ok=True)
                shutil.rmtree(before, ignore_errors=True)
                shutil.copytree(folder, before)
                members.start(name, under=trace.command(tmp_path / f"{name}.trace"))
            known = len(members.acknowledged())
            members.until(f"seed {SEED}: commands", partial(_have, members, known + 60), 40)
            time.sleep(choice.random() * 0.5)
            for name in choice.sample(NAMES, 3):
                members.kill(name)
            for name in NAMES:
                lost, kept = lose_power(
                    tmp_path / f"{name}.before", tmp_path / f"{name}.trace", tmp_path / name, choice, part=turn % 2 > 0
                )
                unsynced, survived = unsynced + lost, survived + kept
        acknowledged = members.acknowledged()
        for name in NAMES:
            members.start(name, seconds=3)
        for process in members.running.values():
            assert process.wait(40) == 0, f"seed {SEED}\n{members.errors()}"
        for name in NAMES:
            (ledger,) = members.lines(name, "LEDGER") or ["(none)"]
            lost_commands = acknowledged - set(ledger.split())
            assert not lost_commands, f"seed {SEED}: {name} lost {sorted(lost_commands)[:5]}"
    finally:
        for name in list(members.running):
            members.kill(name)
    print(
        f"seed {SEED}: power lost {ROUNDS} times; {len(acknowledged)} commands acknowledged, all there;"
        f" {members.count('COMPACTS')} compactions; of {unsynced} changes that no sync covered {survived} were left"
    )
