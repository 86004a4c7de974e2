"""What every server of a run shares: the folder, free ports, processes and their end.

Whatever is started registers its end with the run's ExitStack at once, so that a failure or Ctrl-C
at any point leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path


class Absent(Exception):
    """A server cannot run here; the text says why, for the report."""


@dataclass(frozen=True)
class Running:
    """A server that answers at `url` (a WebDAV folder, ending in a slash)."""

    url: str
    version: str


@dataclass
class Site:
    """One run's folder and everything that was started in it.

    `shared` keeps what two servers use together (the GlusterFS mount), by name.
    """

    folder: Path
    stack: ExitStack
    davfs_url: str | None = None
    shared: dict[str, object] = field(default_factory=dict)
    processes: list[ExitStack] = field(default_factory=list)

    def place(self, name: str) -> Path:
        """A new folder of that name, on the same disk as everybody's."""
        path = self.folder / name
        path.mkdir(mode=0o755)
        return path

    def spawn(self, name: str, command: Sequence[str], *, patience: float = 5.0) -> subprocess.Popen[bytes]:
        """Starts a process in a group of its own, its output in NAME.log; ended with the run.

        `patience` is how many seconds it gets between SIGTERM and SIGKILL.
        """
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        end = ExitStack()
        end.callback(_end, process, patience)
        self.stack.push(end)
        self.processes.append(end)
        return process

    def end_since(self, count: int) -> None:
        """Ends at once what was spawned after the first `count`: a server that failed to start."""
        for end in reversed(self.processes[count:]):
            end.close()

    def log_tail(self, name: str) -> str:
        """The last line that process wrote, for an error's text."""
        text = (self.folder / f"{name}.log").read_text("utf-8", "replace").strip()
        return text.splitlines()[-1][:300] if text else "it wrote nothing"

    def wait_for_port(self, name: str, process: subprocess.Popen[bytes], port: int) -> None:
        """Waits up to 15 s until 127.0.0.1:port accepts. Raises Absent when it does not."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if process.poll() is not None:
                code = process.returncode
                raise Absent(f"{name} ended with status {code}: {self.log_tail(name)}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Absent(f"{name} did not listen on port {port} within 15 s: {self.log_tail(name)}")


def program(name: str, package: str) -> str:
    """The path of an installed program, also in /usr/sbin. Raises Absent naming the package."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise Absent(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def first_line(command: Sequence[str]) -> str:
    """The first line that a command prints, for a version."""
    done = subprocess.run(list(command), capture_output=True, text=True, timeout=20, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown version"


def free_ports(count: int = 1) -> int:
    """The first of `count` consecutive ports on 127.0.0.1 that were free a moment ago."""
    for _ in range(200):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        if first + count < 65536 and all(_is_free(first + more) for more in range(count)):
            return first
    raise Absent(f"no {count} consecutive free ports on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    """Ends a process: SIGTERM to it, which may see its own children off, then SIGKILL to the group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
