"""The measured requests: what is asked of each server, timed and checked.

Every answer's status is checked, the content of each size is read back and compared once, and the
number of members of a listing every time: a fast wrong answer is an error, not a result.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from compat.bench.http1 import Connection, Reply, TransportError
from compat.bench.report import Operation

MEMBERS = 1000
SMALL_TURN = 20
_STAMP_EVERY = 64 * 1024
_RESPONSE_END = re.compile(rb"</(?:[A-Za-z0-9_.-]+:)?response>")
_PROPERTIES = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><displayname/>'
    b"<resourcetype/><getcontentlength/><getlastmodified/><getetag/></prop></propfind>"
)


class WrongAnswer(Exception):
    """A server answered something else than the request asks for."""


def size_title(size: int) -> str:
    """1024 → '1 KiB'; sizes that are no whole number of a unit stay in smaller ones."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def parse_size(text: str) -> int:
    """'1k', '256m', '1g' or plain bytes → bytes. ValueError when it is none of these."""
    match = re.fullmatch(r"(\d+)([kmg]?)", text.strip().lower())
    if not match:
        raise ValueError(f"{text!r} is not a size like 1k, 256m or 4096")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]]


def per_turn(size: int) -> int:
    """How many requests of this size one server gets before it is the next one's turn."""
    return SMALL_TURN if size <= 64 << 10 else 5 if size <= 8 << 20 else 1


def operations(sizes: Collection[int]) -> list[Operation]:
    """The rows, in the order in which a round runs them (DELETE uses up MOVE's files).

    A file is read twice because the page cache of a FUSE mount makes two different things of it.
    Apache writes in pieces that are no whole pages, which leaves half-known pages in the cache: the
    first reader after a PUT fetches 4 KiB at a time, the second reads local memory. Likewise
    PROPFIND: the mount keeps a file's attributes for a second.
    """
    rows: list[Operation] = []
    for size in sizes:
        title = size_title(size)
        rows.append(Operation(f"put-{size}", f"PUT {title}", size))
        rows.append(Operation(f"get-{size}", f"GET {title}, first time", size))
        rows.append(Operation(f"again-{size}", f"GET {title}, again", size))
    rows.append(Operation("propfind-0", "PROPFIND depth 0, first time"))
    rows.append(Operation("propfind-0-again", "PROPFIND depth 0, again"))
    rows.append(Operation("propfind-1", f"PROPFIND depth 1, {MEMBERS:,} members"))
    rows.append(Operation("move", "MOVE (a small file)"))
    rows.append(Operation("delete", "DELETE (a small file)"))
    return rows


class Payload:
    """Random content that is never sent twice: no server profits from storing equal data once."""

    def __init__(self, largest: int) -> None:
        self._data = bytearray(os.urandom(largest + 16))  # room for the last stamp
        self._serial = 0
        self._salt = os.urandom(8)

    def fresh(self, size: int) -> memoryview:
        """`size` bytes that differ from all before in every 64 KiB; valid until the next call."""
        self._serial += 1
        stamp = self._salt + self._serial.to_bytes(8, "big")
        for at in range(0, size, _STAMP_EVERY):
            self._data[at : at + 16] = stamp
        return memoryview(self._data)[:size]


class Target:
    """One server under measurement: a connection and the folder that the run uses there."""

    def __init__(self, key: str, url: str, payload: Payload) -> None:
        self.key = key
        self.http = Connection(url)
        base = urlsplit(url).path.rstrip("/")
        self.root = f"{base}/bench-{os.urandom(4).hex()}"
        self._payload = payload
        self._asked = ""

    def prepare(self, sizes: Collection[int]) -> None:
        """Makes the folders and the 1,000 members, and checks that content comes back whole."""
        self._expect(self._ask("MKCOL", self.root + "/"), 201)
        self._expect(self._ask("MKCOL", f"{self.root}/many/"), 201)
        for number in range(MEMBERS):
            self._put(f"{self.root}/many/{_member(number)}", 1024)
        for size in sizes:
            path = f"{self.root}/check-{size}"
            sent = self._put(path, size)
            digest = hashlib.sha256()
            self._expect(self._ask("GET", path, sink=digest.update), 200)
            if digest.digest() != sent:
                raise WrongAnswer(f"GET {path}: other bytes than were PUT")
            self._expect(self._ask("DELETE", path), 204, 200)

    def wake(self) -> None:
        """One request that is not measured: reopens a connection that timed out while idle."""
        try:
            self._propfind(f"{self.root}/many/", "0", 1)
        except TransportError:
            self._propfind(f"{self.root}/many/", "0", 1)

    def finish(self) -> None:
        """Removes what the run made there (best effort) and closes."""
        with contextlib.suppress(TransportError):
            self._ask("DELETE", self.root + "/")
        self.http.close()

    def turn(self, operation: Operation, number: int) -> list[float]:
        """Runs one turn of an operation in round `number`; seconds of each request."""
        kind = operation.key.partition("-")[0]
        if kind in ("put", "get", "again"):
            return self._transfer(kind, operation.size, number)
        if kind == "propfind":
            return self._listing(operation.key, number)
        return self._change(kind, number)

    def after_round(self, sizes: Collection[int], number: int) -> None:
        """Removes the round's large files so that a run needs little disk."""
        for size in sizes:
            for index in range(per_turn(size)):
                self._expect(self._ask("DELETE", self._name(size, number, index)), 204, 200)

    def _name(self, size: int, number: int, index: int) -> str:
        return f"{self.root}/r{number}-{size}-{index}"

    def _transfer(self, kind: str, size: int, number: int) -> list[float]:
        times = []
        for index in range(per_turn(size)):
            path = self._name(size, number, index)
            if kind == "put":
                body = self._payload.fresh(size)
                seconds, reply = self._timed("PUT", path, body=body)
                self._expect(reply, 201, 204)
            else:
                seconds, reply = self._timed("GET", path, sink=_ignore)
                self._expect(reply, 200)
                if reply.size != size:
                    raise WrongAnswer(f"GET {path}: {reply.size} bytes instead of {size}")
            times.append(seconds)
        return times

    def _listing(self, key: str, number: int) -> list[float]:
        if key == "propfind-1":
            return [self._propfind(f"{self.root}/many/", "1", MEMBERS + 1) for _ in range(3)]
        members = ((number * SMALL_TURN + index) * 7 % MEMBERS for index in range(SMALL_TURN))
        return [self._propfind(f"{self.root}/many/{_member(at)}", "0", 1) for at in members]

    def _propfind(self, path: str, depth: str, members: int) -> float:
        headers = [("Depth", depth), ("Content-Type", "application/xml")]
        seconds, reply = self._timed("PROPFIND", path, headers, _PROPERTIES)
        self._expect(reply, 207)
        found = len(_RESPONSE_END.findall(reply.body))
        if found != members:
            raise WrongAnswer(f"PROPFIND {path}: {found} responses instead of {members}")
        return seconds

    def _change(self, kind: str, number: int) -> list[float]:
        times = []
        for index in range(SMALL_TURN):
            old = f"{self.root}/c{number}-{index}"
            new = f"{self.root}/d{number}-{index}"
            if kind == "move":
                self._put(old, 1024)
                to = [("Destination", f"http://{self.http.host}{new}"), ("Overwrite", "F")]
                seconds, reply = self._timed("MOVE", old, to)
                self._expect(reply, 201)
            else:
                seconds, reply = self._timed("DELETE", new)
                self._expect(reply, 204, 200)
            times.append(seconds)
        return times

    def _put(self, path: str, size: int) -> bytes:
        body = self._payload.fresh(size)
        self._expect(self._ask("PUT", path, body=body), 201, 204)
        return hashlib.sha256(body).digest()

    def _timed(
        self,
        method: str,
        path: str,
        headers: Collection[tuple[str, str]] = (),
        body: bytes | memoryview = b"",
        sink: Callable[[memoryview], None] | None = None,
    ) -> tuple[float, Reply]:
        started = time.perf_counter()
        reply = self._ask(method, path, headers, body, sink)
        return time.perf_counter() - started, reply

    def _ask(
        self,
        method: str,
        path: str,
        headers: Collection[tuple[str, str]] = (),
        body: bytes | memoryview = b"",
        sink: Callable[[memoryview], None] | None = None,
    ) -> Reply:
        self._asked = f"{method} {path}"
        return self.http.request(method, path, headers, body, sink)

    def _expect(self, reply: Reply, *wanted: int) -> None:
        if reply.status not in wanted:
            detail = reply.body[:200].decode("utf-8", "replace")
            raise WrongAnswer(f"{self._asked}: status {reply.status}, wanted {wanted}: {detail}")


def _member(number: int) -> str:
    return f"member-{number:04}.txt"


def _ignore(piece: memoryview) -> None:
    """Takes a body's pieces and keeps nothing."""
