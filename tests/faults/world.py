"""Five nodes in network namespaces, as root: everything that faults and clients need of them, and its removal.

``Weather`` says what the network does; a relay over TAP devices delays, nft drops. Each node's data directory is on the
disk, those of the ``small`` ones each on a tmpfs of its own that can be filled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from compat.client import DavClient
from tests.faults.schedule import KINDS
from tests.faults.weather import CALM, Weather, rules
from tests.support.parted import DAVFS, PASSWORD, USER, PartedCluster
from tests.support.tools import require_tool

ROOT = Path(__file__).resolve().parents[2]
BALLAST = "ballast"
COMMAND_S = 90.0


class World(Protocol):
    """What faults, clients and judges need of the nodes. Nodes are numbered from 1. ``able``: the kinds of faults that can be
    made here; ``left_out``: why others cannot; ``small``: nodes whose disks can be filled; ``stopped``: who is stopped."""

    numbers: tuple[int, ...]
    able: frozenset[str]
    left_out: Sequence[str]
    what: str
    small: tuple[int, ...]
    stopped: set[int]

    def start(self) -> None:
        """Until all nodes serve."""

    def destroy(self) -> None:
        """End and remove everything."""

    def enter(self, number: int) -> None:
        """Take the calling thread to a node, for good."""

    def beside(self, volume: str, timeout: float, number: int) -> DavClient:
        """A client of a node, for threads that have entered some node's network."""

    def all_up(self) -> bool:
        """Whether every node sees every other."""

    def data(self, number: int) -> Path:
        """A node's data directory."""

    def log(self, number: int) -> Path:
        """What a node says."""

    def exit_code(self, number: int) -> int | None:
        """With what a node's process ended; None while it runs."""

    def listens(self, number: int) -> bool:
        """Whether a node takes connections of clients."""

    def serve(self, number: int) -> None:
        """Start a node's process."""

    def kill(self, number: int) -> None:
        """kill -9."""

    def signal(self, number: int, sign: signal.Signals) -> None:
        """Signal a node's process."""

    def command(self, number: int, *words: str) -> str:
        """What ``davfs WORDS`` prints beside a node, whatever its exit code; OSError with what it says if that is nothing."""

    def apply(self, weather: Weather) -> None:
        """Make the network so."""

    def fill(self, number: int) -> int:
        """Leave no room on a small disk; returns the bytes that this took."""

    def unfill(self, number: int) -> None:
        """Give the room back."""

    def spoil(self, number: int) -> subprocess.Popen[bytes]:
        """From now on writes and syncs of a node's process fail, for as long as the process returned runs."""


class Namespaces(PartedCluster):
    """A :class:`~tests.support.parted.PartedCluster` whose networks and disks misbehave as told."""

    able = frozenset(KINDS)
    left_out: Sequence[str] = ()
    what = "network namespaces joined by a bridge; loss by nft, delay by a relay over TAP devices"

    def __init__(self, count: int = 5, small: Sequence[int] = (), small_mib: int = 512) -> None:
        super().__init__(count)
        self._nft = require_tool("nft", "nftables")
        require_tool("strace")
        self.small = tuple(small)
        self._small_mib = small_mib
        self._mounts: list[Path] = []
        self._relays: dict[int, subprocess.Popen[bytes]] = {}
        self._weather = CALM
        self.stopped: set[int] = set()

    def furnish(self) -> None:
        """Small disks, and a collector that has something to do within minutes."""
        for number in self.numbers:
            quicken(self.config(number))
        for number in self.small:
            folder = self.data(number)
            folder.mkdir(exist_ok=True)
            words = ["mount", "-t", "tmpfs", "-o", f"size={self._small_mib}m", "davfs-faults", str(folder)]
            subprocess.run(words, check=True, capture_output=True)
            self._mounts.append(folder)

    # --- what clients and faults ask --------------------------------------------------------------------------------

    def data(self, number: int) -> Path:
        """A node's data directory."""
        return self.config(number).parent / "data"

    def log(self, number: int) -> Path:
        """What a node says."""
        return self.directory / f"node-{number}.log"

    def beside(self, volume: str, timeout: float, number: int) -> DavClient:
        """A client of a node, for threads that have entered some node's network."""
        return DavClient(f"http://{self.address(number)}:8080/{volume}", USER, PASSWORD, timeout)

    def exit_code(self, number: int) -> int | None:
        """With what a node's process ended; None while it runs."""
        return self._nodes[number].poll()

    def listens(self, number: int) -> bool:
        """Whether a node takes connections of clients."""
        words = [self._ip, "netns", "exec", self._space(number), "ss", "-Hltn", "sport", "=", ":8080"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return bool(done.stdout.strip())

    def signal(self, number: int, sign: signal.Signals) -> None:
        """Signal a node's process."""
        self._nodes[number].send_signal(sign)

    def command(self, number: int, *words: str) -> str:
        """What ``davfs WORDS`` prints beside a node, whatever its exit code; OSError with what it says if that is nothing."""
        command = [self._ip, "netns", "exec", self._space(number), str(DAVFS), *words, "--config", str(self.config(number))]
        return run_command(command)

    # --- the network ------------------------------------------------------------------------------------------------

    def apply(self, weather: Weather) -> None:
        """Make the network so."""
        for number in self.numbers:
            if rules(number, weather, self.address) != rules(number, self._weather, self.address):
                self._filter(number, weather)
        for number in self.numbers:
            wanted, there = weather.delay.get(number, 0.0), self._weather.delay.get(number, 0.0)
            if wanted != there:
                if there:
                    self._end_delay(number)
                if wanted:
                    self._begin_delay(number, wanted)
        self._weather = weather

    def _filter(self, number: int, weather: Weather) -> None:
        words = [self._ip, "netns", "exec", self._space(number), self._nft, "-f", "-"]
        text = rules(number, weather, self.address)
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"nft: {done.stderr}\n{text}"

    def _begin_delay(self, number: int, seconds: float) -> None:
        """The node's end leaves the bridge for a small one of its own; between the two stands the relay."""
        inner, outer, bridge = f"in{number}", f"out{number}", f"slow{number}"
        words = [self._ip, "netns", "exec", self._hub, sys.executable, "-m", "tests.faults.relay", inner, outer, str(seconds)]
        relay = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT)
        self._relays[number] = relay
        assert relay.stdout is not None and relay.stdout.readline() == b"ready\n", "the relay did not start"
        self._link("-n", self._hub, "link", "add", bridge, "type", "bridge")
        self._link("-n", self._hub, "link", "set", inner, "master", bridge)
        self._link("-n", self._hub, "link", "set", outer, "master", "br0")
        self._link("-n", self._hub, "link", "set", f"p{number}", "master", bridge)
        for name in (bridge, inner, outer):
            self._link("-n", self._hub, "link", "set", name, "up")

    def _end_delay(self, number: int) -> None:
        relay = self._relays.pop(number)
        relay.kill()
        relay.wait(10)
        if relay.stdout is not None:
            relay.stdout.close()
        self._link("-n", self._hub, "link", "set", f"p{number}", "master", "br0")
        self._link("-n", self._hub, "link", "delete", f"slow{number}")

    # --- disks ------------------------------------------------------------------------------------------------------

    def fill(self, number: int) -> int:
        """Leave no room on a small disk; returns the bytes that this took."""
        return fill(self.data(number) / BALLAST)

    def unfill(self, number: int) -> None:
        """Give the room back."""
        (self.data(number) / BALLAST).unlink(missing_ok=True)

    def spoil(self, number: int) -> subprocess.Popen[bytes]:
        """From now on every write at a position and every sync of a node's process fails; ends with the process returned."""
        return spoil(self._nodes[number].pid)

    # --- the end ----------------------------------------------------------------------------------------------------

    def destroy(self) -> None:
        """End and remove everything that was started and made here."""
        for relay in self._relays.values():
            with suppress(ProcessLookupError):
                relay.kill()
            relay.wait(10)
        for node in self._nodes.values():  # so that nothing is in use below the mounts
            with suppress(ProcessLookupError):
                node.kill()
            node.wait(10)
        for folder in self._mounts:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
        super().destroy()


def quicken(config: Path) -> None:
    """A collector that runs every minute and has nothing to wait for longer: more happens in a short run."""
    text = config.read_text().replace("chunk_grace = 3600.0", "chunk_grace = 60.0")
    text = text.replace("chunk_quarantine = 86400.0", "chunk_quarantine = 60.0")
    config.write_text(text + "\n[limits]\ncollect_minutes = 1\n")


def spoil(pid: int, calls: str = "pwrite64,fsync,fdatasync", error: str = "EIO") -> subprocess.Popen[bytes]:
    """Those system calls of a process and all its threads fail for as long as the process returned runs."""
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*words, "-p", str(pid)], stdin=quiet, stdout=quiet, stderr=quiet)


def fill(ballast: Path) -> int:
    """Write until there is no room."""
    size = 0
    with ballast.open("wb", buffering=0) as file:
        block = bytes(1 << 20)
        while block:
            try:
                size += os.posix_fallocate(file.fileno(), size, len(block)) or len(block)
            except OSError:
                block = block[: len(block) // 2] if len(block) > 4096 else b""
    return size


def run_command(command: Sequence[str]) -> str:
    """What a command prints; OSError with what it says if that is nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{' '.join(command[-6:])} took more than {COMMAND_S:.0f} s") from error
    if done.returncode != 0 and not done.stdout.strip():
        raise OSError(done.stderr.strip())
    return done.stdout


def wait_for(what: str, condition: Callable[[], bool], limit: float, pause: float = 0.2) -> float:
    """Poll; the seconds it took, or TimeoutError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > limit:
            raise TimeoutError(f"{what} did not come within {limit:.0f} s")
        time.sleep(pause)
    return time.monotonic() - began
