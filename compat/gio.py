"""GNOME's Files, by its own command ``gio``: gvfs mounts the folder, and everything goes through its WebDAV backend.

Runs without a desktop, on a D-Bus session of its own (``python -m compat.gio URL``). Must not import: davfs.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from compat.client import DavClient
from compat.process import Outcome, environment, find, kill_group, run, scratch
from compat.report import CompatError, Report, ToolMissing
from compat.target import Target, command

SIZE = 5_000_003
SEED = 41
LIMIT = 60.0
BACKEND = Path("/usr/share/gvfs/mounts/dav.mount")
ODD = "Übersicht 100% a+b #1 日本.txt"
MISSING, EXISTS, WRONG_ETAG = "(?i)not found|no such file", "exists", "externally modified"


@dataclass(frozen=True)
class Gio:
    """The program on one session bus, with a folder of the server and a local one."""

    program: str
    folder: Target
    home: Path
    bus: Mapping[str, str]

    def url(self, name: str = "") -> str:
        """The address as gvfs wants it: ``dav://``, with the name of the login."""
        parts = urlsplit(self.folder.url)
        host = f"{self.folder.user}@{parts.netloc}" if self.folder.user else parts.netloc
        return urlunsplit(("davs" if parts.scheme == "https" else "dav", host, parts.path.rstrip("/"), "", "")) + name

    def run(self, *words: str, stdin: str = "") -> Outcome:
        """One command, whatever it says."""
        return run([self.program, *words], home=self.home, timeout=LIMIT, stdin=stdin, extra_env=self.bus)

    def ok(self, *words: str, stdin: str = "") -> str:
        """One command that must succeed; what it printed."""
        return self.run(*words, stdin=stdin).require("gio " + " ".join(words)).out

    def refused(self, why: str, *words: str) -> None:
        """One command that must fail, for a reason that matches a pattern."""
        done = self.run(*words)
        if done.code == 0 or not re.search(why, done.err):
            raise CompatError(
                f"gio {' '.join(words)}: exit code {done.code}, not refused as {why!r}: {done.err[-300:]}"
            )


@contextmanager
def session(home: Path) -> Iterator[dict[str, str]]:
    """A D-Bus session bus of this run alone: what to put into the environment to be on it."""
    program = find("dbus-daemon", package="dbus-daemon")
    runtime = home / "runtime"
    runtime.mkdir(mode=0o700)
    given = {"XDG_RUNTIME_DIR": str(runtime), "XDG_DATA_HOME": str(home / "data"), "GIO_USE_VOLUME_MONITOR": "unix"}
    words = [program, "--session", "--nofork", "--print-address=1", f"--address=unix:path={runtime}/bus"]
    with (home / "bus.log").open("wb") as log:
        child = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=log, env=environment(home, given), start_new_session=True
        )
    try:
        assert child.stdout is not None
        address = child.stdout.readline().decode().strip()  # ends when the daemon does
        if not address:
            raise CompatError(f"no session bus: {(home / 'bus.log').read_text()[-300:]}")
        yield {**given, "DBUS_SESSION_BUS_ADDRESS": address}
    finally:
        # gvfs's daemons are in its process group and would go by themselves when it does.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(5)
        kill_group(child.pid)
        child.wait(5)


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """Mount a folder of its own, work in it, unmount."""
    program = find("gio", package="libglib2.0-bin")
    if not BACKEND.exists():
        raise ToolMissing("gvfs's WebDAV backend is not installed (Debian package gvfs-backends)")
    report = Report(f"gio (gvfs) against {target.url}")
    with scratch("gio") as home, target.folder("gio") as folder, session(home) as bus:
        gio = Gio(program, folder, home, bus)
        with report.step("mount"):
            gio.ok("mount", gio.url(), stdin=f"{folder.password}\n" if folder.user else "")
        if not report.failed:
            with folder.client() as eyes:
                _files(report, gio, eyes)
                _folders(report, gio, eyes)
            with report.step("unmount"):
                gio.ok("mount", "-u", gio.url())
    return report


def _files(report: Report, gio: Gio, eyes: DavClient) -> None:
    data = random.Random(SEED).randbytes(SIZE)
    large, back = gio.home / "large.bin", gio.home / "back.bin"
    large.write_bytes(data)
    with report.step("free space"):
        told = gio.ok("info", "-f", gio.url())
        free = [line.rpartition(" ")[2] for line in told.splitlines() if "filesystem::free" in line]
        if not free or int(free[0]) <= 0:
            raise CompatError(f"no free space in {told}")
    with report.step("copy of a file of 5 MB there and back"):
        gio.ok("copy", str(large), gio.url("/large.bin"))
        _same(eyes.get("large.bin").body, data)
        gio.ok("copy", gio.url("/large.bin"), str(back))
        _same(back.read_bytes(), data)
    with report.step("a file is written (save)"):
        gio.ok("save", gio.url("/note.txt"), stdin="first")
        _same(eyes.get("note.txt").body, b"first")
    with report.step("a file is written over, known by its etag"):
        told = gio.ok("info", "-a", "etag::value", gio.url("/note.txt"))
        etag = told.rpartition("etag::value: ")[2].strip()
        gio.ok("save", "-e", etag, gio.url("/note.txt"), stdin="third")
        _same(gio.ok("cat", gio.url("/note.txt")), "third")
    with report.step("a file that somebody else changed is not written over"):
        etag = eyes.get("note.txt").headers["etag"]
        _same(eyes.put("note.txt", b"theirs").ok, True)
        gio.refused(WRONG_ETAG, "save", "-e", etag, gio.url("/note.txt"))
        _same(eyes.get("note.txt").body, b"theirs")
    with report.step("odd names"):
        _same(eyes.put(ODD, b"odd").status, 201)
        _same(ODD in gio.ok("list", gio.url()).splitlines(), True)
        gio.ok("rename", gio.url("/note.txt"), "née [1] & co; 50%.txt")
        _same(eyes.get("née [1] & co; 50%.txt").body, b"theirs")
    with report.step("size, kind, time and etag (info)"):
        told = gio.ok("info", gio.url("/large.bin"))
        for part in (f"standard::size: {SIZE}", "type: regular", "etag::value: ", "time::modified: "):
            _has(told, part)


def _folders(report: Report, gio: Gio, eyes: DavClient) -> None:
    with report.step("mkdir, one inside the other; twice is refused"):
        gio.ok("mkdir", gio.url("/papers"))
        gio.ok("mkdir", gio.url("/papers/inner"))
        _same(eyes.members("papers"), ["inner/"])
        gio.refused(EXISTS, "mkdir", gio.url("/papers"))
    with report.step("copy on the server"):
        gio.ok("copy", gio.url("/large.bin"), gio.url("/papers/copy.bin"))
        _same(eyes.get("papers/copy.bin").headers["content-length"], str(SIZE))
    with report.step("move, and rename of a folder"):
        gio.ok("move", gio.url("/papers/copy.bin"), gio.url("/papers/moved.bin"))
        gio.ok("rename", gio.url("/papers"), "old papers")
        _same(eyes.members("old papers"), ["inner/", "moved.bin"])
    with report.step("list with sizes"):
        told = gio.ok("list", "-l", gio.url("/old%20papers"))
        _has(told, f"moved.bin\t{SIZE}\t(regular)")
    with report.step("a rename onto something is refused"):
        gio.ok("save", gio.url("/first.txt"), stdin="first")
        gio.refused(EXISTS, "rename", gio.url("/first.txt"), "large.bin")
        _same(eyes.get("large.bin").headers["content-length"], str(SIZE))
    with report.step("what does not exist is refused as such"):
        gio.refused(MISSING, "cat", gio.url("/never.txt"))
        gio.refused(MISSING, "remove", gio.url("/never.txt"))
    with report.step("remove of files and folders"):
        gio.ok("remove", gio.url("/old%20papers/moved.bin"), gio.url("/old%20papers/inner"))
        gio.ok("remove", gio.url("/old%20papers"), gio.url("/large.bin"))
        _same({"old papers/", "large.bin"} & set(eyes.members()), set())


def _same(got: object, wanted: object) -> None:
    if got != wanted:
        raise CompatError(f"expected {wanted!r}"[:200] + f", got {got!r}"[:200])


def _has(text: str, part: str) -> None:
    if part not in text:
        raise CompatError(f"no {part!r} in {text}")


def extend(parser: argparse.ArgumentParser) -> None:
    """This runner has no arguments of its own."""


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (an operation failed) or 3 (gvfs is missing)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
