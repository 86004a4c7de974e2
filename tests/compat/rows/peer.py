"""What a row is, and what rows ask a server with. A row states one thing that must hold.

`setup` is what leads there and must work on both servers: it raises RuntimeError, so that only the row's own assertion
counts as a failure of WsgiDAV.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.dav_client import Answer, DavClient, RawConnection

MIB = 1 << 20
LOCK_BODY = "<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>"


@dataclass
class Peer:
    """A server that runs: its process and its three ports."""

    kind: str
    pid: int
    port: int
    login: int
    tls: int

    def raw(self) -> RawConnection:
        return RawConnection(self.port, timeout=15)

    def grown(self, work: Callable[[], object]) -> int:
        """Bytes by which the process's peak of memory rises while something is done."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        before = self._peak()
        work()
        return self._peak() - before

    def _peak(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024


Row = Callable[[Peer, DavClient], None]
ROWS: list[Row] = []


def row(check: Row) -> Row:
    ROWS.append(check)
    return check


def setup(answer: Answer, *statuses: int) -> Answer:
    if answer.status not in statuses:
        raise RuntimeError(f"the way to the row: {answer.status}, not {statuses}: {answer.body[:300]!r}")
    return answer


def of(peer: Peer, check: Row) -> DavClient:
    """A client with a folder of the row's own as its base."""
    client = DavClient(peer.port)
    setup(client("MKCOL", f"/{check.__name__}"), 201)
    client.base += f"/{check.__name__}"
    return client


@contextlib.contextmanager
def sent(peer: Peer, *lines: str, body: bytes = b"") -> Iterator[RawConnection]:
    """A connection on which a head and some bytes were sent."""
    connection = peer.raw()
    try:
        connection.send(*lines, "Host: x", body=body)
        yield connection
    finally:
        connection.close()


def locked(dav: DavClient, path: str, **headers: str) -> str:
    answer = setup(dav("LOCK", path, LOCK_BODY, Depth=headers.pop("Depth", "0"), **headers), 200, 201)
    return answer.headers["lock-token"].strip("<>")


def find(dav: DavClient, path: str, prop: str, depth: str = "0") -> Answer:
    body = f"<propfind xmlns='DAV:'><prop>{prop}</prop></propfind>"
    return setup(dav("PROPFIND", path, body, Depth=depth), 207)


def basic(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{name}".encode()).decode()
