"""Slow clients, and too many of them, beside others (the measure on a real drive: ``python -m tests.fuzz.slow``)."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from davfs.dav import connection as connections
from davfs.dav import crowd
from davfs.dav.application import DavApplication
from davfs.dav.request import DavSettings
from davfs.dav.server import DavServer
from tests.fuzz.slow import SlowClients, fill, propfinds
from tests.support.dav_client import DavClient, RawConnection
from tests.support.memory_drive import MemoryDrive


@contextlib.contextmanager
def served(threads: int, limit: int | None = None) -> Iterator[DavServer]:
    server = DavServer("127.0.0.1", 0, DavApplication(MemoryDrive("demo"), DavSettings()), threads=threads,
        connections=limit)
    server.start()
    try:
        fill(server.port)
        yield server
    finally:
        server.stop(1)


def test_half_sent_heads_take_no_thread():
    with served(threads=4) as server, SlowClients(server.port, "head", 150, 0.1), SlowClients(server.port, "silent", 50):
        time.sleep(0.3)
        assert max(propfinds(server.port, 100)) < 1
        assert sum(thread.conn is not None for thread in server._http.requests._threads) <= 2
        assert len(server._http.open) >= 200


def test_half_sent_bodies_and_half_read_answers_take_a_thread_each_and_stop_nobody():
    with served(threads=200) as server, SlowClients(server.port, "body", 90, 0.2), SlowClients(server.port, "reader", 90,
        0.2):
        time.sleep(0.5)
        assert max(propfinds(server.port, 100)) < 1
        assert sum(thread.conn is not None for thread in server._http.requests._threads) >= 100  # which are there, and work
    assert not server._http.open


def test_threads_come_and_go(monkeypatch):
    monkeypatch.setattr(crowd, "IDLE_THREAD", 0.3)
    with served(threads=100) as server:
        with SlowClients(server.port, "body", 80):
            wait_for(lambda: len(server._http.requests._threads) >= 80)
        wait_for(lambda: len(server._http.requests._threads) == 32)
        assert max(propfinds(server.port, 3)) < 1


def test_the_slowest_are_cut_when_others_wait_for_a_thread(monkeypatch):
    monkeypatch.setattr(connections, "SLOW_AFTER", 0.5)
    with served(threads=8) as server, SlowClients(server.port, "body", 8, 0.1) as slow:
        wait_for(lambda: sum(thread.conn is not None for thread in server._http.requests._threads) == 8)
        began = time.monotonic()
        propfinds(server.port, 5)
        assert time.monotonic() - began < 4
        wait_for(lambda: slow.ended > 0)
        assert sum(thread.conn is not None for thread in server._http.requests._threads) >= 5  # no more than had to


def test_a_head_must_end(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_LIMIT", 0.3)
    with served(threads=4) as server:
        raw = RawConnection(server.port)
        raw.socket.sendall(b"GET /demo/ HTTP/1.1\r\n")
        assert raw.answer().status == 408
        assert raw.closed()
        raw.close()


def test_a_head_in_pieces_is_a_head():
    with served(threads=4) as server:
        raw = RawConnection(server.port)
        for _ in range(2):  # the second on the connection of the first
            for piece in (b"\r\nHEAD /demo/la", b"rge HTTP/1.1\r\nHo", b"st: x\r", b"\n", b"\r", b"\n"):
                raw.socket.sendall(piece)
                time.sleep(0.03)
            assert raw.answer(head=True).status == 200
        raw.close()


def test_more_connections_than_may_be():
    with served(threads=4, limit=20) as server:
        with SlowClients(server.port, "head", 20, 0.2):
            wait_for(lambda: len(server._http.open) >= 20)
            time.sleep(0.3)
            raw = RawConnection(server.port)
            assert raw.answer().status == 503  # nobody is idle
            raw.close()
        with SlowClients(server.port, "silent", 40):
            time.sleep(crowd.SPARE_IDLE + 0.2)
            assert len(server._http.open) <= 20
            propfinds(server.port, 3)  # one that had nothing to say made room


def test_no_more_files_can_be_opened():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with served(threads=4) as server:
        mine = [socket.socket() for _ in range(30)]
        used = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, hard))
            for sock in mine:
                sock.settimeout(2)
                sock.connect(("127.0.0.1", server.port))
            time.sleep(0.5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client = DavClient(server.port)
        assert client("OPTIONS", "/").status == 200
        client.close()
        for sock in mine:
            sock.close()


def wait_for(condition, limit: float = 5.0) -> None:
    ends = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\n\n", b"\r\n\r\n", b"x" * 70_000, b"GET /demo/ HTTP/1.1\r\nX: "
    + b"x" * 70_000])
def test_what_never_becomes_a_head_is_answered(sent):
    with served(threads=4) as server:
        raw = RawConnection(server.port)
        with contextlib.suppress(OSError):
            raw.socket.sendall(sent)
        assert raw.answer().status in (400, 413, 414)
        raw.close()
