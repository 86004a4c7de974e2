"""davfs2, the kernel mount of Linux distributions: a tree written, renamed, read back and removed through it.

Only root can mount at a place of its own choosing. ``buf_size`` is raised because newer kernels list no directory with
davfs2's default of 16 KiB (``python -m compat.davfs2 URL``). Must not import: davfs.
"""

from __future__ import annotations

import argparse
import grp
import os
import sys
from pathlib import Path

from compat import mounted
from compat.process import find, run, scratch
from compat.report import CompatError, Report, ToolMissing
from compat.target import Target, command

CONFIGURATION = """\
buf_size 256
cache_dir {cache}
delay_upload 0
ask_auth 0
dir_refresh 1
connect_timeout 20
read_timeout 60
"""


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """Mount a folder of its own, work in it, unmount."""
    program = find("mount.davfs", package="davfs2")
    if os.geteuid() != 0:
        raise ToolMissing("davfs2 mounts at a place of one's own choosing only for root")
    if not Path("/dev/fuse").exists():
        raise ToolMissing("/dev/fuse is missing: this machine cannot mount")
    report = Report(f"davfs2 against {target.url}")
    with scratch("davfs2") as home, target.folder("davfs2") as folder:
        mount = home / "mnt"
        options = _prepare(home, folder)
        try:
            with report.step("mount"):
                run([program, "-o", options, folder.url, str(mount)], home=home, timeout=60).require("mount.davfs")
                mounted.wait_for("the mount", lambda: mounted.is_mounted(mount), 10)
            if not report.failed:
                mounted.operations(report, mount, folder, home, arguments.files)
                with report.step("unmount"):
                    _unmount(mount, home)
        finally:
            mounted.unmount(mount, ["umount"], home)
    return report


def _prepare(home: Path, target: Target) -> str:
    """Make the directories, configuration and secrets; returns mount options. davfs2 wants its cache owned by its group."""
    cache = home / "cache"
    for directory in (home / "mnt", cache):
        directory.mkdir()
    home.chmod(0o755)
    os.chown(cache, 0, grp.getgrnam("davfs2").gr_gid)
    cache.chmod(0o775)
    (home / "davfs2.conf").write_text(CONFIGURATION.format(cache=cache))
    # The login is read from here: mount.davfs asks for none with ask_auth 0, and user files are found below HOME.
    secrets = home / ".davfs2" / "secrets"
    secrets.parent.mkdir()
    secrets.touch(mode=0o600)
    if target.user:
        secrets.write_text(f'"{target.url}" "{target.user}" "{target.password}"\n')
    with (home / "davfs2.conf").open("a") as stream:
        stream.write(f"secrets {secrets}\n")
    return f"conf={home / 'davfs2.conf'},uid=0,gid=0"


def _unmount(mount: Path, home: Path) -> None:
    run(["umount", str(mount)], home=home, timeout=90).require("umount")
    if mounted.is_mounted(mount):
        raise CompatError("still mounted")


def extend(parser: argparse.ArgumentParser) -> None:
    """The arguments of this runner alone."""
    parser.add_argument("--files", type=int, default=60, help="files in the tree")


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (an operation failed) or 3 (davfs2 is missing or this user is not root)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
