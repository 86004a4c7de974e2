"""The sessions of one volume, as its holder sees them: a table, without waiting. May import core only.

A session begins with a client's first request and ends when none came and none was under way for a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Lock

from davfs.core.ports import Clock
from davfs.core.sessions import SessionKey

MAX_SESSIONS = 4096
"""Sessions that are remembered at once; beyond, the one that was quiet for longest is forgotten."""


@dataclass(slots=True)
class Session:
    """One client's use of a volume. Times are seconds of the site's clock; ``through``: the node that it asks."""

    key: SessionKey
    through: str
    began: float
    last: float
    requests: int = 0
    under_way: int = 0


@dataclass(slots=True)
class Visit:
    """One request of a session, until ``end`` (which may be called twice)."""

    sessions: Sessions
    session: Session
    ended: bool = field(default=False)

    def end(self) -> None:
        self.sessions.left(self)


class Sessions:
    """The table of one holder. Thread-safe; never waits."""

    def __init__(self, clock: Clock, idle_s: float) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._lock = Lock()
        self._sessions: dict[SessionKey, Session] = {}
        self._closing: dict[SessionKey, str] = {}  # the request id of the command that ends each claim

    def begin(self, key: SessionKey, through: str) -> Visit | None:
        """A request begins; None while the session is being closed."""
        now = self._clock.now()
        with self._lock:
            if key in self._closing:
                return None
            session = self._sessions.get(key)
            if session is None or self._over(session, now):
                self._make_room(now)
                session = self._sessions[key] = Session(key, through, now, now)
            session.through = through
            session.last = now
            session.requests += 1
            session.under_way += 1
            return Visit(self, session)

    def left(self, visit: Visit) -> None:
        """A request is answered."""
        with self._lock:
            if not visit.ended:
                visit.ended = True
                visit.session.under_way -= 1
                visit.session.last = self._clock.now()

    def recall(self, key: SessionKey) -> None:
        """A session that the last holder knew: it has its whole time before it."""
        now = self._clock.now()
        with self._lock:
            self._sessions.setdefault(key, Session(key, "", now, now))

    def live(self) -> list[Session]:
        """The sessions that have not ended, the oldest first."""
        now = self._clock.now()
        with self._lock:
            self._sessions = {key: one for key, one in self._sessions.items() if not self._over(one, now)}
            return sorted(self._sessions.values(), key=lambda one: one.began)

    def remaining(self, key: SessionKey) -> float:
        """Seconds until a session ends if nothing more comes from it; 0 when it is over."""
        now = self._clock.now()
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return 0.0
            return self._idle_s if session.under_way else max(0.0, session.last + self._idle_s - now)

    def close(self, key: SessionKey, request_id: str) -> str | None:
        """Let a session that is over take no more requests until ``closed``; None if it is not over.

        The request id under which to end its claim: the first one, until it is known what came of that.
        """
        now = self._clock.now()
        with self._lock:
            session = self._sessions.get(key)
            if session is not None and not self._over(session, now):
                return None
            return self._closing.setdefault(key, request_id)

    def closed(self, key: SessionKey, request_id: str) -> None:
        """The claim is known to have ended."""
        with self._lock:
            if self._closing.get(key) == request_id:
                del self._closing[key]

    def _over(self, session: Session, now: float) -> bool:
        return not session.under_way and now - session.last >= self._idle_s

    def _make_room(self, now: float) -> None:
        if len(self._sessions) < MAX_SESSIONS:
            return
        self._sessions = {key: one for key, one in self._sessions.items() if not self._over(one, now)}
        quiet: Iterable[Session] = (one for one in self._sessions.values() if not one.under_way)
        longest = min(quiet, key=lambda one: one.last, default=None)
        if longest is not None and len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[longest.key]
