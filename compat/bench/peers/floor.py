"""What no server can beat here with this client: bare sockets that do the least a row can mean.

No WebDAV, names in a dict. GET answers from memory, a large file by sendfile(2) from the page cache.
A small PUT, MOVE or DELETE is the least of durable replication: 4 KiB go to a second process over
loopback TCP, both write and sync them (fdatasync on a file already laid out) at the same time, and
the answer leaves when both are done. The rows for which that is no floor are left empty. The
processes import this module again and call `serve` and `replicate`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

from compat.bench.report import Operation
from compat.bench.site import Running, Site, free_ports

_PROJECT = Path(__file__).resolve().parents[3]
_SMALL = 64 * 1024
_BLOCK = 4096
_BLOCKS = 1024
_NOTHING = b"Content-Length: 0\r\n\r\n"


def measures(row: Operation) -> bool:
    """Whether what is done here is the least that this row can mean."""
    kind = row.key.partition("-")[0]
    return kind in ("get", "again", "move", "delete") or (kind == "put" and row.size <= _SMALL)


def start(site: Site) -> Running:
    """The two processes; the requests go to the first."""
    data = site.place("floor-data")
    port = free_ports(2)
    _spawn(site, "floor-replica", f"replicate({str(data / 'replica.log')!r}, {port + 1})", port + 1)
    _spawn(site, "floor", f"serve({str(data)!r}, {port}, {port + 1})", port)
    return Running(f"http://127.0.0.1:{port}/", "two processes of bare sockets")


def _spawn(site: Site, name: str, call: str, port: int) -> None:
    code = f"import sys; sys.path.insert(0, {str(_PROJECT)!r}); import {__name__} as floor; floor.{call}"
    site.wait_for_port(name, site.spawn(name, [sys.executable, "-c", code]), port)


class Log:
    """A file laid out beforehand, written round and round, so that a sync is of 4 KiB of data alone."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.write(self._file, b"\1" * (_BLOCK * _BLOCKS))
        os.fsync(self._file)
        self._next = 0

    def write(self, block: bytes | bytearray) -> None:
        """Writes a block and returns when it is durable."""
        os.pwrite(self._file, block, self._next * _BLOCK)
        os.fdatasync(self._file)
        self._next = (self._next + 1) % _BLOCKS


def replicate(path: str, port: int) -> None:
    """Answers each 4 KiB with one byte when they are durable, until it is ended by a signal."""
    log = Log(Path(path))
    block = bytearray(_BLOCK)
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            peer, _ = listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with peer:
                while peer.recv_into(block, _BLOCK, socket.MSG_WAITALL) == _BLOCK:
                    log.write(block)
                    peer.sendall(b"\1")


def serve(folder: str, port: int, replica: int) -> None:
    """Serves one connection after the other until it is ended by a signal."""
    floor = Floor(Path(folder), replica)
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            client, _ = listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client, contextlib.suppress(ConnectionError):
                floor.converse(client)


class Floor:
    """The files by path, small ones in memory and large ones on the disk, and the two logs."""

    def __init__(self, folder: Path, replica: int) -> None:
        self._folder = folder
        self._log = Log(folder / "own.log")
        self._replica = socket.create_connection(("127.0.0.1", replica))
        self._replica.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._files: dict[str, bytes | int] = {}
        self._block = bytes(_BLOCK)

    def converse(self, client: socket.socket) -> None:
        """Answers the requests of one connection until the client closes it."""
        rest = b""
        while True:
            while (end := rest.find(b"\r\n\r\n")) < 0:
                piece = client.recv(_SMALL)
                if not piece:
                    return
                rest += piece
            first, *lines = rest[:end].decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            method, path, _ = first.split(" ")
            rest = self._answer(client, method, path, headers, rest[end + 4 :])

    def _answer(self, client: socket.socket, method: str, path: str, headers: dict[str, str], rest: bytes) -> bytes:
        """Answers one request of which `rest` was received after the head; what is left of `rest`."""
        size = int(headers.get("Content-Length", "0"))
        if method == "GET":
            self._send(client, path)
        elif size > _SMALL:
            self._files[path] = self._receive(client, rest, size)
            rest = rest[size:]
            client.sendall(b"HTTP/1.1 201 Created\r\n" + _NOTHING)
        else:
            while len(rest) < size:
                rest += client.recv(size - len(rest))
            client.sendall(self._change(method, path, headers, rest[:size]))
            rest = rest[size:]
        return rest

    def _change(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        if method == "PROPFIND":  # asked before each turn, never measured
            return b"HTTP/1.1 207 Multi-Status\r\nContent-Length: 21\r\n\r\n<response></response>"
        self._replica.sendall(self._block)
        self._log.write(self._block)
        self._replica.recv(1)
        if method == "DELETE":
            found = self._files.pop(path, b"")
            if isinstance(found, int):
                os.close(found)
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if method == "MOVE":
            self._files["/" + headers["Destination"].split("/", 3)[3]] = self._files.pop(path)
        else:
            self._files[path] = body
        return b"HTTP/1.1 201 Created\r\n" + _NOTHING

    def _receive(self, client: socket.socket, first: bytes, size: int) -> int:
        """Puts a large body into a file without a name; its descriptor."""
        file = os.open(self._folder, os.O_RDWR | os.O_TMPFILE, 0o600)
        left = size - os.write(file, first[:size])
        block = memoryview(bytearray(1 << 20))
        while left:
            count = client.recv_into(block, min(left, len(block)))
            if not count:
                raise ConnectionError("the client closed in the middle of a body")
            left -= os.write(file, block[:count])
        return file

    def _send(self, client: socket.socket, path: str) -> None:
        found = self._files[path]
        if isinstance(found, bytes):
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(found), found))
            return
        size = os.fstat(found).st_size
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sent = 0
        while sent < size:
            sent += os.sendfile(client.fileno(), found, sent, size - sent)
