"""The judge of streams of writes: what an acknowledgement promises and what an unknown outcome allows."""

from __future__ import annotations

from tests.support.writes import History


def test_only_the_acknowledged_content_is_allowed() -> None:
    history = History()
    assert history.allowed == {None}
    history.note("a", 201)
    assert history.allowed == {"a"}
    history.note("b", 204)
    assert history.allowed == {"b"}


def test_an_error_may_have_happened_or_not() -> None:
    history = History()
    history.note("a", 503)
    assert history.allowed == {None, "a"}
    history.note("b", 201)
    assert history.allowed == {"b"}, "an answered request is over: it cannot replace a later acknowledged one"


def test_without_an_answer_it_may_still_happen_later() -> None:
    history = History()
    history.note("a", None)
    history.note("b", 201)
    assert history.allowed == {"a", "b"}
