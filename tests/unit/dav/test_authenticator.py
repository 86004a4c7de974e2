"""Basic and Bearer: who gets in, what is remembered and for how long, who is slowed down."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from davfs.core import accounts, passwords
from davfs.core.accounts import NONE, Accounts
from davfs.core.chunking import digest_of
from davfs.core.errors import InvalidInput
from davfs.core.passwords import hash_password
from davfs.dav import authenticator
from davfs.dav.authenticator import EVERYBODY, REMEMBERED_S, Authenticator, Identity, Unauthorized
from davfs.dav.throttle import FREE_FAILURES, LONGEST_WAIT_S, TooManyFailures

SALT = b"0123456789abcdef"
HASH = hash_password("p\u00e4ssword:x", SALT)
APP = accounts.app_password("0a1b", "f00d")


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


GOOD = basic("ann", "p\u00e4ssword:x")


class Raft:
    """The table of accounts, as Raft would change it."""

    def __init__(self) -> None:
        self.table: Accounts = accounts.add({}, "ann", HASH, NONE, {})

    def change(self, what: str, *arguments: object) -> None:
        self.table = accounts.CHANGES[what](self.table, *arguments)


@pytest.fixture
def raft() -> Raft:
    return Raft()


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def door(raft: Raft, now: list[float]) -> Authenticator:
    return Authenticator({}, lambda: raft.table, anonymous=False, clock=lambda: now[0])


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were really verified."""
    seen: list[str] = []

    def verify(password: str, stored: str) -> bool:
        seen.append(password)
        return passwords.verify_password(password, stored)

    monkeypatch.setattr(authenticator, "verify_password", verify)
    return seen


def test_without_users_everybody_gets_in():
    assert Authenticator().identify(None) == EVERYBODY
    assert Authenticator({}).identify("Basic rubbish") == EVERYBODY


def test_an_open_door_still_knows_those_who_say_who_they_are(raft):
    door = Authenticator({}, lambda: raft.table, anonymous=True)
    assert door.identify(None) == EVERYBODY
    assert door.identify(GOOD) == Identity("ann", False)
    with pytest.raises(Unauthorized):
        door.identify(basic("ann", "wrong"))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic ???",
        "Bearer",
        "Bearer secret",
        f"Bearer {APP}",
        "Digest x",
        basic("ann", "wrong"),
        basic("nobody", "p\u00e4ssword:x"),
        basic("", ""),
        basic("ann", APP),
        "Basic " + base64.b64encode(b"ann").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)
def test_refused(door, header):
    with pytest.raises(Unauthorized):
        door.identify(header)


def test_configured_users_are_told_from_accounts(raft):
    other = hash_password("other", SALT)
    door = Authenticator({"root": other, "ann": other}, lambda: raft.table)
    assert door.identify(basic("root", "other")) == Identity("root", True)
    assert door.identify(basic("ann", "other")) == Identity("ann", True)
    with pytest.raises(Unauthorized):
        door.identify(GOOD)  # the configuration's ann hides the account


def test_a_verified_password_is_remembered_for_a_while(door, now, verified):
    for _ in range(50):
        assert door.identify(GOOD) == Identity("ann", False)
    assert len(verified) == 1
    with pytest.raises(Unauthorized):
        door.identify(basic("ann", "p\u00e4ssword:y"))
    now[0] += REMEMBERED_S + 1
    assert door.identify(GOOD) == Identity("ann", False)
    assert len(verified) == 3


def test_what_is_remembered_ends_with_the_password(door, raft):
    assert door.identify(GOOD) == Identity("ann", False)
    raft.change("password", "ann", hash_password("new", SALT))
    with pytest.raises(Unauthorized):
        door.identify(GOOD)


def test_what_is_remembered_ends_with_the_account(door, raft):
    assert door.identify(GOOD) == Identity("ann", False)
    raft.change("delete", "ann")
    with pytest.raises(Unauthorized):
        door.identify(GOOD)
    raft.change("add", "ann", "", NONE, {})
    with pytest.raises(Unauthorized):
        door.identify(GOOD)
    with pytest.raises(Unauthorized):
        door.identify(basic("ann", ""))


def test_many_connections_with_one_password_cost_one_hash(door, verified):
    begin = threading.Barrier(8)

    def one(_: int) -> Identity:
        begin.wait(10)
        return door.identify(GOOD)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(8))) == {Identity("ann", False)}
    assert len(verified) == 1


def test_app_passwords_by_bearer_and_by_basic(door, raft):
    raft.change("app_add", "ann", "0a1b", digest_of(APP.encode()), "laptop", 0)
    raft.change("add", "bob", "", NONE, {})
    assert door.identify(f"Bearer {APP}") == Identity("ann", False)
    assert door.identify(f"bearer  {APP}") == Identity("ann", False)
    assert door.identify(basic("ann", APP)) == Identity("ann", False)
    with pytest.raises(Unauthorized):
        door.identify(basic("bob", APP))
    with pytest.raises(Unauthorized):
        door.identify(f"Bearer {APP}0")
    raft.change("app_revoke", "ann", "0a1b")
    with pytest.raises(Unauthorized):
        door.identify(f"Bearer {APP}")


def test_guessing_is_slowed_and_nobody_else_is(door, now, verified):
    for _ in range(FREE_FAILURES):
        with pytest.raises(Unauthorized):
            door.identify(basic("ann", "guess"), "192.0.2.1")
    with pytest.raises(TooManyFailures) as slowed:
        door.identify(GOOD, "192.0.2.1")
    assert slowed.value.data["retry_after"] >= 1
    assert len(verified) == FREE_FAILURES, "what comes too early is not looked at"
    assert door.identify(GOOD, "192.0.2.2") == Identity("ann", False), "another address is free"
    assert door.identify(GOOD, "192.0.2.1") == Identity("ann", False), "what was verified already is no guess"
    now[0] += REMEMBERED_S + 1
    assert door.identify(GOOD, "192.0.2.1") == Identity("ann", False), "nor when it has to be verified again"


def test_the_wait_grows_to_a_limit(door, now):
    waits = []
    for _ in range(FREE_FAILURES + 10):
        try:
            door.identify(basic("ann", "guess"), "192.0.2.1")
        except TooManyFailures as error:
            waits.append(error.data["retry_after"])
            now[0] += error.data["retry_after"]
        except Unauthorized:
            pass
    assert waits == sorted(waits)
    assert max(waits) <= LONGEST_WAIT_S + 1


def test_bearer_guesses_are_slowed_too(door):
    for _ in range(FREE_FAILURES):
        with pytest.raises(Unauthorized):
            door.identify("Bearer davfs_0a1b_beef", "192.0.2.1")
    with pytest.raises(TooManyFailures):
        door.identify("Bearer davfs_0a1b_beef", "192.0.2.1")


def test_a_hash_that_is_none_is_refused_at_the_start():
    with pytest.raises(InvalidInput):
        Authenticator({"ann": "plain"})
