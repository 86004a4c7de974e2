"""A network for nodes on loopback: every connection between two nodes passes here, and is held, or delayed, as told.

TCP carries the bytes, so nothing is lost: what cannot pass waits, as it does while packets are dropped. Who dials is told by
the owner of the other end of the connection.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.faults.weather import CALM

BLOCK = 1 << 20
LOOK_S = 0.05
Address = tuple[str, int]


class Proxy:
    """Listens at addresses, passes on to others. ``pids``: node -> its process now."""

    def __init__(self, pids: Callable[[], Mapping[int, int]]) -> None:
        self.weather = CALM
        self._pids = pids
        self._closed = False
        self._listeners: list[socket.socket] = []

    def listen(self, at: Address, to: Address, number: int) -> None:
        """Pass on what comes to ``at`` to ``to``, where node ``number`` listens."""
        listener = socket.create_server(at, backlog=256)
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, to, number), daemon=True).start()

    def close(self) -> None:
        """End; connections end with their nodes."""
        self._closed = True
        for listener in self._listeners:
            listener.close()

    def _accept(self, listener: socket.socket, to: Address, number: int) -> None:
        while not self._closed:
            try:
                client, (_, port) = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client, port, to, number), daemon=True).start()

    def _connect(self, client: socket.socket, port: int, to: Address, number: int) -> None:
        dialled_by = self._owner(port)
        self._wait(dialled_by, number)
        self._wait(number, dialled_by)
        try:
            server = socket.create_connection(to, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target, a, b in ((client, server, dialled_by, number), (server, client, number, dialled_by)):
            threading.Thread(target=self._pump, args=(source, target, a, b), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, a: int, b: int) -> None:
        try:
            while data := source.recv(BLOCK):
                if (delay := max(self.weather.delay.get(a, 0.0), self.weather.delay.get(b, 0.0))) > 0:
                    time.sleep(delay)
                self._wait(a, b)
                target.sendall(data)
        except OSError:
            pass
        self._wait(a, b)  # the end of a connection does not pass either
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _wait(self, a: int, b: int) -> None:
        while (a, b) in self.weather.deaf and not self._closed:
            time.sleep(LOOK_S)

    def _owner(self, port: int) -> int:
        """The node that owns the loopback connection from a port; 0 for anybody else, whom nothing hinders."""
        wanted = f":{port:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(wanted):
                link = f"socket:[{fields[9]}]"
                return next((number for number, pid in self._pids().items() if _has(pid, link)), 0)
        return 0


def _has(pid: int, link: str) -> bool:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with suppress(OSError):
                    if os.readlink(entry.path) == link:
                        return True
    except OSError:
        return False
    return False
