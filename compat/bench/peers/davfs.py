"""davfs itself: three nodes started by `davfs dev`, or the address that the user gave."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from compat.bench.site import Absent, Running, Site, first_line, free_ports

_PROGRAM = Path(__file__).resolve().parents[3] / ".venv/bin/davfs"
_VOLUME = "bench"
_READY_WITHIN = 60.0


def start(site: Site) -> Running:
    """Three nodes with one volume; the requests go to the first node."""
    if site.davfs_url is not None:
        return Running(site.davfs_url.rstrip("/") + "/", "running already")
    if not _PROGRAM.exists():
        raise Absent(f"{_PROGRAM} does not exist: run `make build` or give --davfs-url")
    data = site.folder / "davfs-data"
    port = free_ports(3)
    command = [str(_PROGRAM), "dev", "--nodes", "3", "--port", str(port), "--dir", str(data)]
    site.stack.callback(_end_nodes, data)
    process = site.spawn("davfs", [*command, "--volume", _VOLUME], patience=20)
    _wait_until_ready(site, process, data)
    return Running(f"http://127.0.0.1:{port}/{_VOLUME}/", first_line([str(_PROGRAM), "--version"]))


def _wait_until_ready(site: Site, process: subprocess.Popen[bytes], data: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while not (data / "ready").exists():
        if process.poll() is not None:
            raise Absent(f"davfs dev ended with {process.returncode}: {site.log_tail('davfs')}")
        if time.monotonic() > deadline:
            raise Absent(f"not ready within {_READY_WITHIN:g} s: {site.log_tail('davfs')}")
        time.sleep(0.1)


def _end_nodes(data: Path) -> None:
    """After `davfs dev` has ended: kills a node that it left behind, if its command names `data`."""
    for file in data.glob("node-*/pid"):
        try:
            pid = int(file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if str(data).encode() in words:
                os.kill(pid, signal.SIGKILL)
        except (OSError, ValueError):
            continue
