"""The table of failed logins: bounded, forgetful, and not to be outrun."""

from __future__ import annotations

import pytest

from davfs.dav import throttle
from davfs.dav.throttle import FORGOTTEN_AFTER_S, FREE_FAILURES, Throttle, TooManyFailures


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def table(now: list[float]) -> Throttle:
    return Throttle(lambda: now[0])


def fail(table: Throttle, address: str, name: str = "ann", times: int = FREE_FAILURES) -> None:
    for _ in range(times):
        table.attempt(address, name)


def test_success_forgets(table):
    fail(table, "192.0.2.1", times=FREE_FAILURES - 1)
    table.succeeded("192.0.2.1", "ann")
    fail(table, "192.0.2.1")
    with pytest.raises(TooManyFailures):
        table.attempt("192.0.2.1", "ann")


def test_time_forgets(table, now):
    fail(table, "192.0.2.1")
    now[0] = FORGOTTEN_AFTER_S + 1
    fail(table, "192.0.2.1")


def test_one_customers_ipv6_addresses_are_one(table):
    for i in range(FREE_FAILURES):
        table.attempt(f"2001:db8::{i}", "ann")
    with pytest.raises(TooManyFailures):
        table.attempt("2001:db8::ffff", "ann")
    table.attempt("2001:db8:0:1::1", "ann")
    table.attempt("no:address", "ann")


def test_the_table_is_bounded(table, monkeypatch):
    monkeypatch.setattr(throttle, "MAX_ENTRIES", 10)
    fail(table, "192.0.2.1")
    for i in range(50):
        table.attempt("192.0.2.2", f"name {i}")
    assert len(table._records) == 10
    table.attempt("192.0.2.1", "ann")  # long gone, so free again
