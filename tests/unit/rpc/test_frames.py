"""Frames: in order, at most once, over reconnects; a dead peer costs nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from davfs.rpc import frames as frames_module
from davfs.rpc.frames import HttpFrameNetwork


class Inbox:
    """What came in, and waiting for it."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._came = threading.Condition()

    def receive(self, peer: str, frame: bytes) -> None:
        with self._came:
            self.got.append((peer, frame))
            self._came.notify_all()

    def wait(self, enough: Callable[[], bool], limit: float = 5.0) -> bool:
        with self._came:
            return self._came.wait_for(enough, limit)

    def wait_for_count(self, count: int) -> bool:
        return self.wait(lambda: len(self.got) >= count)


def network(nodes, name: str, peers: list[str], inbox: Inbox, port: int = 0):
    net = HttpFrameNetwork(nodes.identity(name), nodes.resolve)
    net.start(inbox.receive)
    net.set_peers(peers)
    server = nodes.serve(name, {}, port=port, receive_frame=net.deliver)
    nodes.later(net.close)
    return net, server


def test_frames_arrive_whole_in_order_with_their_senders_name(nodes) -> None:
    inbox, other = Inbox(), Inbox()
    network(nodes, "b", ["a", "c"], inbox)
    a, _ = network(nodes, "a", ["b", "c"], other)
    c, _ = network(nodes, "c", ["a", "b"], other)
    sent = [b"", b"x"] + [bytes([n % 256]) * n for n in range(0, 3000, 7)] + [b"big" * 1_000_000, b"last"]
    for frame in sent:
        assert a.send("b", frame)
    for frame in (b"from c", b"again"):
        assert c.send("b", frame)
    assert inbox.wait(lambda: len(inbox.got) == len(sent) + 2)
    assert [frame for peer, frame in inbox.got if peer == "a"] == sent
    assert [frame for peer, frame in inbox.got if peer == "c"] == [b"from c", b"again"]


def test_both_directions_and_quickly(nodes) -> None:
    here, there = Inbox(), Inbox()
    b = HttpFrameNetwork(nodes.identity("b"), nodes.resolve)
    b.set_peers(["a"])

    def answer(peer: str, frame: bytes) -> None:
        there.receive(peer, frame)
        b.send(peer, frame)

    b.start(answer)
    nodes.serve("b", {}, receive_frame=b.deliver)
    nodes.later(b.close)
    a, _ = network(nodes, "a", ["b"], here)
    times = []
    for number in range(300):
        start = time.perf_counter()
        assert a.send("b", b"%d" % number)
        assert here.wait_for_count(number + 1)
        times.append(time.perf_counter() - start)
    assert [frame for _, frame in here.got] == [b"%d" % number for number in range(300)]
    assert sorted(times)[150] < 0.02


def test_after_a_reconnect_nothing_comes_twice_and_order_holds(nodes) -> None:
    inbox = Inbox()
    b, server = network(nodes, "b", ["a"], inbox)
    a, _ = network(nodes, "a", ["b"], Inbox())
    stop = threading.Event()
    accepted = []

    def chatter() -> None:
        number = 0
        while not stop.is_set():
            if a.send("b", number.to_bytes(4, "big")):
                accepted.append(number)
            number += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        port = server.port
        for _ in range(3):
            assert inbox.wait_for_count(len(inbox.got) + 50)
            server.stop()
            server = nodes.serve("b", {}, port=port, receive_frame=b.deliver)
        assert inbox.wait_for_count(len(inbox.got) + 50)
    finally:
        stop.set()
        thread.join()
    got = [int.from_bytes(frame, "big") for _, frame in inbox.got]
    assert got == sorted(set(got)), "a frame came twice or out of order"
    assert set(got) <= set(accepted)


def test_a_peer_that_closed_while_idle_loses_nothing(nodes) -> None:
    inbox = Inbox()
    b, server = network(nodes, "b", ["a"], inbox)
    a, _ = network(nodes, "a", ["b"], Inbox())
    assert a.send("b", b"one")
    assert inbox.wait(lambda: len(inbox.got) == 1)
    server.stop()
    nodes.serve("b", {}, port=server.port, receive_frame=b.deliver)
    assert a.send("b", b"two")
    assert inbox.wait(lambda: len(inbox.got) == 2)
    assert [frame for _, frame in inbox.got] == [b"one", b"two"]


def test_frames_for_a_dead_peer_are_dropped_not_kept(nodes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    nodes.addresses["b"] = ("127.0.0.1", port)
    a, _ = network(nodes, "a", ["b"], Inbox())
    assert a.send("b", b"lost")
    deadline = time.monotonic() + 2
    while a.send("b", b"lost too") and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not a.send("b", b"dropped at once")
    inbox = Inbox()
    network(nodes, "b", ["a"], inbox, port=port)
    deadline = time.monotonic() + 3
    while not a.send("b", b"new") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert inbox.wait(lambda: bool(inbox.got))
    assert {frame for _, frame in inbox.got} == {b"new"}


def test_sending_never_blocks_and_the_queue_is_bounded(nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "WRITE_LIMIT", 0.5)
    release = threading.Event()
    b = HttpFrameNetwork(nodes.identity("b"), nodes.resolve)
    b.set_peers(["a"])

    def stall(peer: str, frame: bytes) -> None:
        release.wait(10)

    b.start(stall)
    nodes.serve("b", {}, receive_frame=b.deliver)
    nodes.later(b.close)
    nodes.later(release.set)
    a, _ = network(nodes, "a", ["b"], Inbox())
    frame = bytes(1_000_000)
    slowest, results = 0.0, []
    for _ in range(120):
        start = time.perf_counter()
        results.append(a.send("b", frame))
        slowest = max(slowest, time.perf_counter() - start)
    assert not all(results), "120 MB were queued for a peer that reads nothing"
    assert slowest < 0.2


def test_strangers_and_removed_peers(nodes) -> None:
    inbox, at_the_door = Inbox(), Inbox()
    b = HttpFrameNetwork(nodes.identity("b"), nodes.resolve)
    b.set_peers(["a"])
    b.start(inbox.receive)

    def deliver(peer: str, frame: bytes) -> None:
        b.deliver(peer, frame)
        at_the_door.receive(peer, frame)

    nodes.serve("b", {}, receive_frame=deliver)
    nodes.later(b.close)
    a, _ = network(nodes, "a", ["b"], Inbox())
    c, _ = network(nodes, "c", ["b"], Inbox())
    assert c.send("b", b"stranger")
    assert at_the_door.wait_for_count(1)
    assert a.send("b", b"known")
    assert inbox.wait(lambda: len(inbox.got) == 1)
    assert not a.send("nobody", b"")
    a.set_peers([])
    assert not a.send("b", b"gone")
    b.set_peers(["a", "c"])
    assert c.send("b", b"welcome")
    assert inbox.wait(lambda: len(inbox.got) == 2)
    assert [frame for _, frame in inbox.got] == [b"known", b"welcome"]


def test_an_idle_network_uses_no_time(nodes) -> None:
    inbox = Inbox()
    network(nodes, "b", ["a"], inbox)
    a, _ = network(nodes, "a", ["b"], Inbox())
    a.send("b", b"x")
    assert inbox.wait(lambda: len(inbox.got) == 1)
    time.sleep(0.2)  # busy connections linger for a moment
    start = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - start < 0.02
