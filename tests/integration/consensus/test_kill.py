"""kill -9 of every member at random instants, while logs are compacted and snapshots installed: nothing is lost.

``DAVFS_KILL_ROUNDS=100`` for the long run. A failure names the seed; ``DAVFS_KILL_SEED`` repeats the same instants.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = int(os.environ.get("DAVFS_KILL_ROUNDS", "3"))
SEED = int(os.environ.get("DAVFS_KILL_SEED", str(random.randrange(1_000_000))))
NAMES = ["node-1", "node-2", "node-3"]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [made.getsockname()[1] for made in sockets]
    for made in sockets:
        made.close()
    return ports


class Members:
    """Processes of ``member.py``; what they print goes to files, which a kill does not take away."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = dict(zip(NAMES, free_ports(3), strict=True))
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, seconds: float = 0) -> None:
        words = [f"{peer}={port}" for peer, port in self.ports.items()]
        script = Path(__file__).with_name("member.py")
        with (self.directory / f"{name}.out").open("ab") as out, (self.directory / f"{name}.err").open("ab") as err:
            self.running[name] = subprocess.Popen(
                [sys.executable, str(script), name, str(self.directory), str(seconds), *words], stdout=out, stderr=err
            )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait(10)

    def lines(self, name: str, word: str) -> list[str]:
        path = self.directory / f"{name}.out"
        text = path.read_text() if path.exists() else ""
        return [line.removeprefix(word + " ") for line in text.splitlines() if line.startswith(word + " ")]

    def acknowledged(self) -> set[str]:
        return {request for name in NAMES for request in self.lines(name, "ACK")}

    def errors(self) -> str:
        return "\n".join((self.directory / f"{name}.err").read_text()[-3000:] for name in NAMES)


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
    finally:
        for name in list(members.running):
            members.kill(name)
