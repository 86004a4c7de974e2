"""A real three-node drive: ``davfs dev`` and its node processes, killed and restarted by tests, never left behind.

Speaks to davfs only as its users do: the command line, the pid and ready files, WebDAV.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from compat.client import DavClient
from tests.support.ports import free_run

DAVFS = Path(sys.prefix) / "bin" / "davfs"
START_LIMIT = 60.0
STOP_LIMIT = 30.0
COMMAND_LIMIT = 30.0


class DevCluster:
    """One ``davfs dev`` over a directory; nodes are numbered from 1.

    start() blocks until DIR/ready is there; stop() leaves no process. Its own failing assertions carry the end of the logs.
    """

    def __init__(
        self,
        directory: Path,
        nodes: int = 3,
        volumes: Sequence[str] = ("demo",),
        users: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.count = nodes
        self.volumes = tuple(volumes)
        self.users = tuple(users)
        self.options = tuple(options)
        self.port = free_run(nodes)
        self.log = directory.parent / f"{directory.name}.dev.log"
        self._dev: subprocess.Popen[bytes] | None = None
        self._by_hand: list[subprocess.Popen[bytes]] = []

    # --- whole cluster --------------------------------------------------------------------------------------------

    def launch(self) -> subprocess.Popen[bytes]:
        """Start ``davfs dev`` and return at once."""
        words = [str(DAVFS), "dev", "--nodes", str(self.count), "--port", str(self.port), "--dir", str(self.directory)]
        words += [word for name in self.volumes for word in ("--volume", name)]
        words += [word for user in self.users for word in ("--user", user)]
        with self.log.open("ab") as stream:
            self._dev = subprocess.Popen(
                [*words, *self.options], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )
        return self._dev

    def start(self, limit: float = START_LIMIT) -> float:
        """Start and wait for DIR/ready; returns the seconds it took."""
        began = time.monotonic()
        dev = self.launch()
        self.until("DIR/ready", lambda: self.ready.exists() or dev.poll() is not None, limit)
        assert dev.poll() is None, self.story(f"davfs dev ended with {dev.returncode} before it was ready")
        return time.monotonic() - began

    def stop(self, limit: float = STOP_LIMIT) -> int:
        """SIGINT as Ctrl-C sends it, then wait; returns the exit code of ``davfs dev``. Whatever is left is killed."""
        try:
            if self._dev is None:
                return 0
            if self._dev.poll() is None:
                self._dev.send_signal(signal.SIGINT)
            try:
                return self._dev.wait(limit)
            except subprocess.TimeoutExpired:
                raise AssertionError(self.story(f"davfs dev did not stop within {limit:.0f} s of SIGINT")) from None
        finally:
            self.destroy()

    def destroy(self) -> None:
        """SIGKILL to everything this object started; waits for the end of its own children."""
        for number in range(1, self.count + 1):
            with suppress(OSError, ValueError):
                self._kill_pid(self.pid(number))
        children = [*self._by_hand, *([self._dev] if self._dev else [])]
        for child in children:
            if child.poll() is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
            child.wait(10)
        self._by_hand.clear()
        self._dev = None

    def kill_everything(self) -> None:
        """kill -9 of every node at once, and of ``davfs dev`` itself (else it would tidy up)."""
        pids = [pid for number in range(1, self.count + 1) if (pid := self.living_pid(number)) is not None]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.until("the end of all nodes", lambda: not any(_runs(pid) for pid in pids), 10)
        self.destroy()
        self.ready.unlink(missing_ok=True)

    @property
    def ready(self) -> Path:
        """The file that is there while every node serves every volume."""
        return self.directory / "ready"

    # --- one node -------------------------------------------------------------------------------------------------

    def config(self, number: int) -> Path:
        """A node's configuration file."""
        return self.directory / f"node-{number}" / "davfs.toml"

    def pid(self, number: int) -> int:
        """What a node's pid file says; OSError or ValueError without one."""
        return int((self.directory / f"node-{number}" / "pid").read_text())

    def living_pid(self, number: int) -> int | None:
        """The pid of a node that runs, else None."""
        try:
            pid = self.pid(number)
        except (OSError, ValueError):
            return None
        return pid if _runs(pid) else None

    def kill(self, number: int, sign: signal.Signals = signal.SIGKILL) -> float:
        """Signal a node (kill -9 unless told) and wait until it is gone; returns the moment just before."""
        pid = self.pid(number)
        moment = time.monotonic()
        os.kill(pid, sign)
        self.until(f"the end of node {number}", lambda: not _runs(pid), 20)
        return moment

    def serve(self, number: int, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Bring a node back by hand: ``davfs serve --config ...``; returns at once. ``environment``: what is set besides."""
        return self.serve_file(self.config(number), f"node-{number}", environment)

    def serve_file(
        self, config: Path, name: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """The same for a node that is not one of ``davfs dev``'s."""
        log = self.log.with_name(f"{self.directory.name}.{name}.log")
        with log.open("ab") as stream:
            child = subprocess.Popen(
                [str(DAVFS), "serve", "--config", str(config)],
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        self._by_hand.append(child)
        return child

    def url(self, number: int, volume: str | None = None) -> str:
        """A volume's URL on one node; the server's root for the volume ''."""
        name = self.volumes[0] if volume is None else volume
        return f"http://127.0.0.1:{self.port + number - 1}/" + (f"{name}/" if name else "")

    def client(self, number: int, volume: str | None = None, timeout: float = 30.0, user: str = "") -> DavClient:
        """A client of one node; `user` is NAME:PASSWORD."""
        name, _, password = user.partition(":")
        return DavClient(self.url(number, volume), name, password, timeout)

    # --- the command line -----------------------------------------------------------------------------------------

    def command(self, *words: str, number: int = 1, limit: float = COMMAND_LIMIT) -> subprocess.CompletedProcess[str]:
        """Run ``davfs WORDS --config DIR/node-N/davfs.toml`` to its end."""
        return subprocess.run(
            [str(DAVFS), *words, "--config", str(self.config(number))],
            capture_output=True, text=True, timeout=limit, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def status(self, number: int = 1) -> dict[str, Any]:
        """``davfs status --json``, parsed; AssertionError with its own words when it fails."""
        done = self.command("status", "--json", number=number)
        assert done.returncode == 0, self.story(f"davfs status: {done.returncode}\n{done.stdout}{done.stderr}")
        parsed: dict[str, Any] = json.loads(done.stdout)
        return parsed

    def volume(self, name: str | None = None, number: int = 1) -> dict[str, Any]:
        """One volume's part of the status."""
        wanted = self.volumes[0] if name is None else name
        found: dict[str, Any] = next(volume for volume in self.status(number)["volumes"] if volume["name"] == wanted)
        return found

    def holder(self, name: str | None = None, number: int = 1) -> int:
        """The number of the node that holds a volume, made to hold it by a write if none does."""
        with self.client(number, name) as client:
            answer = client.put(".holder-wanted", b"")
            assert answer.ok, self.story(f"PUT was answered {answer.status}")
            client.request("DELETE", ".holder-wanted")
        holder = self.volume(name, number)["holder"]
        assert holder, self.story("no holder although a write was just acknowledged")
        return int(str(holder).rpartition("-")[2])

    # --- waiting and telling ----------------------------------------------------------------------------------------

    def until(self, what: str, condition: Callable[[], object], limit: float) -> float:
        """Poll until the condition is true; returns the seconds it took, AssertionError after `limit` of them."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < limit, self.story(f"not within {limit:.0f} s: {what}")
            time.sleep(0.05)
        return time.monotonic() - began

    def story(self, message: str) -> str:
        """The message with the end of every log, for an assertion."""
        parts = [message]
        logs = [self.log, *sorted(self.log.parent.glob(f"{self.directory.name}.node-*.log"))]
        for log in [*logs, *sorted(self.directory.glob("node-*/log"))]:
            with suppress(OSError):
                parts.append(f"--- {log.name}\n{log.read_text(errors='replace')[-2500:]}")
        return "\n".join(parts)

    def _kill_pid(self, pid: int) -> None:
        # A pid file can outlive its process: only kill what was started for this directory.
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if str(self.directory).encode() in b" ".join(command):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
