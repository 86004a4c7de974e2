"""kill -9 of members, each a process. Of all at random instants, while logs are compacted and snapshots installed: nothing is
lost. Of the leader: the others commit within a second.

``DAVFS_KILL_ROUNDS=100`` for the long run. A failure names the seed; ``DAVFS_KILL_SEED`` repeats the same instants.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from functools import partial
from pathlib import Path

from tests.integration.consensus.processes import NAMES, Members
from tests.support.tools import full_size

ROUNDS = int(os.environ.get("DAVFS_KILL_ROUNDS", "2"))
SEED = int(os.environ.get("DAVFS_KILL_SEED", str(random.randrange(1_000_000))))
LEADERS = 10 if full_size() else 2
ROOM_S = 0.0 if full_size() else 3.0  # for what else this machine does


def test_kill_of_all_members_loses_no_acknowledged_command(tmp_path: Path) -> None:
    choice = random.Random(SEED)
    members = Members(tmp_path)
    acknowledged: set[str] = set()
    try:
        for _ in range(ROUNDS):
            for name in NAMES:
                members.start(name)
            deadline = time.monotonic() + 15
            while len(members.acknowledged()) < len(acknowledged) + 30:
                assert time.monotonic() < deadline, f"seed {SEED}: nothing was committed\n{members.errors()}"
                time.sleep(0.02)
            # One goes and comes back while the others compact: it is sent a snapshot when all are killed.
            victim = choice.choice(NAMES)
            members.kill(victim)
            time.sleep(choice.random() * 0.2)
            members.start(victim)
            time.sleep(choice.random() * 0.8)
            for name in choice.sample(NAMES, 3):
                members.kill(name)
            acknowledged = members.acknowledged()
        for name in NAMES:
            members.start(name, seconds=3)
        for process in members.running.values():
            assert process.wait(40) == 0, f"seed {SEED}\n{members.errors()}"
        ledgers = {name: members.lines(name, "LEDGER")[0].split() for name in NAMES}
        for name, ledger in ledgers.items():
            assert acknowledged <= set(ledger), f"seed {SEED}: {name} lost {sorted(acknowledged - set(ledger))[:5]}"
            assert ledger == ledgers["node-1"], f"seed {SEED}: {name} has another order"
        assert len(acknowledged) > 30 * ROUNDS
        compactions, installed = members.count("COMPACTS"), members.count("INSTALLS")
        print(f"seed {SEED}: all killed {ROUNDS} times; {len(acknowledged)} commands acknowledged, all there; "
              f"{compactions} compactions and {installed} snapshots installed meanwhile")  # fmt: skip
        assert compactions > 3 * ROUNDS
        assert installed or ROUNDS < 10
    finally:
        for name in list(members.running):
            members.kill(name)


def test_another_commits_soon_after_the_leader_is_killed(tmp_path: Path) -> None:
    """Seconds from kill -9 to the first command that was submitted after it, through a member that is left."""
    members = Members(tmp_path)
    took = []
    try:
        for name in NAMES:
            members.start(name)
        for _ in range(LEADERS):
            moment = time.monotonic()
            for name in NAMES:
                members.until(f"{name} to commit", partial(members.first_since, moment, name))
            leader = members.leader()
            killed = time.monotonic()
            members.kill(leader)
            members.until("another to commit", partial(members.first_since, killed, *members.running))
            took.append((members.first_since(killed, *members.running) or 0.0) - killed)
            members.start(leader)
    finally:
        for name in list(members.running):
            members.kill(name)
    print(f"kill -9 of the leader to the next commit: median {statistics.median(took):.2f} s, worst {max(took):.2f} s")
    assert statistics.median(took) <= 1.0 + ROOM_S
