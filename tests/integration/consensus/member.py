"""One Raft member as a process of its own, to be killed: ``python member.py NAME DIRECTORY SECONDS NAME=PORT...``.

Submits commands of its own without pause and prints ``ACK request BEGAN ENDED`` for each that was answered (by the monotonic
clock), ``COMPACTS`` and ``INSTALLS`` when it makes a snapshot or takes another's, ``LEADS TERM`` when it is elected. With
SECONDS it stops by itself and prints its ledger, once it has everything that was committed before, as one line ``LEDGER
request...``.
"""

from __future__ import annotations

import os
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from davfs.consensus.raft import RaftNode
from davfs.consensus.timing import RaftTiming
from davfs.core.errors import ConsensusUnavailable
from davfs.storage.raft_journal import RaftJournal
from tests.integration.consensus.cluster import Ledger

TIMING = RaftTiming(compact_entries=15, attempt=0.5)


class SocketNetwork:
    """Frames over plain TCP on loopback: only for tests, it believes whoever says a name."""

    def __init__(self, name: str, ports: dict[str, int]) -> None:
        self._name, self._ports = name, ports
        self._queues: dict[str, queue.Queue[bytes]] = {}
        self._up: set[str] = set()
        self._server = socket.create_server(("127.0.0.1", ports[name]))

    def set_peers(self, peers: Iterable[str]) -> None:
        for peer in peers:
            self._queues[peer] = queue.Queue(1000)
            threading.Thread(target=self._send_all, args=(peer,), daemon=True).start()

    def start(self, receive: Callable[[str, bytes], None]) -> None:
        threading.Thread(target=self._accept, args=(receive,), daemon=True).start()

    def send(self, peer: str, frame: bytes) -> bool:
        if peer not in self._up:
            return False
        try:
            self._queues[peer].put_nowait(frame)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        self._server.close()

    def _send_all(self, peer: str) -> None:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self._ports[peer]), timeout=2) as connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._frame(connection, self._name.encode())
                    self._up.add(peer)
                    while True:
                        self._frame(connection, self._queues[peer].get())
            except OSError:
                self._up.discard(peer)
                time.sleep(0.02)

    def _frame(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(struct.pack(">I", len(data)) + data)

    def _accept(self, receive: Callable[[str, bytes], None]) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection, receive), daemon=True).start()

    def _read(self, connection: socket.socket, receive: Callable[[str, bytes], None]) -> None:
        with connection, connection.makefile("rb") as stream:
            peer = ""
            while len(size := stream.read(4)) == 4:
                frame = stream.read(struct.unpack(">I", size)[0])
                if peer:
                    receive(peer, frame)
                peer = peer or frame.decode()


def say(*words: object) -> None:
    """A line at once, whole whatever other threads say."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Told(Ledger):
    """A ledger that says when it is dumped, and when it is replaced while its member runs."""

    started = False

    def dump(self) -> bytes:
        say("COMPACTS", len(self.values))
        return super().dump()

    def load(self, data: bytes) -> None:
        if self.started:
            say("INSTALLS", len(data))
        super().load(data)


def submit_for_ever(node: RaftNode, name: str, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        request = f"{name}.{os.getpid()}.{number}"
        number += 1
        began = time.monotonic()
        try:
            node.submit((request, number), 1.0)
        except ConsensusUnavailable:
            continue
        say("ACK", request, began, time.monotonic())


def main() -> None:
    name, directory, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    ports = {peer: int(port) for peer, port in (word.split("=") for word in sys.argv[4:])}
    ledger = Told()
    node = RaftNode(name, ports, RaftJournal(directory / name / "raft.db"), ledger, SocketNetwork(name, ports), TIMING)
    ledger.started = True
    node.on_leadership(lambda term, leads: say("LEADS", term) if leads else None)
    stop = threading.Event()
    workers = [
        threading.Thread(target=submit_for_ever, args=(node, f"{name}.{worker}", stop), daemon=True)
        for worker in range(2)
    ]
    if seconds:
        node.barrier(15)
        say("LEDGER", *ledger.values)
        time.sleep(seconds)  # the others may need this one for their own
        node.close()
        return
    for worker in workers:
        worker.start()
    threading.Event().wait(60)  # to be killed; never left behind for longer than this


if __name__ == "__main__":
    main()
