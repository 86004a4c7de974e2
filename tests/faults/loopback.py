"""Five nodes on loopback, for whoever is not root: a proxy between them makes the network misbehave, strace their disks.

Each node has an address of its own (127.0.1.1, ...); the others know it by the proxy's (127.0.2.1, ...).
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from compat.client import DavClient
from tests.faults.proxy import Proxy
from tests.faults.schedule import DISK_ERROR, FULL, KINDS, LOSS
from tests.faults.weather import Weather
from tests.faults.world import quicken, run_command, spoil, wait_for
from tests.support.parted import DAVFS, PASSWORD, USER
from tests.support.ports import free_run

PTRACE = Path("/proc/sys/kernel/yama/ptrace_scope")


class Loopback:
    """Port: :class:`~tests.faults.world.World`."""

    what = "loopback, with a proxy between the nodes"

    def __init__(self, count: int = 5) -> None:
        self.numbers = tuple(range(1, count + 1))
        self.small: tuple[int, ...] = ()
        self.stopped: set[int] = set()
        self.directory = Path(tempfile.mkdtemp(prefix="davfs-faults-"))
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self._full: dict[int, subprocess.Popen[bytes]] = {}
        self._port = free_run(3)
        self._proxy = Proxy(lambda: {number: node.pid for number, node in self._nodes.items()})
        left_out = {LOSS: "loss: the proxy carries TCP"}
        if not may_trace():
            left_out |= dict.fromkeys((DISK_ERROR, FULL), "failing and full disks: strace is missing or may not attach")
        self.able = frozenset(KINDS) - set(left_out)
        self.left_out: Sequence[str] = sorted(set(left_out.values()))

    def start(self) -> None:
        """Until all nodes serve."""
        ports = ["--dav-port", str(self._port), "--rpc-port", str(self._port + 1), "--forward-port", str(self._port + 2)]
        words = ["init", "--dir", str(self.directory / "made"), "--user", f"{USER}:{PASSWORD}", "--plain-http", *ports]
        hosts = [f"node-{number}=127.0.2.{number}" for number in self.numbers]
        subprocess.run([str(DAVFS), *words, *hosts], check=True, capture_output=True)
        for number in self.numbers:
            config = self._config(number)
            config.write_text(config.read_text().replace(f'listen = "127.0.2.{number}:', f'listen = "127.0.1.{number}:'))
            quicken(config)
            for port in (self._port + 1, self._port + 2):
                self._proxy.listen((f"127.0.2.{number}", port), (f"127.0.1.{number}", port), number)
            self.serve(number)
        wait_for("all nodes", self.all_up, 60)

    def destroy(self) -> None:
        """End and remove everything."""
        for process in (*self._full.values(), *self._nodes.values()):
            with suppress(ProcessLookupError):
                process.kill()
            process.wait(10)
        self._proxy.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- nodes ------------------------------------------------------------------------------------------------------

    def _config(self, number: int) -> Path:
        return self.directory / "made" / f"node-{number}" / "davfs.toml"

    def enter(self, number: int) -> None:
        """All are on one machine."""

    def beside(self, volume: str, timeout: float, number: int) -> DavClient:
        """A client of a node."""
        return DavClient(f"http://127.0.1.{number}:{self._port}/{volume}", USER, PASSWORD, timeout)

    def all_up(self) -> bool:
        """Whether every node sees every other."""
        try:
            text = self.command(1, "status")
        except OSError:
            return False
        return sum("  up" in line for line in text.splitlines()) == len(self.numbers)

    def data(self, number: int) -> Path:
        """A node's data directory."""
        return self._config(number).parent / "data"

    def log(self, number: int) -> Path:
        """What a node says."""
        return self.directory / f"node-{number}.log"

    def exit_code(self, number: int) -> int | None:
        """With what a node's process ended; None while it runs."""
        return self._nodes[number].poll()

    def listens(self, number: int) -> bool:
        """Whether a node takes connections of clients."""
        try:
            socket.create_connection((f"127.0.1.{number}", self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def serve(self, number: int) -> None:
        """Start a node's process."""
        with self.log(number).open("ab") as log:
            words = [str(DAVFS), "serve", "--config", str(self._config(number))]
            self._nodes[number] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, number: int) -> None:
        """kill -9."""
        self._nodes[number].kill()
        self._nodes[number].wait(10)

    def signal(self, number: int, sign: signal.Signals) -> None:
        """Signal a node's process."""
        self._nodes[number].send_signal(sign)

    def command(self, number: int, *words: str) -> str:
        """What ``davfs WORDS`` prints, whatever its exit code; OSError with what it says if that is nothing."""
        return run_command([str(DAVFS), *words, "--config", str(self._config(number))])

    # --- network and disks ------------------------------------------------------------------------------------------

    def apply(self, weather: Weather) -> None:
        """Make the network so."""
        self._proxy.weather = weather

    def fill(self, number: int) -> int:
        """Databases find no room: every pwrite says so. The bytes that this took: none."""
        self._full[number] = spoil(self._nodes[number].pid, "pwrite64", "ENOSPC")
        return 0

    def unfill(self, number: int) -> None:
        """Give the room back."""
        tracer = self._full.pop(number)
        tracer.terminate()
        tracer.wait(20)

    def spoil(self, number: int) -> subprocess.Popen[bytes]:
        """From now on writes and syncs of a node's process fail, for as long as the process returned runs."""
        return spoil(self._nodes[number].pid)


def may_trace() -> bool:
    """Whether strace can attach to this user's processes."""
    scope = PTRACE.read_text().strip() if PTRACE.exists() else "0"
    return shutil.which("strace") is not None and scope == "0"
