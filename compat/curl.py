"""curl: uploads and downloads that are resumed, ranges, conditions, and the methods that scripts send with ``-X``.

Each command's status line and exit code are judged; what came of it is read back with a client of our own
(``python -m compat.curl URL``). Must not import: davfs.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from compat.client import DavClient
from compat.process import environment, find, kill_group, run, scratch
from compat.report import CompatError, Report, same
from compat.target import Target, command

SIZE = 5_000_003
"""Bytes of the large file: over a chunk of 4 MiB, so that parts begin and end inside of chunks."""
HALF = SIZE // 2
SEED = 40
LIMIT = "60"


@dataclass(frozen=True)
class Curl:
    """The program, with a folder of the server and a local one."""

    program: str
    folder: Target
    home: Path

    def words(self, *words: str) -> list[str]:
        """A whole command line; nothing of this user's configuration is read."""
        login = ["--user", f"{self.folder.user}:{self.folder.password}"] if self.folder.user else []
        return [self.program, "-q", "-sS", "--max-time", LIMIT, *login, *words]

    def url(self, name: str) -> str:
        """The address of a name that needs no quoting."""
        return self.folder.url + name

    def status(self, wanted: int, *words: str) -> str:
        """Run a command that must be answered with a status; returns what curl printed before it."""
        done = run(self.words("-w", "\n%{http_code}", *words), home=self.home, timeout=float(LIMIT) + 10)
        printed, _, status = done.require("curl " + " ".join(words[:2])).out.rpartition("\n")
        if status != str(wanted):
            raise CompatError(f"curl {' '.join(words)}: answered {status}, not {wanted}: {printed[-300:]}")
        return printed

    def fetched(self, *words: str, wanted: int = 200) -> bytes:
        """The bytes that a GET brings."""
        file = self.home / "fetched"
        file.unlink(missing_ok=True)
        self.status(wanted, "-o", str(file), *words)
        return file.read_bytes() if file.exists() else b""


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """All operations in a folder of its own."""
    program = find("curl", package="curl")
    report = Report(f"curl against {target.url}")
    with scratch("curl") as home, target.folder("curl") as folder:
        data = random.Random(SEED).randbytes(SIZE)
        (home / "large.bin").write_bytes(data)
        (home / "small.txt").write_bytes(b"a few words")
        with folder.client() as eyes:
            curl = Curl(program, folder, home)
            _files(report, curl, eyes, data)
            _resumed(report, curl, eyes, data)
            _conditions(report, curl, eyes)
            _methods(report, curl, eyes)
    return report


def _files(report: Report, curl: Curl, eyes: DavClient, data: bytes) -> None:
    large, small = str(curl.home / "large.bin"), str(curl.home / "small.txt")
    with report.step("upload (-T) under the file's own name"):
        curl.status(201, "-T", large, curl.folder.url)
        same(eyes.get("large.bin").body, data)
    with report.step("upload over it, another name"):
        curl.status(201, "-T", small, curl.url("note.txt"))
        curl.status(204, "-T", small, curl.url("note.txt"))
    with report.step("upload from a pipe, in chunks (-T -)"):
        with (curl.home / "large.bin").open("rb") as stream:
            words = curl.words("-w", "%{http_code}", "-T", "-", curl.url("piped.bin"))
            done = subprocess.run(words, stdin=stream, capture_output=True, timeout=70, check=False)
        same(done.stdout, b"201")
        same(eyes.get("piped.bin").body, data)
    with report.step("download"):
        same(curl.fetched(curl.url("large.bin")), data)
    with report.step("head (-I)"):
        head = curl.status(200, "-I", curl.url("large.bin")).lower()
        for field in (f"content-length: {SIZE}", "accept-ranges: bytes", "etag: ", "last-modified: "):
            if field not in head:
                raise CompatError(f"no {field!r} in {head}")
    with report.step("ranges (-r): first, middle over a chunk's end, last"):
        same(curl.fetched("-r", "0-99", curl.url("large.bin"), wanted=206), data[:100])
        middle = f"{(4 << 20) - 10}-{(4 << 20) + 9}"
        same(curl.fetched("-r", middle, curl.url("large.bin"), wanted=206), data[(4 << 20) - 10 : (4 << 20) + 10])
        same(curl.fetched("-r", "-7", curl.url("large.bin"), wanted=206), data[-7:])
    with report.step("two ranges at once"):
        parts = curl.fetched("-r", "0-1,1000-1003", curl.url("large.bin"), wanted=206)
        if data[:2] not in parts or data[1000:1004] not in parts or b"Content-Range: bytes 0-1/" not in parts:
            raise CompatError(f"not the two parts: {parts[:300]!r}")


def _resumed(report: Report, curl: Curl, eyes: DavClient, data: bytes) -> None:
    large = str(curl.home / "large.bin")
    with report.step("a download goes on where it stopped (-C -)"):
        part = curl.home / "part.bin"
        part.write_bytes(data[:HALF])
        curl.status(206, "-C", "-", "-o", str(part), curl.url("large.bin"))
        same(part.read_bytes(), data)
    with report.step("an upload goes on where it stopped (-C OFFSET -T)"):
        same(eyes.put("resumed.bin", data[:HALF]).status, 201)
        curl.status(204, "-C", str(HALF), "-T", large, curl.url("resumed.bin"))
        same(eyes.get("resumed.bin").body, data)
    with report.step("an upload that is killed shows nothing"):
        child = subprocess.Popen(
            curl.words("--limit-rate", "1M", "-T", large, curl.url("broken.bin")),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(curl.home),
            start_new_session=True,
        )
        time.sleep(0.5)
        running = child.poll() is None
        kill_group(child.pid)
        child.wait(10)
        if not running:
            raise CompatError("the upload was over before it could be broken off")
        same(eyes.get("broken.bin").status, 404)


def _conditions(report: Report, curl: Curl, eyes: DavClient) -> None:
    large, etag = str(curl.home / "large.bin"), curl.home / "etag"
    with report.step("what is known is not sent again (--etag-compare, -z)"):
        curl.status(200, "-o", "/dev/null", "--etag-save", str(etag), curl.url("note.txt"))
        curl.status(304, "-o", "/dev/null", "--etag-compare", str(etag), curl.url("note.txt"))
        date = eyes.get("note.txt").headers["last-modified"]
        curl.status(304, "-o", "/dev/null", "-z", date, curl.url("note.txt"))
    with report.step("a condition refuses before the body is sent (Expect: 100-continue)"):
        words = ("-H", "If-None-Match: *", "-H", "Expect: 100-continue", "-T", large, curl.url("note.txt"))
        told = curl.status(412, "-o", "/dev/null", "--write-out", "%{size_upload}\n%{http_code}", *words)
        same(told.strip(), "0")
        same(eyes.get("note.txt").body, b"a few words")
    with report.step("a wrong checksum is refused"):
        wrong = ("-H", "OC-Checksum: MD5:00000000000000000000000000000000", "-T", str(curl.home / "small.txt"))
        curl.status(400, "-o", "/dev/null", *wrong, curl.url("wrong.txt"))
        same(eyes.get("wrong.txt").status, 404)


def _methods(report: Report, curl: Curl, eyes: DavClient) -> None:
    with report.step("MKCOL, COPY, MOVE"):
        curl.status(201, "-X", "MKCOL", curl.url("d/"))
        curl.status(201, "-X", "COPY", "-H", f"Destination: {curl.url('d/copy.txt')}", curl.url("note.txt"))
        curl.status(201, "-X", "MOVE", "-H", f"Destination: {curl.url('d/moved.txt')}", curl.url("d/copy.txt"))
        same(eyes.members("d"), ["moved.txt"])
    with report.step("MOVE onto something, Overwrite F, is refused"):
        words = ("-H", "Overwrite: F", "-H", f"Destination: {curl.url('note.txt')}")
        curl.status(412, "-o", "/dev/null", "-X", "MOVE", *words, curl.url("d/moved.txt"))
    with report.step("PROPFIND without a body"):
        answer = curl.status(207, "-X", "PROPFIND", "-H", "Depth: 1", curl.url("d/"))
        same(len(re.findall(r"<D:href>", answer)), 2)
    with report.step("LOCK, a PUT without the token, UNLOCK"):
        body = '<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>'
        answer = curl.status(200, "-i", "-X", "LOCK", "-d", body, curl.url("note.txt"))
        token = re.search(r"(?im)^lock-token: *(\S+)", answer)
        if token is None:
            raise CompatError(f"no Lock-Token in {answer[:400]}")
        small = str(curl.home / "small.txt")
        curl.status(423, "-o", "/dev/null", "-T", small, curl.url("note.txt"))
        curl.status(204, "-T", small, "-H", f"If: ({token[1]})", curl.url("note.txt"))
        curl.status(204, "-X", "UNLOCK", "-H", f"Lock-Token: {token[1]}", curl.url("note.txt"))
    with report.step("DELETE"):
        curl.status(204, "-X", "DELETE", curl.url("d/"))
        curl.status(404, "-o", "/dev/null", "-X", "DELETE", curl.url("d/"))


def extend(parser: argparse.ArgumentParser) -> None:
    """This runner has no arguments of its own."""


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (an operation failed) or 3 (curl is missing)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
