"""A large file put and read back, and the resident peak of the server's processes meanwhile.

``python -m compat.memory URL --through URL2 --size 2147483648 --pid-file DIR/node-1/pid ...``: puts a generated file
through URL, reads it back through URL2, compares digests, and reads every process's VmHWM (its resident peak since it
started, Linux) before and after. Must not import: davfs.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from compat.client import DavClient
from compat.report import CompatError, Report
from compat.target import Target, command

BLOCK = 1 << 20
MEBIBYTE = 1 << 20
DEFAULT_LIMIT = 300
TIMEOUT = 300.0


def resident_peak(pid: int) -> int:
    """The process's resident peak in bytes (VmHWM); OSError when it does not run."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"process {pid} has no VmHWM")


def blocks(size: int, seed: int = 40) -> Iterator[bytes]:
    """`size` bytes in blocks, no two of them equal (each starts with its number), cheap to make."""
    base = random.Random(seed).randbytes(BLOCK)
    for start in range(0, size, BLOCK):
        yield (start.to_bytes(8, "big") + base[8:])[: size - start]


def put(client: DavClient, name: str, size: int) -> tuple[str, float]:
    """PUT the generated file; returns (SHA-256, seconds)."""
    digest = hashlib.sha256()

    def body() -> Iterator[bytes]:
        for block in blocks(size):
            digest.update(block)
            yield block

    began = time.monotonic()
    answer = client.request("PUT", name, body(), {"Content-Length": str(size)})
    if answer.status not in (201, 204):
        raise CompatError(f"PUT was answered {answer.status}: {answer.body[:200]!r}")
    return digest.hexdigest(), time.monotonic() - began


def get(client: DavClient, name: str) -> tuple[str, int, float]:
    """GET the file, keeping nothing; returns (SHA-256, bytes, seconds)."""
    digest, count, began = hashlib.sha256(), 0, time.monotonic()
    response = client.open("GET", name)
    if response.status != 200:
        raise CompatError(f"GET was answered {response.status}")
    while block := response.read(BLOCK):
        digest.update(block)
        count += len(block)
    return digest.hexdigest(), count, time.monotonic() - began


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """Put, read through every URL, compare, then a row per process."""
    size = arguments.size
    report = Report(f"{size / MEBIBYTE:.0f} MiB through {target.url}")
    pids = {path: int(Path(path).read_text()) for path in arguments.pid_file}
    before = {path: resident_peak(pid) for path, pid in pids.items()}
    with target.folder("memory") as folder:
        name = folder.url.removeprefix(target.url) + "large file.bin"
        wanted = ""
        with report.step("put"), target.client(TIMEOUT) as client:
            wanted, seconds = _network(lambda: put(client, name, size))
            print(f"put: {size / MEBIBYTE / seconds:.0f} MiB/s", flush=True)
        for url in [target.url, *arguments.through]:
            with report.step(f"get through {url}"), Target(url, target.user, target.password).client(TIMEOUT) as client:
                digest, count, seconds = _network(lambda reader=client: get(reader, name))
                print(f"get: {count / MEBIBYTE / seconds:.0f} MiB/s", flush=True)
                if (digest, count) != (wanted, size):
                    raise CompatError(f"{count} bytes with another digest came back")
    for path, pid in pids.items():
        with report.step(f"resident peak of {path}"):
            peak = resident_peak(pid)
            print(f"{path}: {before[path] / MEBIBYTE:.0f} MiB before, peak {peak / MEBIBYTE:.0f} MiB", flush=True)
            if peak > arguments.limit * MEBIBYTE:
                raise CompatError(f"{peak / MEBIBYTE:.0f} MiB, more than {arguments.limit}")
    return report


def _network(action):
    try:
        return action()
    except HTTPException as error:
        raise CompatError(f"the connection broke: {error!r}") from error


def extend(parser: argparse.ArgumentParser) -> None:
    """The arguments of this runner alone."""
    parser.add_argument("--size", type=int, default=2 << 30, help="bytes (default 2 GiB)")
    parser.add_argument("--through", action="append", default=[], metavar="URL", help="read through this URL too")
    parser.add_argument("--pid-file", action="append", default=[], help="file with the pid of a server process")
    parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT, help="MiB that no process may exceed")


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0 or 1."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
