"""Raft's frames come twice and late, over a pair of links: not in the simulator, and pure."""

from __future__ import annotations

import random

import pytest

from davfs.consensus.link import Arrival, Link
from davfs.consensus.wire import Frame


def repeated_frames_taken(patch: pytest.MonkeyPatch) -> None:
    """Raft messages are delivered as often as their frames come."""
    original = Link._on_data

    def on_data(self: Link, frame: Frame, now: float) -> Arrival:
        known = (frame.boot, frame.session) == self._incoming and not self._closed and frame.number < self._expected
        return Arrival(body=frame.body or None) if known else original(self, frame, now)

    patch.setattr(Link, "_on_data", on_data)


def frames_delivered_twice(seed: int) -> list[str]:
    """100 messages from one link to another, of which some frames come again."""
    choice, now, got = random.Random(seed), 100.0, []
    sender, receiver = (Link(1, retry=0.2, ping=0.25, silence=1.0) for _ in range(2))
    for hello in sender.tick(now):
        for welcome in receiver.receive(hello, now).replies:
            sender.receive(welcome, now)
    came: list[Frame] = []
    for number in range(100):
        frame = sender.wrap(b"%d" % number, now)
        assert frame is not None
        came.append(frame)
        for one in [frame, *([choice.choice(came)] if choice.random() < 0.1 else [])]:
            body = receiver.receive(one, now).body
            got += [] if body is None else [body]
    twice = sorted({body for body in got if got.count(body) > 1})
    return [f"Raft: messages were delivered twice: {twice[:3]}"] if twice else []
