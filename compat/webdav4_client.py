"""Python's webdav4, as programs use it: files sent, read in pieces, listed, copied, moved and removed.

webdav4 asks OPTIONS whether ranges may be asked for, and reads with them (``python -m compat.webdav4_client URL``). Must
not import: davfs.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compat.client import DavClient
from compat.process import scratch
from compat.report import CompatError, Report, ToolMissing, same
from compat.target import Target, command

try:
    from httpx import HTTPError
    from webdav4.client import Client, ClientError
except ImportError:  # pragma: no cover - said by check()
    Client = None

SIZE = 5_000_003
SEED = 42
PIECE = 300_000
ODD = "Übersicht a+b [1] & co; 日本.txt"
"""Not ``#``, ``?`` or ``%``: webdav4 gives them to its URL library unquoted, and nothing is sent."""


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """All operations in a folder of its own."""
    if Client is None:
        raise ToolMissing("the Python package webdav4 is not installed beside this interpreter")
    report = Report(f"webdav4 against {target.url}")
    with scratch("webdav4") as home, target.folder("webdav4") as folder, folder.client() as eyes:
        login = (folder.user, folder.password) if folder.user else None
        client = Client(folder.url, auth=login, retry=False, timeout=60, trust_env=False)
        try:
            _files(report, client, eyes, home)
            _folders(report, client, eyes)
        finally:
            client.http.close()
    return report


@contextmanager
def _step(report: Report, name: str) -> Iterator[None]:
    """An operation; what webdav4 says is wrong is a failed row."""
    with report.step(name):
        try:
            yield
        except (ClientError, HTTPError) as error:
            raise CompatError(f"{type(error).__name__}: {error}") from error


def _files(report: Report, client: Client, eyes: DavClient, home: Path) -> None:
    data = random.Random(SEED).randbytes(SIZE)
    (home / "large.bin").write_bytes(data)
    with _step(report, "upload_file, 5 MB"):
        client.upload_file(str(home / "large.bin"), "large.bin")
        same(eyes.get("large.bin").body, data)
    with _step(report, "upload_fileobj in pieces, without a length"):
        client.upload_fileobj(io.BytesIO(data), "piped.bin", chunk_size=PIECE)
        same(eyes.get("piped.bin").body, data)
    with _step(report, "what is there is not written over unless it is wanted"):
        _refused("already exists", lambda: client.upload_fileobj(io.BytesIO(b"x"), "large.bin"))
        client.upload_fileobj(io.BytesIO(b"text\nof two lines"), "note.txt")
        client.upload_fileobj(io.BytesIO(b"text\nof\nthree lines"), "note.txt", overwrite=True)
        same(eyes.get("note.txt").body, b"text\nof\nthree lines")
    with _step(report, "download_file"):
        client.download_file("large.bin", str(home / "back.bin"))
        same((home / "back.bin").read_bytes(), data)
    with _step(report, "open: lines of a text"):
        with client.open("note.txt") as stream:
            same([str(line) for line in stream], ["text\n", "of\n", "three lines"])
    with _step(report, "open: positions in a large file (ranges)"):
        with client.open("large.bin", mode="rb", chunk_size=PIECE) as stream:
            for place in (SIZE - 10, 4_194_300, 0):
                stream.seek(place)
                same(stream.read(10), data[place : place + 10])
    with _step(report, "size, type, etag, times (info)"):
        info = client.info("large.bin")
        same((info["content_length"], info["type"], client.content_length("large.bin")), (SIZE, "file", SIZE))
        same(client.etag("large.bin"), eyes.get("large.bin").headers["etag"])
        same(client.modified("large.bin") is not None and client.created("large.bin") is not None, True)


def _folders(report: Report, client: Client, eyes: DavClient) -> None:
    with _step(report, "mkdir; a second time and without its parent it is refused"):
        client.mkdir("papers")
        _refused("already exists", lambda: client.mkdir("papers"))
        _refused("parent of the collection does not exist", lambda: client.mkdir("a/b/c"))
    with _step(report, "odd names"):
        client.upload_fileobj(io.BytesIO(b"odd"), f"papers/{ODD}")
        same(eyes.get(f"papers/{ODD}").body, b"odd")
        same(client.ls("papers", detail=False), [f"papers/{ODD}"])
    with _step(report, "copy and move, of a file and of a folder"):
        client.copy("large.bin", "papers/copy.bin")
        client.move("papers/copy.bin", "papers/moved.bin")
        client.copy("papers", "papers 2")
        client.move("papers", "papers 3")
        same(sorted(eyes.members("papers 2")), sorted(eyes.members("papers 3")))
        same("papers/" in eyes.members(), False)
    with _step(report, "copy and move onto something are refused"):
        _refused("exists", lambda: client.copy("large.bin", "note.txt"))
        _refused("exists", lambda: client.move("large.bin", "note.txt"))
        client.move("piped.bin", "note.txt", overwrite=True)
        same(eyes.get("note.txt").headers["content-length"], str(SIZE))
    with _step(report, "ls, exists, isdir, isfile"):
        listed = {str(item["name"]): item["type"] for item in client.ls("/")}
        same(listed, {"large.bin": "file", "note.txt": "file", "papers 2": "directory", "papers 3": "directory"})
        same((client.exists("large.bin"), client.exists("never")), (True, False))
        same((client.isdir("papers 2"), client.isfile("papers 2"), client.isfile("note.txt")), (True, False, True))
    with _step(report, "remove, and what is not there"):
        client.remove("papers 2")
        client.remove("large.bin")
        same(eyes.members(), ["note.txt", "papers 3/"])
        _refused("could not be found", lambda: client.remove("large.bin"))


def _refused(why: str, work: Callable[[], object]) -> None:
    """The work must fail with an error of webdav4's own whose text has one of the words."""
    try:
        work()
    except ClientError as error:
        if any(word.lower() in str(error).lower() for word in why.split("|")):
            return
        raise CompatError(f"refused as {error}, not {why}") from error
    raise CompatError(f"not refused ({why})")


def extend(parser: argparse.ArgumentParser) -> None:
    """This runner has no arguments of its own."""


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (an operation failed) or 3 (webdav4 is missing)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
