"""Whole requests on a connection of the DAV listener, with the whole DAV side behind it and a drive in memory."""

from __future__ import annotations

import logging
import re
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from random import Random
from typing import Any

from davfs.cluster.api import Caller
from davfs.core import accounts
from davfs.core.accounts import NONE, WRITE, Accounts
from davfs.core.chunking import digest_of
from davfs.core.errors import DavfsError
from davfs.dav.application import DavApplication
from davfs.dav.authenticator import Authenticator
from davfs.dav.connection import DavConnection, DavRequest
from davfs.dav.head import parse_plain
from davfs.dav.request import DavSettings
from davfs.dav.server import _HttpServer
from tests.fuzz import bodies, headers
from tests.fuzz.runner import Failed, Parser
from tests.support.memory_drive import MemoryDrive, MemoryVolume

METHODS = (
    "GET", "HEAD", "PUT", "PATCH", "DELETE", "MKCOL", "COPY", "MOVE", "PROPFIND", "PROPPATCH", "REPORT", "LOCK", "UNLOCK",
    "OPTIONS",
    "POST", "TRACE", "CONNECT", "get", "SEARCH", "X" * 50, "PROPFIND\t", "",
)  # fmt: skip
TARGETS = (
    "/demo/", "/demo/a.txt", "/demo/b", "/demo/d/", "/demo/d/c.txt", "/demo/new%20name", "/demo/d/e/f", "/", "*",
    "/Other/secret.txt", "/demo",
    "/demo/../Other/secret.txt", "/demo/%2e%2e/Other/secret.txt", "http://drive.example/demo/a.txt",
    "/demo/.davfs-trash/", "//demo/a.txt",
    "/remote.php/dav/files/demo/a.txt", "/remote.php/dav/uploads/demo/u1", "/remote.php/dav/uploads/demo/u1/1",
    "/demo/%c3%a9",
    "/remote.php/dav/uploads/demo/u1/.file", "/:davfs_share_root/", "/demo/a.txt?b=c", "/demo/a.txt#d", "//[",
    "http://[::1/demo", "/demo/%00",
)  # fmt: skip
FIELDS: dict[str, tuple[str, ...]] = {
    "Destination": ("/demo/b", "/demo/d/new", "http://drive.example/demo/x", "/Other/secret.txt", "/demo/d/", "//[",
    "/demo/../Other/x"),
    "Depth": ("0", "1", "infinity", "2"), "Overwrite": ("T", "F", "x"), "Timeout": ("Second-60", "Infinite"),
    "Lock-Token": ("<opaquelocktoken:1>", "<>", "x"), "Expect": ("100-continue", "200-ok"), "Content-Range": (
    "bytes 0-2/*", "bytes 0-2/3"),
    "X-Update-Range": ("append", "bytes=0-2", "bytes=-1"), "X-OC-Mtime": ("1700000000", "x"), "OC-Total-Length": ("5", "x"),
    "Content-Type": ("application/x-sabredav-partialupdate", "text/xml"), "Connection": ("close", "keep-alive"),
    "X-Davfs-User": ("root",),
    "X-Recalculate-Hash": ("md5", "x"), "If-None-Match": ("*", '"x"'), "User-Agent": ("x/1 (y)",), "X-Forwarded-For": (
    "192.0.2.1",),
    "Accept-Encoding": ("gzip",), "Content-Encoding": ("gzip",), "X-Davfs-Configured": ("1",), "Upgrade": ("h2c",),
}  # fmt: skip
FROM_PARSERS = {
    "If": "if-header", "Range": "range", "If-Match": "conditions", "If-Range": "conditions", "Digest": "checksums",
    "OC-Checksum": "checksums",
    "Repr-Digest": "checksums", "Want-Digest": "checksums", "If-Modified-Since": "dates", "Authorization": "authorization",
    "Forwarded": "forwarded", "Timeout": "timeout", "Destination": "destination",
}  # fmt: skip
SECRET = b"this stands in a volume that anna may not read"
TOKENS = (b"\r\n\r\n", b"\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n", b" HTTP/1.1",
    b": ", b"\r\n ", b"_")
APP_PASSWORD = accounts.app_password("a1", "secret")

_GOOD = {parser.name: parser.good for parser in headers.PARSERS}
_WRONG = re.compile(rb"HTTP/1\.[01] (500|502|504)|made a mistake")


def make_request(random: Random) -> bytes:
    """One request, or a few behind each other; fields of any method, bodies of any kind, framed rightly or not."""
    return b"".join(_one(random) for _ in range(1 + (random.random() < 0.1) * random.randint(1, 4)))


def _one(random: Random) -> bytes:
    lines = [f"{random.choice(METHODS)} {random.choice(TARGETS)} HTTP/1.{random.choice('1111110')}", "Host: drive.example"]
    if random.random() < 0.9:
        lines.append(f"Authorization: Bearer {APP_PASSWORD}")
    head = [line.encode("latin-1") for line in lines]
    for _ in range(int(random.expovariate(0.6))):
        if random.random() < 0.5:
            name = random.choice(list(FIELDS))
            value = random.choice(FIELDS[name]).encode()
        else:
            name = random.choice(list(FROM_PARSERS))
            good: Any = _GOOD[FROM_PARSERS[name]]
            value = random.choice(good)
        head.append(name.encode() + b": " + value)
    body = bodies.make_xml(random) if random.random() < 0.5 else random.randbytes(random.choice((0, 0, 3, 50)))
    draw = random.random()
    if draw < 0.75:
        head.append(b"Content-Length: %d" % (len(body) + (random.choice((-1, 1, 1000)) if draw < 0.03 else 0)))
    elif draw < 0.95:
        head.append(b"Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    return b"\r\n".join(head) + b"\r\n\r\n" + body


class _Server(_HttpServer):
    """The listener without its threads and its socket."""

    can_add_keepalive_connection = True
    crowded = False

    def __init__(self, application: Any) -> None:
        super().__init__(("127.0.0.1", 0), application, None, 1, 4, None)
        self.ready = True


class _Errors(logging.Handler):
    """Keeps where the last error was raised: what is answered does not say."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info or sys.exc_info()
        frames = traceback.extract_tb(error[2]) if error[2] else []
        own = [f for f in frames if "/davfs/" in f.filename and "site-packages" not in f.filename] or frames
        self.last = f"{error[0].__name__ if error[0] else ''}: {str(error[1])[:100]} in " + (
            f"{own[-1].name}:{own[-1].lineno}" if own else "?")


class Door:
    """A drive in memory with two volumes; the account of the requests may write one and not see the other."""

    def __init__(self, stack: ExitStack) -> None:
        self.errors = _Errors()
        logger = logging.getLogger("davfs")
        logger.addHandler(self.errors)
        stack.callback(logger.removeHandler, self.errors)
        self._left = 0
        self._server: _Server | None = None

    def _fresh(self) -> _Server:
        drive = MemoryDrive("demo", "Other")
        ids = {volume.name: volume.id for volume in drive.volumes()}
        table: Accounts = accounts.add({}, "anna", "", NONE, {ids["demo"]: WRITE})
        table = accounts.add_app_password(table, "anna", "a1", digest_of(APP_PASSWORD.encode()), "", 0)
        door = Authenticator(None, lambda: table, anonymous=False)
        server = _Server(DavApplication(drive, DavSettings(), None, door, lambda: table))
        for name, data in (("a.txt", b"0123456789" * 100), ("d", None), ("d/c.txt", b"x")):
            assert b" 201 " in self.send(server, _setting("/demo/" + name, data))
        blocks = iter([SECRET, b""])
        volume = drive.route("Other", forwarded=False)
        assert isinstance(volume, MemoryVolume)
        volume.put(("secret.txt",), lambda size: next(blocks), None, mtime_ns=None, condition=lambda entry: None,
            caller=Caller())
        return server

    def send(self, server: _Server, data: bytes) -> bytes:
        """What a connection answers to these bytes, with the end of them behind."""
        ours, other = socket.socketpair()
        theirs = _PairEnd(fileno=other.detach())
        try:
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)
            theirs.settimeout(5)
            connection = DavConnection(server, theirs)
            connection.remote_addr, connection.remote_port = "10.0.0.1", 1
            connection.communicate()
            ours.setblocking(False)
            parts = []
            try:
                while part := ours.recv(1 << 20):
                    parts.append(part)
            except BlockingIOError:
                pass
            return b"".join(parts)
        finally:
            ours.close()
            theirs.close()

    def attempt(self, data: bytes) -> None:
        """One connection's worth of bytes."""
        if self._server is None or self._left == 0:
            self._server, self._left = self._fresh(), 200
        self._left -= 1
        self.errors.last = ""
        answer = self.send(self._server, data)
        if (wrong := _WRONG.search(answer)) and wrong[0] != b"HTTP/1.1 502":
            raise Failed(f"{wrong[0].decode()}: {self.errors.last}")
        if SECRET in answer:
            raise Failed("another volume's file was read")
        if answer.startswith(b"HTTP/1.1 4") or not answer:
            raise DavfsError


class _PairEnd(socket.socket):
    """One end of a pair, which knows nothing of TCP."""

    def setsockopt(self, level: int, *rest: Any) -> None:
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *rest)


def _setting(target: str, data: bytes | None) -> bytes:
    method = "MKCOL" if data is None else "PUT"
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {APP_PASSWORD}\r\n"
    head += f"Content-Length: {len(data or b'')}\r\n\r\n"
    return head.encode() + (data or b"")


UPLOAD = "/remote.php/dav/uploads/demo/u1"
TUS = {
    "Tus-Resumable": ("1.0.0",) * 9 + ("2.0", ""), "Upload-Length": ("5", "0", "00005", "-1", "9" * 19, "9" * 30, "x", "\xb2"),
    "Upload-Offset": ("0", "3", "5", "-1", "9" * 19, "x"), "Upload-Defer-Length": ("1",),
    "Upload-Metadata": (
        "filename bmV3LnR4dA==", "filename bmV3LnR4dA==,mtime MTcwMDAwMDAwMA==", "filename bmV3LnR4dA==,mtime bmFu",
        "name YS50eHQ=", "filename", "filename Li4=", "filename LmRhdmZz", "filename YS9i", "filename /w==", ",,,",
        "filename AA==",
    ),
    "Content-Type": ("application/offset+octet-stream",) * 4 + ("text/plain",),
}  # fmt: skip
TOLD = (
    b'{"format": 1, "length": 5, "path": ["t.txt"], "mtime_ns": null}',
    b'{"format": 1, "length": 5, "path": [], "mtime_ns": "x"}',
    b"[]", b"", b"{}", b"[" * 3000, b'{"format": 1, "length": "5", "path": [5], "mtime_ns": null}',
)  # fmt: skip
STEPS = (
    ("MKCOL", UPLOAD), ("POST", "/demo/"), ("POST", "/demo/d/"), ("POST", "/demo/a.txt"), ("PATCH", UPLOAD), ("HEAD", UPLOAD),
    ("PUT", f"{UPLOAD}/.tus"), ("PUT", f"{UPLOAD}/00000000000000000000"), ("PUT", f"{UPLOAD}/1"), ("DELETE", UPLOAD),
    ("MOVE", f"{UPLOAD}/.file"), ("PROPFIND", UPLOAD), ("GET", f"{UPLOAD}/.tus"),
)  # fmt: skip


def make_tus(random: Random) -> bytes:
    """Requests of resumable uploads, one behind the other, that know each other's addresses."""
    parts = [_setting(UPLOAD, None)] if random.random() < 0.7 else []
    for _ in range(random.randint(1, 5)):
        method, target = random.choice(STEPS)
        body = random.choice(TOLD) if target.endswith(".tus") else b"01234"[: random.choice((0, 3, 5))]
        lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Authorization: Bearer {APP_PASSWORD}"]
        lines += [f"{name}: {random.choice(values)}" for name, values in TUS.items() if random.random() < 0.8]
        lines += ["Destination: /demo/moved", f"Content-Length: {len(body)}", "", ""]
        parts.append("\r\n".join(lines).encode("latin-1") + body)
    return b"".join(parts)


def _begin(stack: ExitStack) -> Callable[[bytes], object]:
    return Door(stack).attempt


class _LineByLine(DavRequest):
    """A request whose head is read as cheroot reads it, up to what the fields mean."""

    parse_request = DavRequest.__mro__[1].parse_request

    def _take_fields(self) -> bool:
        return True


def _heads(stack: ExitStack) -> Callable[[bytes], object]:
    """What is taken apart at once means the same when it is read line by line, or one server would see two requests."""
    server = _Server(None)

    def attempt(data: bytes) -> None:
        head, _, _ = data.partition(b"\r\n\r\n")
        quick = parse_plain(head + b"\r\n\r\n")
        if quick is None:
            raise DavfsError
        ours, other = socket.socketpair()
        with ours, _PairEnd(fileno=other.detach()) as theirs:
            ours.sendall(head + b"\r\n\r\n")
            ours.shutdown(socket.SHUT_WR)
            theirs.settimeout(5)
            slow = _LineByLine(server, DavConnection(server, theirs))
            slow.parse_request()
            server.open.clear()
        found = (slow.method, slow.uri, slow.path, slow.qs, slow.inheaders) if slow.ready else None
        if found != tuple(quick):
            raise Failed("read line by line it is another request, or none")

    return attempt


def make_head(random: Random) -> bytes:
    """The head of a request that might be answered."""
    return make_request(random).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


PARSERS = (Parser("http-head", _heads, make_head, (DavfsError,), TOKENS, share=0.3, intact=0.3),
    Parser("tus-requests", _begin, make_tus, (DavfsError,), (*TOKENS, *(name.encode() + b": " for name in TUS)), intact=0.7,
        share=0.3),
    Parser("http-request", _begin, make_request, (DavfsError,), (*TOKENS, *bodies.XML_TOKENS[:5]), limit=1 << 20,
    intact=0.5, share=0.3),)
