"""Three nodes, each in a network of its own, that can be cut off from the others without being stopped.

Network namespaces joined by a bridge; a cut takes a node's end of the bridge down. Clients enter a node's namespace, so they
reach it whatever is cut. Needs root and ``ip``. Nothing leaves the namespaces.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from compat.client import DavClient
from tests.support.tools import require_root, require_tool

DAVFS = Path(sys.prefix) / "bin" / "davfs"
USER, PASSWORD = "anna", "secret word 1"
_CLONE_NEWNET = 0x40000000
Result = TypeVar("Result")


class PartedCluster:
    """A cluster of ``count`` nodes; destroy() leaves nothing. Nodes are numbered from 1."""

    def __init__(self, count: int = 3) -> None:
        require_root("network namespaces")
        self._ip = require_tool("ip", "iproute2")
        self.numbers = tuple(range(1, count + 1))
        self.directory = Path(tempfile.mkdtemp(prefix="davfs-parted-"))
        self._name = f"davfs{os.getpid()}"
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Make networks and nodes, and wait until all of them serve."""
        self._link("netns", "add", self._hub)
        self._link("-n", self._hub, "link", "add", "br0", "type", "bridge")
        self._link("-n", self._hub, "link", "set", "br0", "up")
        for number in self.numbers:
            name = self._space(number)
            self._link("netns", "add", name)
            self._link("-n", name, "link", "set", "lo", "up")
            self._link("-n", self._hub, "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            self._link("-n", self._hub, "link", "set", f"p{number}", "master", "br0", "up")
            self._link("-n", name, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            self._link("-n", name, "link", "set", "eth0", "up")
        hosts = [f"node-{number}={self.address(number)}" for number in self.numbers]
        words = ["init", "--dir", str(self.directory / "made"), "--user", f"{USER}:{PASSWORD}", "--plain-http"]
        subprocess.run([str(DAVFS), *words, *hosts], check=True, capture_output=True)
        self.furnish()
        for number in self.numbers:
            self.serve(number)
        self.until("all nodes", lambda: self.all_up(), 60)

    def furnish(self) -> None:
        """What a kind of cluster does to the folders of its nodes before they start."""

    def all_up(self) -> bool:
        """Whether every node sees every other."""
        nodes = self.davfs(1, "status", "--json", check=False).get("nodes", [])
        return len(nodes) == len(self.numbers) and all(node["up"] for node in nodes)

    # --- nodes ------------------------------------------------------------------------------------------------------

    def address(self, number: int) -> str:
        return f"10.77.0.{number}"

    def config(self, number: int) -> Path:
        return self.directory / "made" / f"node-{number}" / "davfs.toml"

    def serve(self, number: int) -> None:
        """Start a node's process."""
        log = (self.directory / f"node-{number}.log").open("ab")
        words = [self._ip, "netns", "exec", self._space(number), str(DAVFS), "serve", "--config", str(self.config(number))]
        self._nodes[number] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()

    def kill(self, number: int) -> None:
        """kill -9 (``ip netns exec`` replaces itself by the command)."""
        self._nodes[number].send_signal(signal.SIGKILL)
        self._nodes[number].wait(10)

    def davfs(self, number: int, *words: str, check: bool = True) -> Any:
        """What a command answers that is run beside a node; its JSON if it is asked for that."""
        command = [self._ip, "netns", "exec", self._space(number), str(DAVFS), *words, "--config", str(self.config(number))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}\n{self.story()}"
        return json.loads(done.stdout or "{}") if "--json" in words else done.stdout

    # --- cuts -------------------------------------------------------------------------------------------------------

    def cut(self, number: int) -> None:
        """Cut a node off from all others."""
        self._link("-n", self._hub, "link", "set", f"p{number}", "down")

    def heal(self) -> None:
        """End all cuts."""
        for number in self.numbers:
            self._link("-n", self._hub, "link", "set", f"p{number}", "up")

    def client(self, number: int, volume: str, timeout: float = 30.0) -> DavClient:
        """A client beside a node: only for a thread that has entered the node's network."""
        return DavClient(f"http://{self.address(number)}:8080/{volume}/", USER, PASSWORD, timeout)

    def enter(self, number: int) -> None:
        """Take the calling thread into a node's network for good: sockets that it opens are there."""
        with open(f"/run/netns/{self._space(number)}", "rb") as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    # --- the end ----------------------------------------------------------------------------------------------------

    def until(self, what: str, condition: Callable[[], Result], limit: float) -> Result:
        """Wait for something; fails with the logs."""
        ends = time.monotonic() + limit
        while not (found := condition()):
            assert time.monotonic() < ends, f"{what} did not come within {limit:.0f} s\n{self.story()}"
            time.sleep(0.2)
        return found

    def story(self) -> str:
        """The end of all logs, without answers to clients."""
        told = []
        for log in sorted(self.directory.glob("*.log")):
            lines = [line for line in log.read_text(errors="replace").splitlines() if "davfs.dav.errors" not in line]
            told += [f"--- {log.name}", *lines[-40:]]
        return "\n".join(told)

    def destroy(self) -> None:
        """End everything that was started and made here."""
        for node in self._nodes.values():
            with suppress(ProcessLookupError):
                node.kill()
            node.wait(10)
        for name in (self._hub, *map(self._space, self.numbers)):
            subprocess.run([self._ip, "netns", "delete", name], capture_output=True, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _hub(self) -> str:
        return f"{self._name}-hub"

    def _space(self, number: int) -> str:
        return f"{self._name}-{number}"

    def _link(self, *words: str) -> None:
        done = subprocess.run([self._ip, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
