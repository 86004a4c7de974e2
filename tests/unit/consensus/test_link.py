"""Sessions: whatever the network does, messages arrive at most once and in order, or their session ends."""

from __future__ import annotations

import random
from collections import deque

import pytest

from davfs.consensus.link import Link
from davfs.consensus.wire import DATA, HELLO, RESET, WELCOME, Frame


def link(boot: int = 1) -> Link:
    return Link(boot, retry=0.2, ping=0.25, silence=1.0)


class Pair:
    """Two links and what is on its way between them."""

    def __init__(self, boots: tuple[int, int] = (1, 1)) -> None:
        self.now = 100.0
        self.ends = [link(boots[0]), link(boots[1])]
        self.wires: list[deque[Frame]] = [deque(), deque()]  # to end 0, to end 1
        self.got: list[list[bytes]] = [[], []]

    def put(self, source: int, *frames: Frame | None) -> None:
        self.wires[1 - source].extend(frame for frame in frames if frame is not None)

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        for number, end in enumerate(self.ends):
            self.put(number, *end.tick(self.now))

    def take(self, target: int, frame: Frame | None) -> None:
        assert frame is not None
        arrival = self.ends[target].receive(frame, self.now)
        if arrival.body is not None:
            self.got[target].append(arrival.body)
        self.put(target, *arrival.replies)

    def drain(self) -> None:
        while any(self.wires):
            for target, wire in enumerate(self.wires):
                if wire:
                    self.take(target, wire.popleft())

    def connect(self) -> None:
        self.tick()
        self.drain()
        assert all(end.connected for end in self.ends)


def test_nothing_is_sent_before_the_peer_has_welcomed_the_session() -> None:
    pair = Pair()
    assert pair.ends[0].wrap(b"early", pair.now) is None
    pair.connect()
    pair.put(0, pair.ends[0].wrap(b"one", pair.now), pair.ends[0].wrap(b"two", pair.now))
    pair.drain()
    assert pair.got[1] == [b"one", b"two"]


def test_a_repeated_frame_counts_once() -> None:
    pair = Pair()
    pair.connect()
    frame = pair.ends[0].wrap(b"one", pair.now)
    pair.put(0, frame, frame)
    pair.put(0, pair.ends[0].wrap(b"two", pair.now), frame)
    pair.drain()
    assert pair.got[1] == [b"one", b"two"]
    assert pair.ends[0].connected


def test_a_gap_ends_the_session_and_another_follows() -> None:
    pair = Pair()
    pair.connect()
    before = pair.ends[0].session
    lost = pair.ends[0].wrap(b"lost", pair.now)
    assert lost is not None
    pair.put(0, pair.ends[0].wrap(b"after the gap", pair.now))
    pair.drain()
    assert pair.got[1] == []
    assert pair.ends[0].session > before
    assert pair.ends[0].connected
    pair.take(1, lost)  # late, of the old session
    assert pair.got[1] == []
    pair.put(0, pair.ends[0].wrap(b"new", pair.now))
    pair.drain()
    assert pair.got[1] == [b"new"]


def test_a_lost_hello_welcome_or_reset_is_made_up_for() -> None:
    pair = Pair()
    pair.tick()
    for wire in pair.wires:
        wire.clear()
    pair.tick(0.05)
    assert not any(pair.wires), "a greeting was repeated before its time"
    pair.tick(0.2)
    pair.take(1, pair.wires[1].popleft())
    pair.wires[0].clear()  # the WELCOME
    pair.tick(0.25)
    pair.drain()
    assert pair.ends[0].connected
    pair.ends[0].wrap(b"lost", pair.now)
    pair.take(1, pair.ends[0].wrap(b"gap", pair.now))
    assert [frame.kind for frame in pair.wires[0]] == [RESET]
    pair.wires[0].clear()
    pair.now += 0.1
    pair.take(1, pair.ends[0].wrap(b"still the old session", pair.now))
    pair.drain()
    assert pair.ends[0].connected
    assert pair.got[1] == []


def test_what_was_sent_to_a_former_life_does_not_reach_the_next() -> None:
    pair = Pair()
    pair.connect()
    old = [pair.ends[0].wrap(b"old", pair.now) for _ in range(3)]
    greeting = Frame(HELLO, 1, pair.ends[0].session, 0, 0)
    # Late frames of the old session, without and with its greeting in front.
    for late in (old, [greeting, *old]):
        pair.ends[1] = link(boot=2)
        for frame in late:
            pair.take(1, frame)
        assert pair.got[1] == []
    pair.tick(0.3)
    pair.drain()
    assert pair.got[1] == []
    pair.put(0, pair.ends[0].wrap(b"new", pair.now))
    pair.drain()
    assert pair.got[1] == [b"new"]


def test_silence_disconnects_and_signs_of_life_prevent_it() -> None:
    pair = Pair()
    pair.connect()
    session = pair.ends[0].session
    for _ in range(20):
        pair.tick(0.26)
        pair.drain()
    assert pair.ends[0].session == session
    for _ in range(6):
        pair.tick(0.26)
        for wire in pair.wires:
            wire.clear()
    assert not pair.ends[0].connected


def test_a_greeting_with_an_older_boot_is_refused_and_named() -> None:
    end = link()
    assert [frame.kind for frame in end.receive(Frame(HELLO, 5, 1, 0, 0), 0.0).replies] == [WELCOME]
    arrival = end.receive(Frame(HELLO, 4, 9, 0, 0), 0.0)
    assert (arrival.replies, arrival.former_life) == ([], True)


@pytest.mark.parametrize("seed", range(30))
def test_any_faults_deliver_a_prefix_of_each_session_once(seed: int) -> None:
    choice = random.Random(seed)
    pair = Pair()
    sent: dict[tuple[int, int], list[bytes]] = {}  # (boot, session) -> bodies
    history: list[tuple[int, Frame]] = []
    boot = 1
    for step in range(1500):
        action = choice.random()
        if action < 0.45:
            body = b"%d" % step
            frame = pair.ends[0].wrap(body, pair.now)
            if frame is not None:
                sent.setdefault((frame.boot, frame.session), []).append(body)
                pair.put(0, frame)
        elif action < 0.6:
            pair.tick(choice.random() * 0.3)
        elif action < 0.605:
            boot += 1
            pair.ends[0] = link(boot)
        else:
            for target, wire in enumerate(pair.wires):
                for _ in range(min(len(wire), 4)):
                    frame = wire.popleft()
                    fault = choice.random()
                    if fault < 0.03:
                        continue
                    if fault < 0.06:
                        wire.append(frame)
                        continue
                    history.append((target, frame))
                    pair.take(target, frame)
                if history and choice.random() < 0.1:
                    pair.take(*choice.choice(history))
    got = pair.got[1]
    assert got, "nothing came through at all"
    assert len(set(got)) == len(got), "a message came twice"
    assert got == sorted(got, key=int), "messages came out of order"
    for bodies in sent.values():
        arrived = [body for body in bodies if body in set(got)]
        assert arrived == bodies[: len(arrived)], "a session went on after a gap"
    # And it heals.
    for wire in pair.wires:
        wire.clear()
    for _ in range(4):
        pair.tick(0.3)
        pair.drain()
    pair.put(0, pair.ends[0].wrap(b"99999", pair.now))
    pair.drain()
    assert pair.got[1][-1] == b"99999"


def test_data_frames_are_numbered_from_one() -> None:
    pair = Pair()
    pair.connect()
    frame = pair.ends[0].wrap(b"x", pair.now)
    assert frame is not None
    assert (frame.kind, frame.number) == (DATA, 1)
