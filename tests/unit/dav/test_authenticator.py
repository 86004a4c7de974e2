"""Basic authentication: who gets in, and what is remembered."""

from __future__ import annotations

import base64
import time

import pytest

from davfs.core.errors import InvalidInput
from davfs.core.passwords import hash_password
from davfs.dav.authenticator import REMEMBERED_S, Authenticator, Unauthorized

SALT = b"0123456789abcdef"


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_without_users_everybody_gets_in():
    assert Authenticator().principal(None) == ""
    assert Authenticator({}).principal("Basic rubbish") == ""


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic ???",
        "Digest x",
        basic("ann", "wrong"),
        basic("nobody", "pässword"),
        basic("", ""),
        "Basic " + base64.b64encode(b"ann").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)
def test_refused(header):
    with pytest.raises(Unauthorized):
        Authenticator({"ann": hash_password("pässword", SALT)}).principal(header)


def test_a_verified_password_is_remembered_for_a_while():
    now = [0.0]
    users = Authenticator({"ann": hash_password("pässword:x", SALT)}, lambda: now[0])
    header = basic("ann", "pässword:x")
    assert users.principal(header) == "ann"
    started = time.perf_counter()
    for _ in range(50):
        assert users.principal(header) == "ann"
    assert time.perf_counter() - started < 0.05
    with pytest.raises(Unauthorized):
        users.principal(basic("ann", "pässword:y"))
    now[0] = REMEMBERED_S + 1
    assert users.principal(header) == "ann"


def test_a_hash_that_is_none_is_refused_at_the_start():
    with pytest.raises(InvalidInput):
        Authenticator({"ann": "plain"})
