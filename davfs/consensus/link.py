"""One node's link to one peer: what makes best-effort frames first-in-first-out and at-most-once.

Every message carries (session, number). A session is (boot of the sender, counter): fresh for each start of the process
and whenever something was lost, and larger each time. The receiver takes exactly the next number of the newest session; it
drops repeats and older sessions, and when a number is missing it ends the session with a RESET, upon which the sender
begins another. Raft recovers what was lost by its own retries, as it does after a broken TCP connection.

Messages flow only after the peer has welcomed the session, and name the boot that welcomed it, so that nothing sent to an
earlier life of a node reaches the next one. Pure: time comes in as an argument, frames go out as values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from davfs.consensus.wire import DATA, HELLO, RESET, WELCOME, Frame

RESET_INTERVAL = 0.05
"""Seconds between two RESETs for one session: late frames of it may come in numbers."""


@dataclass(slots=True)
class Arrival:
    """What a frame led to: a message's body, frames to send back, and whether messages of the peer were lost.

    ``former_life``: a greeting with a boot number below one that was seen: late, or the peer's disk was replaced.
    """

    body: bytes | None = None
    replies: list[Frame] = field(default_factory=list)
    lost: bool = False
    former_life: bool = False


class Link:
    """Sessions to and from one peer. ``boot``: this process's; times in seconds of any steady clock."""

    def __init__(self, boot: int, *, retry: float, ping: float, silence: float) -> None:
        self._boot = boot
        self._retry = retry
        self._ping = ping
        self._silence = silence
        # outgoing
        self.session = 1
        self._welcomed = False
        self._peer_boot = 0
        self._number = 0
        self._sent_at = float("-inf")
        # incoming
        self._incoming = (0, 0)
        self._expected = 0
        self._closed = True
        self._heard_at = float("-inf")
        self._reset_at = float("-inf")

    @property
    def connected(self) -> bool:
        """Whether messages can be sent: the current session is welcomed."""
        return self._welcomed

    def tick(self, now: float) -> list[Frame]:
        """What is due: a HELLO until welcomed, a sign of life when idle. A peer that is silent loses the session."""
        if self._welcomed and now - self._heard_at > self._silence:
            self.restart()
        if self._welcomed:
            return [self._next(b"", now)] if now - self._sent_at >= self._ping else []
        if now - self._sent_at < self._retry:
            return []
        self._sent_at = now
        return [self._hello()]

    def wrap(self, body: bytes, now: float) -> Frame | None:
        """The next message of the session, or None when there is none."""
        return self._next(body, now) if self._welcomed else None

    def restart(self) -> None:
        """Something was lost on the way out: the session ends here, another begins with the next tick."""
        self.session += 1
        self._welcomed = False
        self._number = 0

    def receive(self, frame: Frame, now: float) -> Arrival:
        """Take a frame that the peer sent."""
        self._heard_at = now
        if frame.kind == HELLO:
            return self._on_hello(frame, now)
        if frame.to_boot != self._boot:
            # Meant for an earlier life of this node: only a DATA frame's sender does not know better by itself.
            return self._refuse(frame, now) if frame.kind == DATA else Arrival()
        if frame.kind == DATA:
            return self._on_data(frame, now)
        if frame.session != self.session:
            return Arrival()
        if frame.kind == WELCOME and not self._welcomed:
            self._welcomed = True
            self._peer_boot = frame.boot
        elif frame.kind == RESET:
            self.restart()
            self._sent_at = now
            return Arrival(replies=[self._hello()])
        return Arrival()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _hello(self) -> Frame:
        return Frame(HELLO, self._boot, self.session, 0, 0)

    def _next(self, body: bytes, now: float) -> Frame:
        self._number += 1
        self._sent_at = now
        return Frame(DATA, self._boot, self.session, self._peer_boot, self._number, body)

    def _on_hello(self, frame: Frame, now: float) -> Arrival:
        theirs = (frame.boot, frame.session)
        if theirs < self._incoming:
            return Arrival(former_life=frame.boot < self._incoming[0])
        if theirs == self._incoming:
            if self._closed:
                return self._refuse(frame, now)
            return Arrival(replies=[self._answer(WELCOME, frame)] if self._expected == 1 else [])
        arrival = Arrival(replies=[self._answer(WELCOME, frame)], lost=True)
        if self._welcomed and frame.boot != self._peer_boot:
            # The peer has started anew: what goes on to its former life is lost.
            self.restart()
            self._sent_at = now
            arrival.replies.append(self._hello())
        self._incoming, self._expected, self._closed = theirs, 1, False
        return arrival

    def _on_data(self, frame: Frame, now: float) -> Arrival:
        theirs = (frame.boot, frame.session)
        if theirs < self._incoming or (theirs == self._incoming and not self._closed and frame.number < self._expected):
            return Arrival()
        if theirs == self._incoming and not self._closed and frame.number == self._expected:
            self._expected += 1
            return Arrival(body=frame.body or None)
        # A gap, or a session whose beginning never came: nothing of it is taken any more, not even a late HELLO.
        lost = not self._closed
        self._incoming, self._closed = theirs, True
        return self._refuse(frame, now, lost=lost)

    def _refuse(self, frame: Frame, now: float, *, lost: bool = False) -> Arrival:
        if now - self._reset_at < RESET_INTERVAL and not lost:
            return Arrival()
        self._reset_at = now
        return Arrival(replies=[self._answer(RESET, frame)], lost=lost)

    def _answer(self, kind: int, frame: Frame) -> Frame:
        return Frame(kind, self._boot, frame.session, frame.boot, 0)
