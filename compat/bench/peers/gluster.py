"""A GlusterFS volume of three replicas on this machine, mounted by FUSE in a sandbox.

Made as Debian's glusterfs-server makes it, no option tuned; the bricks lie beside each other on the
run's disk. Two servers (Apache and rclone) share one mount, in folders of their own.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

from compat.bench.sandbox import HOST_NAME, Sandbox
from compat.bench.site import Absent, Site, first_line, program

_MANAGEMENT_PORT = 24007
_KEY = "gluster"


@dataclass(frozen=True)
class GlusterMount:
    """The mounted volume. `mount` is to be seen only by processes that run in `sandbox`."""

    sandbox: Sandbox
    mount: Path
    version: str

    def folder(self, name: str, owner: str = "") -> Path:
        """Makes a folder on the volume, given to a user if one is named."""
        path = self.mount / name
        self.sandbox.run(["mkdir", str(path)])
        if owner:
            self.sandbox.run(["chown", owner, str(path)])
        return path


def mounted(site: Site) -> GlusterMount:
    """The run's volume; made at the first call. Raises Absent, every time, when it cannot be."""
    if _KEY not in site.shared:
        try:
            site.shared[_KEY] = _make(site)
        except Absent as problem:
            site.shared[_KEY] = problem
    found = site.shared[_KEY]
    if isinstance(found, GlusterMount):
        return found
    raise Absent(str(found))


def _make(site: Site) -> GlusterMount:
    daemon = program("glusterd", "glusterfs-server")
    program("mount.glusterfs", "glusterfs-client")
    version = first_line([daemon, "--version"])
    _check_port()
    sandbox = Sandbox(site)
    folder = site.place("gluster")
    config = folder / "glusterd.vol"
    config.write_text(
        "volume management\n    type mgmt/glusterd\n"
        "    option working-directory /var/lib/glusterd\n"
        "    option transport-type socket\n"
        "    option transport.socket.bind-address 127.0.0.1\n"
        f"    option transport.socket.listen-port {_MANAGEMENT_PORT}\n"
        "    option transport.socket.read-fail-log off\n"
        "    option ping-timeout 0\n    option event-threads 1\n"
        "    option max-port 60999\nend-volume\n"
    )
    sandbox.run([daemon, "-f", str(config)])
    _wait_for_daemon(sandbox)
    bricks = [f"{HOST_NAME}:{folder}/brick-{number}" for number in (1, 2, 3)]
    _gluster(sandbox, "volume", "create", "bench", "replica", "3", *bricks, "force")
    _gluster(sandbox, "volume", "start", "bench")
    mount = folder / "mount"
    mount.mkdir()
    sandbox.run(["mount", "-t", "glusterfs", f"{HOST_NAME}:/bench", str(mount)])
    _wait_for_bricks(sandbox)
    return GlusterMount(sandbox, mount, version)


def _gluster(sandbox: Sandbox, *words: str) -> str:
    return sandbox.run(["gluster", "--mode=script", *words], limit=60)


def _check_port() -> None:
    """Another glusterd of this machine must not be mistaken for ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _MANAGEMENT_PORT))
        except OSError as error:
            raise Absent(f"port {_MANAGEMENT_PORT} is in use (another glusterd?)") from error


def _wait_for_daemon(sandbox: Sandbox) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            _gluster(sandbox, "volume", "list")
            return
        except Absent:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _wait_for_bricks(sandbox: Sandbox) -> None:
    """A volume with two bricks would be measured too fast: all three must be online."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        status = _gluster(sandbox, "volume", "status", "bench", "--xml")
        if status.count("<status>1</status>") >= 3:
            return
        time.sleep(0.3)
    raise Absent("not all three bricks came online within 15 s")
