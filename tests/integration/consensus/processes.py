"""Members of Raft as processes of ``member.py``, to be killed: what each acknowledged, and when."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

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

    def start(self, name: str, seconds: float = 0, under: Sequence[str] = ()) -> None:
        """``under``: a program that runs it, with its words."""
        words = [f"{peer}={port}" for peer, port in self.ports.items()]
        script = Path(__file__).with_name("member.py")
        with (self.directory / f"{name}.out").open("ab") as out, (self.directory / f"{name}.err").open("ab") as err:
            self.running[name] = subprocess.Popen(
                [*under, sys.executable, str(script), name, str(self.directory), str(seconds), *words],
                stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def lines(self, name: str, word: str) -> list[str]:
        path = self.directory / f"{name}.out"
        text = path.read_text() if path.exists() else ""
        return [line.removeprefix(word + " ") for line in text.splitlines() if line.startswith(word + " ")]

    def acknowledged(self) -> set[str]:
        return {line.split()[0] for name in NAMES for line in self.lines(name, "ACK")}

    def first_since(self, moment: float, *names: str) -> float | None:
        """When members answered the first command that they were given after ``moment``; None so far."""
        lines = (line.split() for name in names for line in self.lines(name, "ACK"))
        return min((float(ended) for _, began, ended in lines if float(began) > moment), default=None)

    def leader(self) -> str:
        """Whoever was elected last."""
        return max(NAMES, key=lambda name: max(map(int, self.lines(name, "LEADS")), default=-1))

    def count(self, word: str) -> int:
        return sum(len(self.lines(name, word)) for name in NAMES)

    def until(self, what: str, condition: Callable[[], object], limit: float = 20.0) -> None:
        deadline = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {limit:g} s\n{self.errors()}"
            time.sleep(0.01)

    def errors(self) -> str:
        return "\n".join((self.directory / f"{name}.err").read_text()[-3000:] for name in NAMES)
