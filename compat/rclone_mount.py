"""rclone mount: a tree written, renamed, read back and removed through the kernel with rclone's file system.

With ``--vfs-cache-mode writes``, as rclone advises for programs that rewrite files (``python -m compat.rclone_mount URL``).
Must not import: davfs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from compat import mounted
from compat.process import environment, find, kill_group, scratch
from compat.rclone import BINARIES, NO_RETRY, Rclone, binary
from compat.report import CompatError, Report, ToolMissing
from compat.target import Target, command

FLAGS = (
    *("--vfs-cache-mode", "writes", "--vfs-write-back", "0s"),
    *("--dir-cache-time", "1s", "--attr-timeout", "0s", "--log-level", "NOTICE"),
)


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """Mount a folder of its own with each chosen rclone, work in it, unmount."""
    fusermount = find("fusermount3", package="fuse3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise ToolMissing("/dev/fuse is missing or closed to this user: this machine cannot mount")
    programs = [(kind, binary(kind)) for kind in arguments.binary or BINARIES]
    report = Report(f"rclone mount against {target.url}")
    for kind, program in programs:
        with scratch("rclone-mount") as home, target.folder("rclone-mount") as folder:
            part = Report(kind)
            _one(part, Rclone(program, target, home, 60), folder, fusermount, arguments.files)
            for step in part.steps:
                report.add(f"{kind}: {step.name}", step.ok, step.seconds, step.detail)
    return report


def _one(report: Report, rclone: Rclone, folder: Target, fusermount: str, files: int) -> None:
    mount = rclone.home / "mnt"
    mount.mkdir()
    (rclone.home / "rclone.conf").touch()
    path = folder.url.removeprefix(rclone.target.url).rstrip("/")
    # Debian's rclone looks for the older name of the program; both do the same.
    tools = rclone.home / "bin"
    tools.mkdir()
    (tools / "fusermount").symlink_to(fusermount)
    extra = {**rclone.environment(), "PATH": f"{os.environ.get('PATH', '')}:{tools}"}
    log = rclone.home / "mount.log"
    command_line = [
        rclone.program,
        "mount",
        f"dav:{path}",
        str(mount),
        *NO_RETRY,
        *FLAGS,
        "--cache-dir",
        str(rclone.home / "cache"),
    ]
    with log.open("wb") as stream:
        child = subprocess.Popen(
            command_line, stdout=stream, stderr=stream, env=environment(rclone.home, extra), start_new_session=True
        )
    try:
        with report.step("mount"):
            mounted.wait_for(
                f"the mount\n{_tail(log)}", lambda: mounted.is_mounted(mount) or child.poll() is not None, 30
            )
            if child.poll() is not None:
                raise CompatError(f"rclone mount ended with {child.returncode}\n{_tail(log)}")
        if not report.failed:
            mounted.operations(report, mount, folder, rclone.home, files)
            with report.step("unmount"):
                mounted.unmount(mount, [fusermount, "-u"], rclone.home)
                mounted.wait_for("the end of rclone mount", lambda: child.poll() is not None, 30)
        if report.failed:
            report.add("rclone's own log", False, detail=_tail(log))
    finally:
        mounted.unmount(mount, [fusermount, "-u"], rclone.home)
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        kill_group(child.pid)
        child.wait(10)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-600:] if log.exists() else ""


def extend(parser: argparse.ArgumentParser) -> None:
    """The arguments of this runner alone."""
    parser.add_argument("--files", type=int, default=60, help="files in the tree")
    parser.add_argument("--binary", action="append", choices=BINARIES, help="only this rclone (default: both)")


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (an operation failed) or 3 (rclone or FUSE is missing)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
