"""Password hashes: what is made, what is still understood, what is refused."""

from __future__ import annotations

import base64
import hashlib

import pytest

from davfs.core.errors import InvalidInput
from davfs.core.passwords import STAND_IN, check_hash, hash_password, verify_password

SALT = b"0123456789abcdef"


def test_argon2id_with_its_parameters_in_the_text():
    stored = hash_password("p\u00e4ss:word", SALT)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert verify_password("p\u00e4ss:word", stored)
    assert verify_password("pa\u0308ss:word", stored), "the same text, composed otherwise"
    assert not verify_password("pass:word", stored)


def test_the_stand_in_costs_the_same_and_is_nobodys():
    check_hash(STAND_IN)
    assert STAND_IN.rsplit("$", 2)[0] == hash_password("", SALT).rsplit("$", 2)[0]
    assert len(STAND_IN) == len(hash_password("", SALT))
    assert not verify_password("", STAND_IN)


def test_scrypt_hashes_of_older_files_still_count():
    digest = hashlib.scrypt(b"secret", salt=SALT, n=1024, r=8, p=1, dklen=32)
    stored = f"scrypt$1024$8$1${base64.b64encode(SALT).decode()}${base64.b64encode(digest).decode()}"
    assert verify_password("secret", stored)
    assert not verify_password("Secret", stored)


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "secret",
        "$argon2id$",
        "$argon2id$v=19$m=19456,t=2,p=1$",
        "$argon2d$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg",
        "$argon2id$v=19$m=131072,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg",
        "$argon2id$v=19$m=19456,t=17,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg",
        "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMw",
        "scrypt$1048576$8$8$YWFh$" + "A" * 44,
    ],
)
def test_what_is_no_bearable_hash_is_refused(stored):
    with pytest.raises(InvalidInput):
        check_hash(stored)
    with pytest.raises(InvalidInput):
        verify_password("secret", stored)
