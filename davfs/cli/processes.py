"""The node processes of `davfs dev`: started, watched and stopped by their pid files.

A pid file is locked by its node for as long as that runs, so nodes that were restarted by hand are found, and a process
that merely got an old number is not touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from davfs.cli.remote import Remote
from davfs.cli.serve import PARENT_VARIABLE
from davfs.core.errors import DavfsError
from davfs.node.config import NodeConfig
from davfs.node.pidfile import running_pid

TERM_LIMIT_S = 12.0
KILL_LIMIT_S = 5.0
_POLL_S = 0.02
_LOG_LINES = 8


class Nodes:
    """The nodes of one cluster on this machine."""

    def __init__(self, configs: Sequence[NodeConfig]) -> None:
        self._configs = {config.name: config for config in configs}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start every node, its output going to ``log`` in its folder."""
        environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
        for name, config in self._configs.items():
            with log_file(config).open("ab") as log:
                self._children[name] = subprocess.Popen(
                    [sys.executable, "-m", "davfs", "serve", "--config", str(config.file)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # Ctrl-C in the terminal is for dev, which then stops them in order
                )

    def ended(self) -> list[str]:
        """What to tell about nodes that ended since the last call. They stay dead until somebody starts them."""
        texts = []
        for name, child in list(self._children.items()):
            code = child.poll()
            if code is None:
                continue
            del self._children[name]
            config = self._configs[name]
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            text = f"{name} {how}; davfs serve --config {config.file} brings it back"
            if code > 0:
                text += "\n" + _last_lines(log_file(config))
            texts.append(text)
        return texts

    def stop(self) -> None:
        """Stop every node that runs, also those restarted by hand: SIGTERM, then SIGKILL after a limit.

        Holders go first, while the others can still agree that their volumes are free: that spares the next start the
        wait for their tokens to expire.
        """
        running = self._running()
        holders = self._holders(running) if len(running) > 1 else set()
        if holders and len(holders) < len(running):
            self._end(holders)
        self._end(self._running())

    def _running(self) -> set[str]:
        alive = {name for name, child in self._children.items() if child.poll() is None}
        return alive | {name for name, config in self._configs.items() if running_pid(config.pid_file) is not None}

    def _pids(self, names: Collection[str]) -> dict[str, int]:
        pids = {}
        for name in names:
            child = self._children.get(name)
            pid = child.pid if child is not None and child.poll() is None else None
            pid = pid if pid is not None else running_pid(self._configs[name].pid_file)
            if pid is not None:
                pids[name] = pid
        return pids

    def _end(self, names: Collection[str]) -> None:
        pids = self._pids(names)
        for number, limit in ((signal.SIGTERM, TERM_LIMIT_S), (signal.SIGKILL, KILL_LIMIT_S)):
            for pid in pids.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + limit
            while pids and time.monotonic() < deadline:
                time.sleep(_POLL_S)
                pids = {name: pid for name, pid in pids.items() if self._lives(name, pid)}
            if not pids:
                return

    def _lives(self, name: str, pid: int) -> bool:
        """Whether the process is there still: the lock on the pid file goes a moment before it does."""
        child = self._children.get(name)
        return child.poll() is None if child is not None and child.pid == pid else process_lives(pid)

    def _holders(self, running: Collection[str]) -> set[str]:
        """The nodes that hold volumes now, as far as one of them can tell at once."""
        for name in sorted(running):
            try:
                remote = Remote(self._configs[name])
                try:
                    status: dict[str, Any] = remote.ask_node(name, "admin.status", {}, timeout=2.0)
                finally:
                    remote.close()
            except DavfsError:
                continue
            return {str(volume["holder"]) for volume in status["volumes"]} & set(running)
        return set()


def log_file(config: NodeConfig) -> Path:
    """Where a node that dev started writes its log."""
    return config.file.parent / "log"


def process_lives(pid: int) -> bool:
    """Whether there is a process of that number that is not merely waiting to be collected by its parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def _last_lines(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in lines)
