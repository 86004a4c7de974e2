"""The table of one volume's sessions: begin, end by idleness, requests under way, closing, bounds."""

from __future__ import annotations

import pytest

from davfs.cluster import sessions
from davfs.cluster.sessions import Sessions, Visit
from davfs.core.sessions import SessionKey

IDLE = 10.0


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wall_ns(self) -> int:
        raise AssertionError("wall clocks decide nothing")


def key(name: str) -> SessionKey:
    return SessionKey(name, "10.0.0.1", "Client/1.0")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> Sessions:
    return Sessions(clock, IDLE)


def begun(table: Sessions, name: str, through: str = "node-1") -> Visit:
    visit = table.begin(key(name), through)
    assert visit is not None
    return visit


def names(table: Sessions) -> list[str]:
    return [one.key.principal for one in table.live()]


def test_a_session_ends_when_it_is_quiet(table: Sessions, clock: Clock) -> None:
    begun(table, "ann").end()
    clock.time += IDLE - 1
    begun(table, "ben").end()
    begun(table, "ann", "node-2").end()
    shown = [(one.key.principal, one.requests, one.through) for one in table.live()]
    assert shown == [("ann", 2, "node-2"), ("ben", 1, "node-1")]
    clock.time += IDLE - 1
    assert names(table) == ["ann", "ben"]
    assert table.remaining(key("ann")) == 1
    clock.time += 1
    assert names(table) == []
    assert table.remaining(key("ann")) == 0
    visit = begun(table, "ann")
    assert visit.session.requests == 1, "a new session"


def test_a_request_under_way_keeps_it(table: Sessions, clock: Clock) -> None:
    visit = begun(table, "ann")
    other = begun(table, "ann")
    clock.time += 100 * IDLE
    assert names(table) == ["ann"]
    visit.end()
    visit.end()
    clock.time += 100 * IDLE
    assert names(table) == ["ann"], "ending one request twice does not end the other"
    assert table.remaining(key("ann")) == IDLE
    other.end()
    assert names(table) == ["ann"], "its time begins at the end of the answer"
    clock.time += IDLE
    assert names(table) == []


def test_a_session_that_is_being_closed_takes_no_request(table: Sessions, clock: Clock) -> None:
    begun(table, "ann").end()
    assert table.close(key("ann"), "early") is None
    clock.time += IDLE
    assert table.close(key("ann"), "first") == "first"
    assert table.close(key("ann"), "second") == "first", "it is not known yet what came of the first"
    assert table.begin(key("ann"), "node-1") is None
    begun(table, "ben")
    table.closed(key("ann"), "second")
    assert table.begin(key("ann"), "node-1") is None
    table.closed(key("ann"), "first")
    begun(table, "ann")


def test_a_recalled_session_has_its_whole_time(table: Sessions, clock: Clock) -> None:
    table.recall(key("ann"))
    clock.time += IDLE - 1
    assert table.remaining(key("ann")) == 1
    assert table.close(key("ann"), "id") is None
    clock.time += 1
    assert table.close(key("ann"), "id") == "id"


def test_memory_is_bounded(table: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 4)
    busy = begun(table, "busy")
    for name in ("a", "b", "c", "d", "e"):
        clock.time += 0.1
        begun(table, name).end()
    assert names(table) == ["busy", "c", "d", "e"]
    busy.end()
