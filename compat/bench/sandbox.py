"""A private corner of this machine for GlusterFS: own mounts, own processes, own /etc/hosts.

GlusterFS wants a second name for 127.0.0.1, fixed folders (/var/lib/glusterd, /run) and leaves
daemons and mounts behind. In a mount and process namespace (namespaces(7)) with copies mounted
over those paths, the machine itself is never changed, and the end of the namespace's first process
ends every process and mount in it, even after kill -9 of the run: that process waits on a pipe from
the run and ends with it. The network is the machine's own, so clients outside reach the servers.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

from compat.bench.site import Absent, Site, program

HOST_NAME = "davfs-bench"
_OVERLAID = ("/var/lib/glusterd", "/var/log/glusterfs", "/run")


class Sandbox:
    """A running namespace; `wrap` makes a command run inside. Needs root. See the module."""

    def __init__(self, site: Site) -> None:
        if os.geteuid() != 0:
            raise Absent("needs root (mounts in a namespace of its own)")
        self._nsenter = program("nsenter", "util-linux")
        folder = site.place("sandbox")
        hosts = folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n127.0.0.1 {HOST_NAME}\n")
        binds = [(hosts, "/etc/hosts")]
        for path in _OVERLAID:
            if not Path(path).is_dir():
                raise Absent(f"{path} does not exist: is glusterfs-server installed?")
            own = folder / path.strip("/").replace("/", "-")
            own.mkdir()
            binds.append((own, path))
        script = ["set -e"]
        script += [f"mount --bind '{own}' '{path}'" for own, path in binds]
        script += ["mkdir -p /run/gluster /run/mount", "echo ready", "exec cat >/dev/null"]
        self._start(site, "\n".join(script))

    def _start(self, site: Site, script: str) -> None:
        command = [program("unshare", "util-linux"), "--mount", "--pid", "--fork", "--mount-proc"]
        command += ["--propagation", "private", "--kill-child", "sh", "-c", script]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        site.stack.callback(_end, process)
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 10)
        line = process.stdout.readline().decode("utf-8", "replace").strip() if ready else ""
        if line != "ready":
            raise Absent(f"no namespace here: {line or 'unshare said nothing within 10 s'}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if len(children) != 1:
            raise Absent("the namespace's first process is not to be found")
        self._first = children[0]

    def wrap(self, command: Sequence[str]) -> list[str]:
        """The command, to be run inside."""
        return [self._nsenter, "--target", self._first, "--mount", "--pid", "--", *command]

    def run(self, command: Sequence[str], limit: float = 30.0) -> str:
        """Runs a command inside and returns its output. Raises Absent with its words if it fails."""
        try:
            done = subprocess.run(
                self.wrap(command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Absent(f"{command[0]} did not end within {limit:g} s") from error
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing")[-300:]
            raise Absent(f"{' '.join(command)}: status {done.returncode}: {said}")
        return done.stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    """Closes the pipe: the first process ends, and the kernel ends all others of the namespace."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()  # unshare; --kill-child takes the first process with it
        process.wait(5)
    process.stdout.close()
